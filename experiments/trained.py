"""After training: load a finished run, look at its front, take a policy and act with it.

``morl.load(folder)`` gives a `TrainedRun`. Its policies are numbered as the points of its front
are, in the report, on boards and here. "Best for these weights" has one meaning everywhere: the
largest weighted sum of the mean discounted returns on the report episodes, the ones that no choice
was made by.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from morl import storage
from morl.checkpoint import load_checkpoint, save_checkpoint
from morl.envs.vector import mask_of
from morl.experiments.config import RunConfig
from morl.experiments.evaluate import final_solutions
from morl.experiments.leaderboard.videos import showcase
from morl.experiments.run import CHECKPOINTS, run
from morl.experiments.text_table import text_table
from morl.preferences import check_preferences
from morl.result import RunResult
from morl.types import (
    Front,
    MorlError,
    Objective,
    Policy,
    PolicyState,
    StatefulPolicy,
    Task,
    Vector,
    is_stateful,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Which: TypeAlias = "int | str | ArrayLike"
"""A policy by its number, ``"knee"``, or weights of the objectives."""

MOST_ROWS = 12
"""Policies that a `repr` lists."""

CONTINUED = "continued_from.json"


class LoadError(MorlError):
    """A run that cannot be used, or a request that does not fit it."""


def load(path: str | Path) -> TrainedRun:
    """Load a finished run.

    Args:
        path: the run's folder, or its ``result.json``.

    Raises:
        LoadError: the run failed.
        StorageError: there is no result; the run is not finished.
        ResultError: a file was altered or damaged.
    """
    folder = Path(path).expanduser()
    folder = folder if folder.is_dir() else folder.parent
    result = RunResult.load(folder)
    if result.status != "completed":
        raise LoadError(
            f"{folder}: this run has the status {result.status!r}; only a completed run has "
            "policies to load"
        )
    return TrainedRun(folder, result)


class TrainedRun:
    """A finished run: its front, and the policies behind it.

    Attributes:
        folder: where it lies.
        result: everything that was recorded.
    """

    def __init__(self, folder: Path, result: RunResult) -> None:
        self.folder = folder
        self.result = result

    @property
    def front(self) -> Front:
        """Mean discounted report returns, (policy, objective)."""
        return self.result.returns

    @property
    def episodes(self) -> NDArray[np.float64]:
        """Discounted returns of the report episodes, (policy, episode, objective)."""
        return self.result.arrays.report_discounted

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives."""
        return self.result.protocol.objectives

    @cached_property
    def units(self) -> tuple[str, ...]:
        """Units of the objectives."""
        described: dict[str, Objective] = {each.name: each for each in self.task.spec.objectives}
        return tuple(described[name].unit for name in self.objectives)

    @property
    def metrics(self) -> dict[str, float]:
        """Indicators by name."""
        return {name: metric.value for name, metric in self.result.metrics.items()}

    @cached_property
    def _final(self) -> tuple[Task, list[Policy | StatefulPolicy]]:
        task, solutions = final_solutions(self.result, self.folder)
        return task, [solutions[index].policy for index in self.result.arrays.chosen.tolist()]

    @property
    def task(self) -> Task:
        """The task that was learned."""
        return self._final[0]

    def __len__(self) -> int:
        """Number of policies on the front."""
        return len(self.front)

    def index(self, which: Which) -> int:
        """Number of a policy.

        Args:
            which: a number (negative ones count from the end), ``"knee"`` (nearest to the best
                of all objectives, each scaled to the front's range), or weights on the simplex,
                for the policy with the largest weighted sum of mean report returns.

        Raises:
            LoadError: the number is out of range, or the word is unknown.
            PreferenceError: weights of a wrong length, negative, or that do not sum to 1.
        """
        if not len(self):
            raise LoadError(f"{self.folder}: the front of this run is empty; no policy to load")
        if isinstance(which, str):
            return self._named(which)
        if isinstance(which, int | np.integer):
            if not -len(self) <= which < len(self):
                raise LoadError(
                    f"{self.folder}: policies have the numbers 0 to {len(self) - 1}, got {which}"
                )
            return int(which) % len(self)
        weights = check_preferences(
            np.asarray(which, np.float64)[None], num_objectives=len(self.objectives)
        )[0]
        return int((self.front @ weights).argmax())

    def _named(self, word: str) -> int:
        if word != "knee":
            raise LoadError(f"{self.folder}: the only policy with a name is 'knee', got {word!r}")
        roles = showcase(self.front.tolist())
        return next(index for index, role in roles.items() if role.knee)

    def policy(self, which: Which = "knee") -> TrainedPolicy:
        """A policy that acts; see `index` for how to name it.

        Raises:
            LoadError: there is no such policy, or the run's last checkpoint is missing.
            PreferenceError: weights that are none.
        """
        index = self.index(which)
        return TrainedPolicy(self, index, self._final[1][index])

    def predict(
        self,
        observation: ArrayLike,
        which: Which = "knee",
        **arguments: Any,  # noqa: ANN401 - passed on
    ) -> tuple[NDArray[Any], PolicyState | None]:
        """Act with a policy; see `TrainedPolicy.predict`."""
        return self.policy(which).predict(observation, **arguments)

    def rows(self) -> list[dict[str, Any]]:
        """The front as rows: number of the policy, mean return and standard error by objective."""
        errors = self.episodes.std(axis=1, ddof=1) / np.sqrt(max(1, self.episodes.shape[1]))
        return [
            {
                "policy": index,
                **dict(zip(self.objectives, point, strict=True)),
                **{f"{name}_error": e for name, e in zip(self.objectives, error, strict=True)},
            }
            for index, (point, error) in enumerate(
                zip(self.front.tolist(), errors.tolist(), strict=True)
            )
        ]

    def to_pandas(self) -> Any:  # noqa: ANN401 - pandas is optional
        """The front as a DataFrame, a row per policy; needs pandas.

        Raises:
            LoadError: pandas is not installed.
        """
        try:
            import pandas as pd  # type: ignore[import-untyped,unused-ignore]
        except ImportError as error:
            raise LoadError("to_pandas() needs pandas: pip install pandas") from error
        return pd.DataFrame(self.rows()).set_index("policy")

    def plot(self) -> Figure:
        """The front as a matplotlib figure, with the known front where there is one."""
        from morl.experiments.comparison import compare, find_results
        from morl.experiments.figures import front_paper

        loaded, _ = find_results([self.folder])
        figure, _ = front_paper(compare(loaded)[0])
        return figure

    def rollout(
        self, env: gymnasium.Env[Any, Any] | None = None, which: Which = "knee", *, seed: int = 0
    ) -> Vector:
        """Play one episode; see `TrainedPolicy.rollout`."""
        return self.policy(which).rollout(env, seed=seed)

    def continue_training(self, steps: int, *, folder: str | Path | None = None) -> TrainedRun:
        """Go on training from the end of this run, in a folder of its own.

        The agent keeps all that it has learned and goes on with a larger budget. Schedules that
        depend on the budget see the new one, so the result is not that of a run which had it from
        the start; the new folder says where it comes from.

        Args:
            steps: more environment steps.
            folder: of the new run; by default beside this one.

        Raises:
            LoadError: steps are not positive, or the folder is taken.
        """
        if int(steps) != steps or steps < 1:
            raise LoadError(f"steps must be a positive integer, got {steps}")
        total = self.result.budget.env_steps + int(steps)
        record = {**self.result.config, "steps": total}
        config = RunConfig.from_record(record)
        target = self.folder.with_name(f"{self.folder.name}-to-{total}")
        target = Path(folder).expanduser() if folder is not None else target
        if (target / CHECKPOINTS).exists():
            raise LoadError(f"{target} holds a run already; name another folder")
        self._plant(target, config)
        return TrainedRun(target, run(config, folder=target))

    def _plant(self, target: Path, config: RunConfig) -> None:
        """Copy the last checkpoint, as one of the new configuration."""
        from morl.experiments.fingerprint import code_version, fingerprint
        from morl.experiments.run import CODE

        checkpoint = load_checkpoint(self.folder / CHECKPOINTS, config_hash=None)
        storage.make_folder(target)
        source = {"run": str(self.folder), "run_id": self.result.run_id, "step": checkpoint.step}
        storage.write_json(target / CONTINUED, source)
        storage.write_json(target / CODE, fingerprint())
        save_checkpoint(
            target / CHECKPOINTS, checkpoint.state, step=checkpoint.step,
            config_hash=config.digest(code_version()),
        )  # fmt: skip

    def table(self, form: str = "text") -> str:
        """The front as a table.

        Args:
            form: "text", "csv", "markdown" or "latex".

        Raises:
            LoadError: an unknown form.
        """
        return table_of(self.rows(), form=form)

    def __repr__(self) -> str:
        """A short description and the first policies."""
        result = self.result
        value = self.metrics.get("hypervolume")
        head = (
            f"{result.algo.name} on {result.env.id}, seed {result.seed}, "
            f"{result.budget.env_steps:,} steps: {len(self)} "
            + ("policy" if len(self) == 1 else "policies")
            + ("" if value is None else f", hypervolume {value:.6g}")
        )
        shown = self.rows()[:MOST_ROWS]
        lines = [head, table_of(shown, form="text")] if shown else [head]
        if len(self) > MOST_ROWS:
            lines.append(f"... and {len(self) - MOST_ROWS} more")
        return "\n".join([*lines, str(self.folder)])

    def _repr_html_(self) -> str:
        """The same as a table for notebooks."""
        head, *_ = repr(self).splitlines()
        names = ["policy", *self.objectives]
        cells = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{_short(row[name])}</td>" for name in names) + "</tr>"
            for row in self.rows()[:MOST_ROWS]
        )
        more = len(self) - MOST_ROWS
        tail = f"<p>... and {more} more</p>" if more > 0 else ""
        return f"<p>{escape(head)}</p><table><tr>{cells}</tr>{body}</table>{tail}"


@dataclass(frozen=True, eq=False)
class TrainedPolicy:
    """One policy of a run.

    Attributes:
        run: where it comes from.
        index: its number on the front.
        policy: what acts, on batches; see `morl.types.Policy`.
    """

    run: TrainedRun
    index: int
    policy: Policy | StatefulPolicy

    @property
    def expected_return(self) -> Vector:
        """Mean discounted return on the report episodes, (objective,)."""
        value: Vector = self.run.front[self.index]
        return value

    def predict(
        self,
        observation: Any,  # noqa: ANN401 - an element of any space
        state: PolicyState | None = None,
        episode_start: ArrayLike | None = None,
        deterministic: bool = True,
        *,
        rewards: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
        action_masks: ArrayLike | None = None,
    ) -> tuple[Any, PolicyState | None]:
        """Choose an action, or one per environment; Stable-Baselines3's signature.

        Args:
            observation: of one environment or a batch of them, raw as the environment gives it.
            state: memory that the call before returned; None at the first step. Policies without
                a memory neither need nor return one.
            episode_start: whether an episode begins here, (env,); the memory of such an
                environment begins again.
            deterministic: must be true unless the policy is stochastic.
            rewards: what the actions before earned, (env, objective), for policies whose memory
                counts rewards; zeros by default.
            rng: source of randomness of a stochastic policy; a fresh one by default.
            action_masks: where the environment masks, booleans (action,) or (env, action), True
                where an action is legal, as in ``infos["action_mask"]``.

        Returns:
            The action as the environment takes it, and the memory.

        Raises:
            LoadError: the observation does not fit the environment, or a deterministic policy is
                asked to be stochastic.
        """
        if not deterministic and self.policy.deterministic:
            raise LoadError(
                f"{self.run.folder}: policy {self.index} is deterministic; it cannot act with "
                "deterministic=False"
            )
        batch, single = self._batch(observation)
        policy, generator = self.policy, rng or np.random.default_rng()
        more: dict[str, Any] = {}
        if action_masks is not None:
            masks = np.asarray(action_masks, np.bool_)
            more["action_masks"] = masks.reshape(len(batch), -1)
        if is_stateful(policy):
            memory = self._memory(policy, state, episode_start, rewards, len(batch))
            actions, state = policy.act(batch, memory, rng=generator, **more)
        else:
            actions, state = cast(Policy, policy).act(batch, rng=generator, **more), None
        return (actions[0] if single else actions), state

    def _memory(
        self,
        policy: StatefulPolicy,
        state: PolicyState | None,
        episode_start: ArrayLike | None,
        rewards: ArrayLike | None,
        count: int,
    ) -> PolicyState:
        if state is None:
            return policy.begin(count)
        objectives = len(self.run.objectives)
        earned = np.zeros((count, objectives)) if rewards is None else np.asarray(rewards, float)
        ended = np.zeros(count, np.bool_) if episode_start is None else np.asarray(episode_start)
        return policy.observe(state, earned.reshape(count, objectives), ended.reshape(count))

    def _batch(self, observation: Any) -> tuple[NDArray[Any], bool]:  # noqa: ANN401
        """Observations (env, *observation), and whether it was one."""
        space = self._space
        array = self._flattened(observation, space)
        if array.shape == space.shape:
            return array[None], True
        if array.shape[1:] == space.shape:
            return array, False
        raise LoadError(
            f"{self.run.result.env.id}: observations have the shape {space.shape}, or "
            f"{('env', *space.shape)} in a batch, got {array.shape}"
        )

    @cached_property
    def _space(self) -> spaces.Box:
        batch = self.run.task.make_vec(1)
        try:
            space = batch.single_observation_space
        finally:
            batch.close()
        assert isinstance(space, spaces.Box)
        return space

    def _flattened(self, observation: Any, space: spaces.Box) -> NDArray[Any]:  # noqa: ANN401
        if isinstance(observation, dict | tuple):
            env = self._ordinary_env()
            observation = spaces.flatten(env.observation_space, observation)
            env.close()
        try:
            return np.asarray(observation, space.dtype)
        except (TypeError, ValueError) as error:
            raise LoadError(
                f"{self.run.result.env.id}: an observation must be numbers of the shape "
                f"{space.shape}, got {type(observation).__name__}"
            ) from error

    def _ordinary_env(self, **arguments: Any) -> gymnasium.Env[Any, Any]:  # noqa: ANN401
        """The environment for Gymnasium's ordinary interface, cut at the task's horizon."""
        spec = self.run.task.spec
        settings = {**self.run.task.kwargs, **arguments}
        env: gymnasium.Env[Any, Any]
        try:
            with warnings.catch_warnings():
                # Notices about bounds and modes that no caller can act on.
                warnings.simplefilter("ignore", UserWarning)
                env = gymnasium.make(spec.id, disable_env_checker=True, **settings)
        except (gymnasium.error.Error, TypeError) as error:
            raise LoadError(
                f"{spec.id}: cannot be made as an ordinary environment: {error}"
            ) from error
        return env

    def rollout(
        self, env: gymnasium.Env[Any, Any] | None = None, *, seed: int = 0,
        frames: list[Any] | None = None,
    ) -> Vector:  # fmt: skip
        """Play one episode in an ordinary environment with vector rewards.

        Args:
            env: MO-Gymnasium's or another of the same kind; made if None. One that is given stays
                open.
            seed: of the episode.
            frames: takes what ``env.render()`` shows at each step.

        Returns:
            Discounted return, (objective,).
        """
        own = env is None
        env = self._ordinary_env() if env is None else env
        spec = self.run.task.spec
        observation, info = env.reset(seed=seed)
        total, factor, state, steps = np.zeros(spec.num_objectives), 1.0, None, 0
        earned, rng = np.zeros(spec.num_objectives), np.random.default_rng(seed)
        over = False
        while not over:
            if frames is not None:
                frames.append(env.render())
            action, state = self.predict(
                observation, state, rewards=earned[None], rng=rng,
                deterministic=self.policy.deterministic,
                action_masks=mask_of(env, info) if spec.masks_actions else None,
            )  # fmt: skip
            if isinstance(env.action_space, spaces.Discrete):
                action = int(action)
            observation, reward, terminated, truncated, info = env.step(action)
            earned = np.asarray(reward, np.float64)
            total += factor * earned
            factor *= spec.discount
            steps += 1
            over = terminated or truncated or (spec.horizon is not None and steps >= spec.horizon)
        if frames is not None:
            frames.append(env.render())
        if own:
            env.close()
        return total

    def render(self, file: str | Path, *, seed: int = 0, frame_ms: int = 100) -> Path:
        """Write a video of one episode.

        Args:
            file: ending in ``.gif``, ``.webp`` or ``.mp4``; the last needs imageio with ffmpeg.
            seed: of the episode.
            frame_ms: milliseconds that a frame is shown.

        Raises:
            LoadError: the environment draws nothing, or the ending is unknown.
        """
        path = Path(file).expanduser()
        if path.suffix not in (".gif", ".webp", ".mp4"):
            raise LoadError(f"{path}: a video ends in .gif, .webp or .mp4")
        env = self._ordinary_env(render_mode="rgb_array")
        if "rgb_array" not in env.metadata.get("render_modes", []):
            env.close()
            raise LoadError(f"{self.run.task.spec.id}: this environment draws nothing")
        frames: list[Any] = []
        try:
            self.rollout(env, seed=seed, frames=frames)
        finally:
            env.close()
        pictures = [np.asarray(frame) for frame in frames if frame is not None]
        if not pictures:
            raise LoadError(f"{self.run.task.spec.id}: this environment draws nothing")
        storage.make_folder(path.parent)
        _write_video(path, pictures, frame_ms=frame_ms)
        return path


def _write_video(path: Path, pictures: Sequence[NDArray[Any]], *, frame_ms: int) -> None:
    if path.suffix == ".mp4":
        try:
            import imageio
        except ImportError as error:
            raise LoadError(
                f"{path}: mp4 needs imageio: pip install 'imageio[ffmpeg]'; .gif and .webp do not"
            ) from error
        imageio.mimwrite(path, list(pictures), fps=max(1, round(1000 / frame_ms)))
        return
    from PIL import Image

    images = [Image.fromarray(picture.astype(np.uint8)) for picture in pictures]
    images[0].save(path, save_all=True, append_images=images[1:], duration=frame_ms, loop=0)


def _short(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


FORMS = ("text", "csv", "markdown", "latex")


def table_of(rows: Sequence[dict[str, Any]], *, form: str) -> str:
    """Rows with the same keys as a table.

    Args:
        rows: at least one.
        form: "text", "csv", "markdown" or "latex".

    Raises:
        LoadError: an unknown form, or no rows.
    """
    if form not in FORMS:
        raise LoadError(f"a table is one of {', '.join(FORMS)}, got {form!r}")
    if not rows:
        raise LoadError("there is nothing to tabulate")
    names = list(rows[0])
    if form == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().rstrip("\n")
    cells = [names, *([_short(row[name]) for name in names] for row in rows)]
    if form == "text":
        return text_table([tuple(line) for line in cells])
    if form == "markdown":
        ruled = [cells[0], ["---"] * len(names), *cells[1:]]
        return "\n".join(f"| {' | '.join(_pipe(cell) for cell in line)} |" for line in ruled)
    lines = [" & ".join(_latex(cell) for cell in line) + r" \\" for line in cells]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}", r"\toprule", lines[0], r"\midrule",
            *lines[1:], r"\bottomrule", r"\end{tabular}",
        ]
    )  # fmt: skip


def _pipe(text: str) -> str:
    return text.replace("|", r"\|")


def _latex(text: str) -> str:
    special = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
               "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
               "\\": r"\textbackslash{}"}  # fmt: skip
    return "".join(special.get(letter, letter) for letter in text)


def runs_table(paths: Sequence[Path], *, form: str) -> str:
    """A table of runs: a row per run with its indicators.

    Args:
        paths: folders of runs, or folders of those.
        form: as for `table_of`.

    Raises:
        LoadError: no finished run lies there.
    """
    from morl.experiments.comparison import find_results

    loaded, _ = find_results(paths)
    rows = []
    for run_ in loaded:
        result = run_.result
        metrics = {name: metric.value for name, metric in result.metrics.items()}
        rows.append(
            {
                "env": result.env.id,
                "agent": result.algo.name,
                "seed": result.seed,
                "steps": result.budget.env_steps,
                "policies": result.front.num_unique,
                "hypervolume": metrics.get("hypervolume", float("nan")),
                "expected_utility": metrics.get("expected_utility", float("nan")),
                "cpu_s": result.budget.cpu_s,
            }
        )
    if not rows:
        where = ", ".join(str(path) for path in paths)
        raise LoadError(f"no finished run in {where}")
    return table_of(rows, form=form)
