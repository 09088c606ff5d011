"""One training of Stable-Baselines3: a scalarised batch, a model, and its state as plain arrays.

Stable-Baselines3 and torch are loaded when a run is made, not before: the registry imports this
module for every agent.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from morl.agents.learners.sb3.policies import Activation, ArrayPolicy, Head, PolicyShape
from morl.types import NonFiniteError, State, Task, Vector

if TYPE_CHECKING:
    import torch
    from stable_baselines3.common.vec_env import VecNormalize

ON_POLICY = ("ppo", "a2c")
OFF_POLICY = ("dqn", "sac", "td3")

SAVED_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")
"""Attributes of every model that are state; some algorithms have more."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """One training's settings, every default filled in.

    Attributes:
        algorithm: one of `ON_POLICY` and `OFF_POLICY`.
        num_envs: size of the batch.
        rollout_steps: steps in each environment between two updates.
        normalise: whether observations and rewards are normalised.
        hidden: units of the hidden layers.
        discount: of the returns that are maximised.
        final_learning_rate: share of the learning rate left at the end.
        learning_rate: at the beginning.
        model: keyword arguments of the algorithm's class beyond these.
        action_noise: standard deviation of the noise on actions ("td3"), in halves of their range.
    """

    algorithm: str
    num_envs: int
    rollout_steps: int
    normalise: bool
    hidden: tuple[int, ...]
    discount: float
    learning_rate: float
    final_learning_rate: float
    model: dict[str, Any]
    action_noise: float = 0.0

    @property
    def update_steps(self) -> int:
        """Environment steps between two updates."""
        return self.num_envs * self.rollout_steps


@contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """Let code that draws from global generators draw from ones of its own.

    Python's, NumPy's and torch's global generators are seeded inside and are outside what they
    were before.

    Args:
        seed: of all three, in [0, 2^32).
    """
    import torch

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - to put it back
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - Stable-Baselines3 draws from it
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002 - as above


class InnerRun:
    """One policy in training for one preference.

    Make it, and call its methods, within `own_random_numbers`; call `synchronise` before the first
    `update` and whenever episodes have to begin anew.

    Args:
        task: what to learn.
        settings: of the training.
        weights: of the rewards, (objective,).
        total_steps: share of the budget, by which schedules advance.
    """

    def __init__(
        self, task: Task, settings: RunSettings, *, weights: Vector, total_steps: int
    ) -> None:
        from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
        from stable_baselines3.common.callbacks import ConvertCallback
        from stable_baselines3.common.logger import Logger
        from stable_baselines3.common.utils import LinearSchedule
        from stable_baselines3.common.vec_env import VecEnv, VecNormalize

        from morl.scalarised import ScalarisedVecEnv

        self._task = task
        self._settings = settings
        self._total_steps = max(1, total_steps)
        self._batch = ScalarisedVecEnv(task, settings.num_envs, weights=weights, flatten=True)
        env: VecEnv = self._batch
        self._normaliser: VecNormalize | None = None
        if settings.normalise:
            # No clip of rewards: where they are rare, they are no outliers.
            env = self._normaliser = VecNormalize(
                env, gamma=settings.discount, clip_reward=float("inf")
            )
        classes: dict[str, Any] = {"ppo": PPO, "a2c": A2C, "dqn": DQN, "sac": SAC, "td3": TD3}
        rate = settings.learning_rate
        with warnings.catch_warnings():
            # Advice about the sizes of batches, which are the user's choice or ours.
            warnings.simplefilter("ignore", UserWarning)
            self._model: Any = classes[settings.algorithm](
                "MlpPolicy",
                env,
                learning_rate=LinearSchedule(rate, rate * settings.final_learning_rate, 1.0),
                gamma=settings.discount,
                policy_kwargs={"net_arch": list(settings.hidden)},
                device="cpu",
                **settings.model,
                **self._noise(),
            )
        self._model.set_logger(Logger(folder=None, output_formats=[]))
        self._callback = ConvertCallback(None)
        self._callback.init_callback(self._model)
        self.shape = self._policy_shape()

    def _noise(self) -> dict[str, Any]:
        from stable_baselines3.common.noise import NormalActionNoise

        if not self._settings.action_noise:
            return {}
        size = self._batch.action_space.shape or ()
        mean: NDArray[np.float64] = np.zeros(size)
        return {"action_noise": NormalActionNoise(mean, mean + self._settings.action_noise)}

    @property
    def longest_episode(self) -> int:
        """Steps of the longest episode that ended in training."""
        return self._batch.longest_episode

    @property
    def model(self) -> Any:  # noqa: ANN401 - one of five classes that share little
        """The model of Stable-Baselines3."""
        return self._model

    @property
    def normaliser(self) -> VecNormalize | None:
        """What normalises observations and rewards, if anything does."""
        return self._normaliser

    def close(self) -> None:
        """Free the environments."""
        self._batch.close()

    def synchronise(self, seeds: Sequence[int], *, action_seed: int) -> None:
        """Begin episodes anew.

        Args:
            seeds: one for each environment.
            action_seed: of random actions.
        """
        model = self._model
        self._batch.seed_each(seeds)
        model.action_space.seed(action_seed)
        model._last_obs = None  # makes the set-up reset the environments
        model._setup_learn(self._total_steps, reset_num_timesteps=False)
        model._total_timesteps = self._total_steps

    def update(self) -> dict[str, float]:
        """Collect `RunSettings.update_steps` steps and improve the policy.

        Returns:
            Readings, by the names that Stable-Baselines3 logs them under.
        """
        model = self._model
        model.logger.name_to_value.clear()
        if self._settings.algorithm in ON_POLICY:
            model.collect_rollouts(
                model.env, self._callback, model.rollout_buffer, n_rollout_steps=model.n_steps
            )
            model._update_current_progress_remaining(model.num_timesteps, self._total_steps)
            model.train()
        else:
            model.collect_rollouts(
                model.env,
                callback=self._callback,
                train_freq=model.train_freq,
                action_noise=model.action_noise,
                learning_starts=model.learning_starts,
                replay_buffer=model.replay_buffer,
                log_interval=None,
            )
            if model.num_timesteps > model.learning_starts:
                model.train(batch_size=model.batch_size, gradient_steps=model.gradient_steps)
        readings = {name: float(value) for name, value in model.logger.name_to_value.items()}
        return {name: value for name, value in readings.items() if np.isfinite(value)}

    # Policy

    def _layers(self) -> list[torch.nn.Linear]:
        """Linear layers from observation to output."""
        import torch

        policy, algorithm = self._model.policy, self._settings.algorithm
        towers = {
            "ppo": lambda: (policy.mlp_extractor.policy_net, policy.action_net),
            "a2c": lambda: (policy.mlp_extractor.policy_net, policy.action_net),
            "dqn": lambda: (policy.q_net.q_net,),
            "sac": lambda: (policy.actor.latent_pi, policy.actor.mu),
            "td3": lambda: (policy.actor.mu,),
        }[algorithm]()
        modules = [module for tower in towers for module in tower.modules()]
        return [module for module in modules if isinstance(module, torch.nn.Linear)]

    def _policy_shape(self) -> PolicyShape:
        layers = self._layers()
        space = self._batch.action_space
        activation: Activation = "tanh" if self._settings.algorithm in ON_POLICY else "relu"
        head: Head = "best"
        low = high = None
        if isinstance(space, spaces.Box):
            head = "clipped" if self._settings.algorithm in ON_POLICY else "squashed"
            low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        return PolicyShape(
            sizes=(layers[0].in_features, *(layer.out_features for layer in layers)),
            activation=activation,
            head=head,
            low=low,
            high=high,
            features_per_action=self._task.spec.features_per_action,
        )

    def policy(self) -> ArrayPolicy:
        """The present policy, as arrays of its own.

        Raises:
            NonFiniteError: if training has diverged.
        """
        parts: list[NDArray[np.float32]] = []
        for layer in self._layers():
            parts.append(layer.weight.detach().numpy().T.ravel())
            parts.append(layer.bias.detach().numpy())
        parameters = np.concatenate(parts)
        if not np.isfinite(parameters).all():
            raise NonFiniteError(
                f"{self._task.spec.id}: a parameter of sb3's {self._settings.algorithm} is not "
                f"finite after {self._model.num_timesteps} steps; lower agent.learning_rate"
            )
        size = self.shape.sizes[0]
        mean, scale = np.zeros(size), np.ones(size)
        if self._normaliser is not None:
            moments: Any = self._normaliser.obs_rms
            mean = np.array(moments.mean)
            scale = np.sqrt(moments.var + self._normaliser.epsilon)
        return ArrayPolicy(
            shape=self.shape,
            parameters=parameters,
            mean=mean,
            scale=scale,
            normalised=self._normaliser is not None,
        )

    # State

    def state_dict(self) -> State:
        """Parameters, optimisers, replay, normalisers and counters."""
        return {
            "parameters": {
                name: tensor.numpy().copy()
                for name, tensor in self._model.policy.state_dict().items()
            },
            "temperature": self._temperature(),
            "optimisers": [_optimiser_state(optimiser) for optimiser in self._optimisers()],
            "normaliser": self._normaliser_state(),
            "replay": self._replay_state(),
            "counters": {name: int(getattr(self._model, name)) for name in self._counters()},
            "exploration_rate": float(getattr(self._model, "exploration_rate", 0.0)),
            "progress_remaining": float(self._model._current_progress_remaining),
            "longest_episode": self._batch.longest_episode,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state; `synchronise` comes next."""
        import torch

        model = self._model
        model.policy.load_state_dict(
            {name: torch.from_numpy(np.array(array)) for name, array in state["parameters"].items()}
        )
        if state["temperature"] is not None:
            with torch.no_grad():
                model.log_ent_coef.copy_(torch.from_numpy(np.array(state["temperature"])))
        for optimiser, saved in zip(self._optimisers(), state["optimisers"], strict=True):
            _restore_optimiser(optimiser, saved)
        self._restore_normaliser(state["normaliser"])
        self._restore_replay(state["replay"])
        for name in self._counters():
            setattr(model, name, state["counters"][name])
        if self._settings.algorithm == "dqn":
            model.exploration_rate = state["exploration_rate"]
        model._current_progress_remaining = state["progress_remaining"]
        self._batch.longest_episode = state["longest_episode"]

    def _counters(self) -> tuple[str, ...]:
        return (*SAVED_COUNTERS, "_n_calls") if hasattr(self._model, "_n_calls") else SAVED_COUNTERS

    def _temperature(self) -> NDArray[Any] | None:
        temperature = getattr(self._model, "log_ent_coef", None)
        return None if temperature is None else temperature.detach().numpy().copy()

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        model = self._model
        if self._settings.algorithm in (*ON_POLICY, "dqn"):
            return [model.policy.optimizer]
        found = [model.actor.optimizer, model.critic.optimizer]
        temperature = getattr(model, "ent_coef_optimizer", None)
        return found if temperature is None else [*found, temperature]

    def _normaliser_state(self) -> State | None:
        if self._normaliser is None:
            return None
        observations: Any = self._normaliser.obs_rms
        return {
            name: {"mean": np.array(m.mean), "var": np.array(m.var), "count": float(m.count)}
            for name, m in (("observations", observations), ("returns", self._normaliser.ret_rms))
        }

    def _restore_normaliser(self, state: State | None) -> None:
        if self._normaliser is None or state is None:
            return
        observations: Any = self._normaliser.obs_rms
        for name, moments in (
            ("observations", observations),
            ("returns", self._normaliser.ret_rms),
        ):
            moments.mean = np.array(state[name]["mean"])
            moments.var = np.array(state[name]["var"])
            moments.count = state[name]["count"]

    def _replay_state(self) -> State | None:
        replay = getattr(self._model, "replay_buffer", None)
        if replay is None:
            return None
        written = replay.size()
        rows = {name: getattr(replay, name)[:written].copy() for name in _REPLAYED}
        return {**rows, "position": int(replay.pos), "full": bool(replay.full)}

    def _restore_replay(self, state: State | None) -> None:
        replay = getattr(self._model, "replay_buffer", None)
        if replay is None or state is None:
            return
        for name in _REPLAYED:
            getattr(replay, name)[: len(state[name])] = state[name]
        replay.pos, replay.full = state["position"], state["full"]


_REPLAYED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
"""Arrays of Stable-Baselines3's replay."""


def _optimiser_state(optimiser: torch.optim.Optimizer) -> list[State]:
    """Moments of each parameter, in order; empty before the first step."""
    return [
        {name: value.numpy().copy() for name, value in optimiser.state.get(tensor, {}).items()}
        for group in optimiser.param_groups
        for tensor in group["params"]
    ]


def _restore_optimiser(optimiser: torch.optim.Optimizer, state: Sequence[State]) -> None:
    import torch

    tensors = [tensor for group in optimiser.param_groups for tensor in group["params"]]
    for tensor, saved in zip(tensors, state, strict=True):
        if saved:
            optimiser.state[tensor] = {
                name: torch.from_numpy(np.array(array)) for name, array in saved.items()
            }
