"""MOGFN-AL: rounds of fitting a surrogate, training a sampler on it, and asking for the truth.

Jain et al., "Multi-Objective GFlowNets" (ICML 2023, arXiv:2210.12765), the variant for active
learning. Objective evaluations are few. A Gaussian process is fitted to all of them in each round;
a generative flow network samples objects in proportion to what they are expected to add to the
hypervolume; a batch of its objects is evaluated. See `docs/agents/mogfn_al.md` for what differs
from the paper and its released code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from morl.agents.learners.gflownet.agent import (
    NETWORKS,
    SamplerConfig,
    policy_network,
    require_choice,
)
from morl.agents.learners.gflownet.learner import FlowLearner, balance
from morl.agents.learners.gflownet.networks import Array, LogPartition
from morl.agents.learners.gflownet.sampler import Trajectories
from morl.agents.learners.search.objects import ObjectSearch, SearchConfig
from morl.agents.learners.search.surrogates import FEATURES, Botorch, Surrogate, features_of
from morl.capabilities import Capabilities
from morl.compositional import (
    Actions,
    CompositionalCore,
    States,
    drawn,
    first_legal,
    follow,
    walks_to,
)
from morl.registry import register_agent
from morl.search_space import COUNT, POSITIVE, Bounds, bounded, searchable
from morl.seeding import generator
from morl.types import Front, Metrics, State, Task, Vector

ATTEMPTS = 20
"""Times that random objects are drawn in search of new ones."""


@dataclass
class Config(SearchConfig):
    """Settings of MOGFN-AL, beside those of all searches.

    Attributes:
        batch: objects that are evaluated in a round.
        initial: least number of random objects before the first fit, whole rounds of them.
        features: what of an object the surrogate sees, see `surrogates.features_of`.
        samples: quasi-random samples of the acquisition.
        updates: of the sampler in a round.
        trajectories: of an update.
        varied: share of the trajectories that lead to variations of the best objects that are
            known; the others are the sampler's own.
        elite: number of these objects: the evaluated and sampled ones that are expected to add
            most, and the archive.
        exponent: of the acquisition, relative to the best that is known when training begins.
        reward_floor: least such ratio.
        candidates: objects that the trained sampler draws; the batch is chosen among them and the
            elite.
        network: "perceptron", "transformer", or "auto": the transformer where states are strings.
        hidden: units of the perceptron's hidden layers, also behind the transformer.
        width: features of the transformer.
        layers: its layers.
        heads: its heads of attention.
        learning_rate: Adam's rate of the policy.
        partition_learning_rate: Adam's rate of the partition function.
        max_gradient_norm: bound on the gradient of each, or None.
        exploration: weight of even choices of actions while sampling for training.
    """

    batch: int = 16
    initial: int = bounded(32, Bounds(low=2))
    features: str = "auto"
    samples: int = bounded(32, COUNT)
    updates: int = searchable(100, bounds=COUNT, low=20, high=1000, log=True)
    trajectories: int = bounded(64, COUNT)
    varied: float = searchable(0.5, bounds=Bounds(low=0, high=1, open_high=True), low=0.0, high=0.9)
    elite: int = bounded(64, COUNT)
    exponent: float = searchable(4.0, bounds=POSITIVE, low=0.5, high=32.0, log=True)
    reward_floor: float = 1e-4
    candidates: int = bounded(256, COUNT)
    network: str = "auto"
    hidden: tuple[int, ...] = (64, 64, 64)
    width: int = 64
    layers: int = 3
    heads: int = 8
    learning_rate: float = searchable(5e-3, low=1e-4, high=2e-2, log=True)
    partition_learning_rate: float = searchable(5e-2, low=1e-3, high=2e-1, log=True)
    max_gradient_norm: float | None = 10.0
    exploration: float = searchable(0.05, low=0.0, high=0.3)

    def __post_init__(self) -> None:
        """Refuse values without meaning.

        Raises:
            ValueError: names the field and its range.
        """
        super().__post_init__()
        require_choice("features", self.features, FEATURES)
        require_choice("network", self.network, NETWORKS)
        self.sampler()

    def sampler(self) -> SamplerConfig:
        """The part that says what the sampler is; checks it."""
        return SamplerConfig(
            batch=self.trajectories,
            network=self.network,
            hidden=tuple(self.hidden),
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            partition_hidden=(),
            learning_rate=self.learning_rate,
            partition_learning_rate=self.partition_learning_rate,
            max_gradient_norm=self.max_gradient_norm,
            exploration=self.exploration,
            reward_floor=self.reward_floor,
        )


def variations(
    core: CompositionalCore, objects: States, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Ways to objects that differ from given ones by one decision.

    One action on the way is drawn anew; the ones after it stay, as far as they are legal.

    Args:
        core: of the objects.
        objects: finished, (object, feature).
        rng: source of randomness.

    Returns:
        Actions, (object, time), -1 after the end.
    """
    ways = walks_to(core, objects, rng)
    places = np.floor(rng.random(len(objects)) * ways.lengths).astype(np.int64)

    def choose(states: States, rows: NDArray[np.intp], time: int) -> Actions:
        mask = core.mask(states)
        actions = drawn(mask, rng)
        kept = (places[rows] != time) & (ways.lengths[rows] > time)
        actions[kept] = ways.actions[rows[kept], time]
        return first_legal(mask, actions)

    return follow(core, len(objects), choose).actions


class _Outlook:
    """What objects are expected to add, in one round; each is asked for once.

    Args:
        core: of the objects.
        surrogate: fitted.
        known: objects that were evaluated, (object, feature).
        elite: number of the best that are remembered.
    """

    def __init__(
        self, core: CompositionalCore, surrogate: Surrogate, known: States, *, elite: int
    ) -> None:
        self._core = core
        self._surrogate = surrogate
        self._elite = elite
        self._found: dict[object, float] = {}
        self._objects: list[States] = []
        self._worth: list[float] = []
        self.look(known)

    @property
    def best(self) -> float:
        """Largest logarithm so far."""
        return max(self._worth)

    def look(self, objects: States) -> Vector:
        """Logarithms of expected improvements, (object,)."""
        keys = self._core.keys(objects)
        new = {key: index for index, key in enumerate(keys) if key not in self._found}
        if new:
            fresh = objects[list(new.values())]
            worth = self._surrogate.log_improvements(fresh)
            self._found.update(zip(new, worth.tolist(), strict=True))
            self._objects.extend(fresh)
            self._worth.extend(worth.tolist())
        return np.array([self._found[key] for key in keys])

    def elite(self) -> States:
        """The objects that are expected to add most, of all that were looked at."""
        order = np.argsort(-np.array(self._worth), kind="stable")[: self._elite]
        return np.stack([self._objects[index] for index in order])


@register_agent(
    "mogfn_al",
    config=Config,
    acts=Capabilities(
        actions=("discrete",), objects=True, smoke={"max_evaluations": 40, "network": "perceptron"}
    ),
)
class MOGFNAL(ObjectSearch):
    """Active learning with a sampler of objects.

    Args:
        task: builds objects.
        config: settings.
        total_steps: environment steps it may take: the actions that build evaluated objects.
        seed: root of its random streams.

    Raises:
        NotCompositionalError: the task builds no objects.
        MissingExtraError: botorch is not installed.
        BudgetError: the budget does not allow a single round.
    """

    name = "mogfn_al"

    def __init__(self, task: Task, config: Config, *, total_steps: int, seed: int) -> None:
        self._botorch = Botorch(self.name)
        super().__init__(task, config, total_steps=total_steps, seed=seed)
        self._config = config
        self._describe = features_of(self._core, config.features)
        self._objects: States = np.empty((0, self._core.state_width), np.int64)
        self._values: Front = np.empty((0, self._core.num_objectives))
        self._asked = self._objects
        self._readings: dict[str, float] = {}
        self._learner = self._make_learner()

    def _make_learner(self) -> FlowLearner:
        core, config = self._core, self._config.sampler()
        return FlowLearner(
            core,
            policy_network(
                core,
                config,
                code_width=0,
                num_outputs=core.num_actions,
                rng=generator(self._seed, f"{self.name}/policy"),
            ),
            LogPartition(code_width=0, hidden=(), rng=generator(self._seed, "unconditional")),
            learning_rate=config.learning_rate,
            partition_learning_rate=config.partition_learning_rate,
            weight_decay=config.weight_decay,
            max_gradient_norm=config.max_gradient_norm,
        )

    def learn(self, steps: int) -> Metrics:
        """Play rounds until `steps` more actions are taken; other readings are the last round's."""
        self._readings = {}
        return {**super().learn(steps), **self._readings}

    # A round

    def _propose(self, rng: np.random.Generator) -> States:
        if len(self._values) < self._config.initial:
            self._asked = self._new(self._random(rng), rng)
        else:
            self._asked = self._promising(rng)
        return self._asked

    def _receive(self, values: Front, rng: np.random.Generator) -> None:
        del rng
        self._objects = np.concatenate([self._objects, self._asked])
        self._values = np.concatenate([self._values, values])

    def _promising(self, rng: np.random.Generator) -> States:
        """Fit, train, and choose a batch."""
        config = self._config
        surrogate = Surrogate(
            self._botorch,
            self._describe,
            self._objects,
            self._values,
            self._task.spec.reference_point,
            samples=config.samples,
            seed=int(rng.integers(2**31)),
        )
        outlook = _Outlook(self._core, surrogate, self._objects, elite=config.elite)
        self._train(outlook, rng)
        codes = np.zeros((config.candidates, 0), np.float32)
        found = self._learner.sampler.sample(codes, rng=rng).objects
        self._readings["train/new_candidates"] = len(self._unknown(found)) / config.candidates
        pool = self._unknown(np.concatenate([found, outlook.elite()]))
        if not len(pool):
            return self._new(pool, rng)
        worth = outlook.look(pool)
        # Objects that add nothing alone add nothing together: the best of them are enough.
        likely = pool[np.argsort(-worth, kind="stable")[: 4 * config.batch]]
        chosen = likely[surrogate.choose(likely, config.batch)]
        drawn_now = set(self._core.keys(found))
        own = [key in drawn_now for key in self._core.keys(chosen)]
        self._readings["train/log_improvement"] = float(worth.max())
        self._readings["train/own_share"] = float(np.mean(own))
        return self._new(chosen, rng)

    def _train(self, outlook: _Outlook, rng: np.random.Generator) -> None:
        config = self._config
        loss = 0.0
        outlook.look(self._random(rng))
        best = outlook.best
        for _ in range(config.updates):
            found = self._trajectories(outlook, rng)
            ratios = outlook.look(found.objects) - best
            targets = config.exponent * np.maximum(ratios, np.log(config.reward_floor))
            readings = self._learner.improve(
                found, self._codes(len(found)), balance("tb", targets, decay=1.0)
            )
            loss += readings["train/loss"] / config.updates
        self._readings["train/loss"] = loss

    def _trajectories(self, outlook: _Outlook, rng: np.random.Generator) -> Trajectories:
        """The sampler's own and variations of the best, ready for an update."""
        config = self._config
        varied = round(config.varied * config.trajectories)
        own = self._learner.sampler.sample(
            self._codes(config.trajectories - varied), rng=rng, exploration=config.exploration
        )
        best = np.concatenate([outlook.elite(), *(member[None] for member in self._archive)])
        parents = best[rng.integers(len(best), size=varied)]
        actions = [own.padded(self._core.horizon), variations(self._core, parents, rng)]
        codes = self._codes(config.trajectories)
        return self._learner.sampler.retrace(codes, np.concatenate(actions))

    def _codes(self, count: int) -> Array:
        """Nothing: the sampler has no condition."""
        return np.zeros((count, 0), np.float32)

    def _random(self, rng: np.random.Generator) -> States:
        """A batch of objects with genomes drawn evenly: spread wider than random walks."""
        sizes = self._core.genome_sizes()
        return self._core.from_genomes(rng.integers(sizes, size=(self._config.batch, len(sizes))))

    def _unknown(self, objects: States) -> States:
        """Those that were not evaluated yet, each once, in their order."""
        known = set(self._core.keys(self._objects))
        first: dict[object, int] = {}
        for index, key in enumerate(self._core.keys(objects)):
            if key not in known:
                first.setdefault(key, index)
        return objects[list(first.values())]

    def _new(self, objects: States, rng: np.random.Generator) -> States:
        """A batch of these and random objects, new ones as long as chance finds any."""
        batch = self._config.batch
        for _ in range(ATTEMPTS):
            objects = self._unknown(objects)[:batch]
            if len(objects) == batch:
                return objects
            more = self._random(rng)
            objects = np.concatenate([objects, more])
        return np.concatenate([self._unknown(objects), more])[:batch]

    # State

    def state_dict(self) -> State:
        """As the base class, with all evaluations and the sampler; the surrogate follows."""
        return {
            **super().state_dict(),
            "evaluated": {"objects": self._objects.copy(), "values": self._values.copy()},
            "learner": self._learner.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        width, objectives = self._core.state_width, self._core.num_objectives
        evaluated = state["evaluated"]
        self._objects = np.array(evaluated["objects"], np.int64).reshape(-1, width)
        self._values = np.array(evaluated["values"], np.float64).reshape(-1, objectives)
        self._learner.load_state_dict(state["learner"])
