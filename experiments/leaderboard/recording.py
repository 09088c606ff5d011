"""Play stored policies in environments that draw themselves, and keep what is to be seen.

The policy plays the first report episode once more, in the ordinary Gymnasium environment made
with ``render_mode="rgb_array"``: compiled batches draw nothing. Of an episode at most `MOST_FRAMES`
frames are kept, evenly spread, the last one always. They become a WebP animation; equal frames
give equal bytes.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import os
import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from numpy.typing import NDArray
from PIL import Image

from morl import storage
from morl.envs import EnvArgumentError, SerialEnv
from morl.evaluation import Episodes, evaluation_seeds, rollout
from morl.experiments.evaluate import final_solutions
from morl.experiments.fingerprint import code_version
from morl.experiments.leaderboard.intake import Say
from morl.experiments.leaderboard.ledger import Board
from morl.experiments.leaderboard.rows import Row, read_rows
from morl.experiments.leaderboard.standings import primary_value
from morl.experiments.leaderboard.videos import MOST_BYTES, VIDEOS, file_names, showcase
from morl.experiments.run import CHECKPOINTS
from morl.result import RunResult
from morl.types import MorlError, Solution, Task

MOST_FRAMES = 60
SHORT_SIDE, LONG_SIDE = 240, 480
"""Most pixels of the two sides of a frame."""

SECONDS = 6.0
"""How long an animation of many frames takes."""

_FRAME_MS = (100, 500)  # shortest and longest time of a frame
_LAST_MS = 1500
_QUALITIES = (70, 45, 20)  # of WebP, tried until the animation is small enough
_OF_BATCHES = frozenset({"copy", "num_threads"})  # arguments that only batches have
_FRAME_NDIM, _COLOURS = 3, 3
_MODE = "rgb_array"

Frame = Image.Image
Environment = gymnasium.Env[Any, Any]


class NotRecordedError(MorlError):
    """An episode of which no video can be made here."""


@dataclass(frozen=True)
class Recording:
    """One episode, played and drawn.

    Attributes:
        episodes: its returns, as one solution and one seed.
        seed: of the episode.
        frames: what was to be seen, in order.
    """

    episodes: Episodes
    seed: int
    frames: Sequence[Frame]


def film(board: Board, run_ids: Iterable[str], *, say: Say = print) -> list[str]:
    """Make videos of one run of every row: of those given, the one with the median hypervolume.

    A row that has videos keeps them. Where none can be made, a line says why, once a task.

    Args:
        board: holds the runs with their policies.
        run_ids: the runs to choose from.
        say: takes a line for every row.

    Returns:
        Ids of the runs that got videos.

    Raises:
        StorageError: the board cannot be read or written.
    """
    given = frozenset(run_ids)
    filmed: list[str] = []
    blind: set[str] = set()
    for (task, entry), found in groupby(read_rows(board).shown, key=lambda r: (r.task, r.entry)):
        runs = list(found)
        chosen = _chosen(board, runs, given)
        if task in blind or not given.intersection(run.run_id for run in runs):
            continue
        if any(run.videos for run in runs):
            say(f"videos there already: {task}, {entry}")
        elif chosen is None:
            say(f"no videos: {task}, {entry}: no completed run with its policies on the board")
        else:
            try:
                count = _film_run(board, chosen)
            except MorlError as error:
                say(f"no videos: {task}: {str(error).removeprefix(f'{task}: ')}")
                if isinstance(error, NotRecordedError | EnvArgumentError):
                    blind.add(task)
            else:
                filmed.append(chosen.run_id)
                noun = "video" if count == 1 else "videos"
                say(f"{count} {noun}: {task}, {entry}, seed {chosen.seed}")
    return filmed


def _chosen(board: Board, runs: Sequence[Row], given: frozenset[str]) -> Row | None:
    """The given run with the median hypervolume, the lower of two in the middle."""
    able = [
        run
        for run in runs
        if run.completed and run.run_id in given and (_folder(board, run) / CHECKPOINTS).is_dir()
    ]
    ordered = sorted(able, key=primary_value)
    return ordered[(len(ordered) - 1) // 2] if ordered else None


def _folder(board: Board, run: Row) -> Path:
    return board.run_folder(run.run_id, run.result_sha256)


def _film_run(board: Board, run: Row) -> int:
    """Record a run's policies and write down what was recorded; returns the number of videos."""
    folder = _folder(board, run)
    result = RunResult.load(folder)
    task, solutions = final_solutions(result, folder)
    front = [solutions[index] for index in result.arrays.chosen.tolist()]
    said = [
        _keep(folder, policy, record_episode(task, front[policy]))
        for policy in showcase(run.points)
    ]
    board.append(
        VIDEOS,
        {
            "run_id": run.run_id, "result_sha256": run.result_sha256, VIDEOS: said,
            "by": f"morl-suite {code_version()}",
        },
    )  # fmt: skip
    return len(said)


def _keep(folder: Path, policy: int, recording: Recording) -> dict[str, Any]:
    """Write the two files of a video; returns what the ledger says of it."""
    moving, still = file_names(policy)
    storage.make_folder((folder / moving).parent)
    data = {moving: animation(recording.frames), still: picture(recording.frames[-1])}
    for name, content in data.items():
        storage.atomic_write(folder / name, content)
    episodes = recording.episodes
    return {
        "policy": policy,
        "seed": recording.seed,
        "steps": episodes.steps,
        "size": list(recording.frames[0].size),
        "discounted": episodes.discounted[0, 0].tolist(),
        "undiscounted": episodes.undiscounted[0, 0].tolist(),
        "moving": _fingerprint(data[moving]),
        "still": _fingerprint(data[still]),
    }


def _fingerprint(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


# An episode


def record_episode(task: Task, solution: Solution) -> Recording:
    """Play the first report episode of a task and keep frames of it.

    Args:
        task: what to play; ``task.spec.id`` is a single environment in Gymnasium's registry.
        solution: whose policy acts.

    Returns:
        At most `MOST_FRAMES` frames and the returns.

    Raises:
        NotRecordedError: the environment draws nothing, or cannot here.
    """
    name = task.spec.id
    _require_drawing(name)
    cameras: list[_Camera] = []
    drawn = replace(task, factory=partial(_drawing_batch, task, cameras))
    (seed,) = evaluation_seeds(task.spec, "report", 1)
    failure = ""
    with _undisturbed():
        try:
            episodes = rollout(drawn, [solution], seeds=[seed], rng_seed=1)
        except Exception as error:  # noqa: BLE001 - drivers and environments of others raise anything
            # Kept as text: the traceback holds on to half-made windows, which complain later.
            failure = str(error) if isinstance(error, MorlError) else _told(name, error)
    if failure:
        raise NotRecordedError(failure)
    return Recording(episodes, seed, tuple(cameras[0].frames))


def _require_drawing(name: str) -> None:
    registered = gymnasium.registry.get(name)
    if registered is None or registered.entry_point is None:
        raise NotRecordedError(f"{name} draws no pictures: it comes as a batch only")
    entry = registered.entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    modes = getattr(creator, "metadata", {}).get("render_modes")
    if modes is not None and _MODE not in modes:
        raise NotRecordedError(f"{name} draws no pictures: it has no render mode {_MODE}")


def _told(name: str, error: Exception) -> str:
    said = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{name}: cannot be drawn: {type(error).__name__}: {said}"


def _drawing_batch(task: Task, cameras: list[_Camera], num_envs: int) -> SerialEnv:
    """A batch of ordinary environments, each before a camera, which joins `cameras`."""
    name, horizon = task.spec.id, task.spec.horizon
    registered = gymnasium.spec(name)
    settings = {key: value for key, value in task.kwargs.items() if key not in _OF_BATCHES}

    def make() -> Environment:
        made = gymnasium.make(
            registered,
            max_episode_steps=-1,  # the batch counts steps
            disable_env_checker=True,  # it knows scalar rewards only
            render_mode=_MODE,
            **settings,
        )
        cameras.append(_Camera(made, name, horizon))
        return cameras[-1]

    return SerialEnv(num_envs, make, env_id=name, max_episode_steps=horizon)


class _Camera(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps evenly spread frames of the first episode; skips more as the episode grows."""

    def __init__(self, env: Environment, name: str, horizon: int | None) -> None:
        super().__init__(env)
        self.frames: list[Frame] = []
        self._name, self._horizon = name, horizon
        self._age, self._stride, self._ended = 0, 1, False

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:  # noqa: ANN401 - Gymnasium's
        """Reset the environment; the first time, take a picture."""
        answer = self.env.reset(**settings)
        if not self.frames:
            self._look()
        return answer

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:  # noqa: ANN401
        """Step the environment and take a picture where one is due."""
        answer = self.env.step(action)
        if not self._ended:
            self._age += 1
            self._ended = bool(answer[2] or answer[3] or self._age == self._horizon)
            if self._ended or self._age % self._stride == 0:
                self._look()
        return answer

    def _look(self) -> None:
        if len(self.frames) == MOST_FRAMES:
            self.frames = self.frames[::2]
            self._stride *= 2
            if self._age % self._stride and not self._ended:
                return
        try:
            seen = self.env.render()
        except Exception as error:  # noqa: BLE001 - see `record_episode`
            failure = _told(self._name, error)
        else:
            self.frames.append(shrunk(_checked(seen, self._name)))
            return
        raise NotRecordedError(f"{failure}; {_REMEDY}")


_REMEDY = (
    "a machine without a display may need a software renderer "
    "(for MuJoCo MUJOCO_GL=egl or MUJOCO_GL=osmesa)"
)


def _checked(seen: object, name: str) -> NDArray[np.uint8]:
    """What an environment drew, if it is a picture."""
    if (
        not isinstance(seen, np.ndarray)
        or seen.dtype != np.uint8
        or seen.ndim != _FRAME_NDIM
        or seen.shape[2] != _COLOURS
    ):
        raise NotRecordedError(f"{name} draws no pictures")
    return seen


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Nobody else's random numbers are touched, and nobody's notices are printed.

    MO-Gymnasium places minecart's mines and sprites by NumPy's global generator: it is set for
    the time of the episode, and set back.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame then asks for no display
    numbers, plain = np.random.get_state(), random.getstate()  # noqa: NPY002
    unraisable = sys.unraisablehook
    sys.unraisablehook = lambda _: None  # windows that were never opened cannot be closed
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        gc.collect()
        sys.unraisablehook = unraisable
        np.random.set_state(numbers)  # noqa: NPY002
        random.setstate(plain)


# Pictures


def shrunk(seen: NDArray[np.uint8]) -> Frame:
    """A frame that fits `SHORT_SIDE` and `LONG_SIDE`; never enlarged.

    Args:
        seen: shape (height, width, 3).
    """
    height, width = seen.shape[:2]
    short, long = sorted((height, width))
    scale = min(1.0, SHORT_SIDE / short, LONG_SIDE / long)
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    frame = Image.fromarray(np.ascontiguousarray(seen))
    return frame if size == frame.size else frame.resize(size, Image.Resampling.LANCZOS)


def animation(frames: Sequence[Frame]) -> bytes:
    """Frames as an animated WebP of at most `MOST_BYTES`: coarser, then with fewer frames."""
    while True:
        for quality in _QUALITIES:
            data = _webp(frames, quality=quality)
            if len(data) <= MOST_BYTES:
                return data
        if len(frames) == 1:
            raise NotRecordedError(f"one picture alone takes {len(data):,} bytes")
        frames = [*frames[:-1:2], frames[-1]] if len(frames) > 2 else frames[-1:]


def picture(frame: Frame) -> bytes:
    """A frame as a WebP picture of at most `MOST_BYTES`."""
    return animation([frame])


def _webp(frames: Sequence[Frame], *, quality: int) -> bytes:
    buffer = io.BytesIO()
    settings: Mapping[str, Any] = {"quality": quality, "method": 4}
    if len(frames) > 1:
        low, high = _FRAME_MS
        time = int(min(max(1000 * SECONDS / len(frames), low), high))
        settings = {
            **settings,
            "save_all": True,
            "append_images": frames[1:],
            "duration": [time] * (len(frames) - 1) + [_LAST_MS],
            "loop": 0,
            "allow_mixed": True,
        }
    frames[0].save(buffer, "WEBP", **settings)
    return buffer.getvalue()
