from __future__ import annotations

import io
import json
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boards
import browser
import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from morl.evaluation import evaluation_seeds
from morl.experiments import cli
from morl.experiments.leaderboard import recording, videos
from morl.experiments.leaderboard.ledger import Board, begin_board, sealed
from morl.experiments.leaderboard.recording import NotRecordedError, film, record_episode
from morl.experiments.leaderboard.rows import Row, read_rows
from morl.experiments.leaderboard.site import build_site
from morl.experiments.leaderboard.videos import Role, showcase
from morl.experiments.run import run
from morl.experiments.suites import parse_suite, suite_cells
from morl.result import RunResult
from morl.types import EnvSpec, Objective, Solution, Task

ID = "drawn-counter-v0"

SEA = """
version: 1
title: Sea <b>
seeds: 2
tasks:
  - id: deep-sea-treasure-v0
    name: the sea <i>
    discount: 0.99
    horizon: 40
    reference_point: [0, -50]
    steps: 16000
    selection_episodes: 2
    report_episodes: 3
    curve_episodes: 2
agents:
  random_search:
    settings: {policies: 64, episodes: 1}
"""


# Which policies


def test_the_best_of_each_objective_and_the_policy_nearest_to_the_ideal_are_shown() -> None:
    # Scaled to the front's range: (0, 1), (0.5, 0.75), (0.75, 0.25), (1, 0). Squared distances to
    # (1, 1): 1, 0.3125, 0.625, 1.
    front = [[0.0, 40.0], [5.0, 30.0], [7.5, 10.0], [10.0, 0.0]]
    assert showcase(front) == {
        0: Role((1,), knee=False),
        1: Role((), knee=True),
        3: Role((0,), knee=False),
    }


def test_extremes_that_coincide_are_one_policy() -> None:
    # Third objective: equal everywhere, so it has no say; its best is the policy of highest sum.
    front = [[0.0, 0.0, 7.0], [1.0, 2.0, 7.0], [0.9, 3.0, 7.0]]
    assert showcase(front) == {1: Role((0,), knee=False), 2: Role((1, 2), knee=True)}
    assert showcase([[3.0, 4.0]]) == {0: Role((0, 1), knee=True)}
    assert showcase([]) == {}


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 8), st.integers(1, 4)),
        elements=st.floats(-1e6, 1e6, allow_subnormal=False),
    )
)
def test_every_objective_has_its_best_and_every_front_one_knee(front: Any) -> None:
    roles = showcase(front.tolist())
    axes = sorted(axis for role in roles.values() for axis in role.best_in)
    assert axes == list(range(front.shape[1]))
    assert sum(role.knee for role in roles.values()) == 1
    for policy, role in roles.items():
        assert all(front[policy, axis] == front[:, axis].max() for axis in role.best_in)


# An episode


class Counter(gymnasium.Env[Any, Any]):
    """Pays (1, number of the step); its picture's colour is that number."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's way
    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.Discrete(2)
    reward_space = spaces.Box(0, np.inf, (2,), np.float64)

    def __init__(
        self,
        render_mode: str | None = None,
        length: int = 3,
        seen: Callable[..., Any] | None = None,
    ) -> None:
        self.render_mode, self.length, self.seen = render_mode, length, seen
        self.age = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.age = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> Any:
        self.age += 1
        reward = np.array([1.0, self.age])
        return np.zeros(1, np.float32), reward, self.age == self.length, False, {}

    def render(self) -> Any:
        if self.seen is not None:
            return self.seen()
        picture = np.zeros((4, 6, 3), np.uint8)
        picture[:] = (self.age % 256, self.age // 256, 9)
        return picture


class Still:
    """Does nothing, always."""

    deterministic = True

    def act(self, observations: Any, *, rng: np.random.Generator) -> Any:
        return np.zeros(len(observations), np.int64)


IDLE = Solution(Still())


@pytest.fixture
def registered() -> Iterator[None]:
    gymnasium.register(ID, entry_point=Counter)
    yield
    gymnasium.registry.pop(ID)


def counting(*, horizon: int | None = None, **kwargs: Any) -> Task:
    def no_batch(num_envs: int) -> Any:
        raise AssertionError("the single environment plays")

    spec = EnvSpec(
        id=ID,
        objectives=(Objective("steps"), Objective("sum")),
        reference_point=(0.0, 0.0),
        discount=0.5,
        horizon=horizon,
    )
    return Task(spec=spec, factory=no_batch, kwargs=kwargs)


def steps_seen(recorded: recording.Recording) -> list[int]:
    pixels = [np.asarray(frame)[0, 0].astype(int) for frame in recorded.frames]
    return [int(red + 256 * green) for red, green, _ in pixels]


@pytest.mark.usefixtures("registered")
def test_a_short_episode_is_seen_whole_with_its_returns() -> None:
    recorded = record_episode(counting(length=3), IDLE)
    assert steps_seen(recorded) == [0, 1, 2, 3]
    assert recorded.frames[0].size == (6, 4)
    # 1 + 1/2 + 1/4, and 1 + 2/2 + 3/4.
    assert recorded.episodes.discounted[0, 0].tolist() == [1.75, 2.75]
    assert recorded.episodes.undiscounted[0, 0].tolist() == [3.0, 6.0]
    assert recorded.seed == evaluation_seeds(counting().spec, "report", 1)[0]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("length", "horizon", "stride"),
    [(58, None, 1), (59, None, 1), (60, None, 2), (131, None, 4), (400, 300, 8)],
)
def test_a_long_episode_keeps_at_most_sixty_frames_evenly_and_its_end(
    length: int, horizon: int | None, stride: int
) -> None:
    last = min(length, horizon or length)
    seen = steps_seen(record_episode(counting(length=length, horizon=horizon), IDLE))
    assert seen == [*range(0, last, stride), last]
    assert 30 <= len(seen) <= recording.MOST_FRAMES


@pytest.mark.usefixtures("registered")
def test_what_only_batches_take_is_left_out() -> None:
    assert record_episode(counting(num_threads=2, copy=False), IDLE).episodes.steps == 3


def broken() -> None:
    raise RuntimeError("no display\nfar too many details")


class Window:
    def __del__(self) -> None:
        raise AttributeError("half-made")


def haunted() -> None:
    window = Window()
    raise RuntimeError(f"no {type(window).__name__}")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (lambda: None, f"{ID} draws no pictures"),
        (lambda: "text", f"{ID} draws no pictures"),
        (lambda: np.zeros((4, 6, 3)), f"{ID} draws no pictures"),
        (lambda: np.zeros((4, 6), np.uint8), f"{ID} draws no pictures"),
        (broken, f"{ID}: cannot be drawn: RuntimeError: no display; a machine without a display"),
        (haunted, f"{ID}: cannot be drawn: RuntimeError: no Window; .* MUJOCO_GL=egl"),
    ],
)
def test_an_environment_that_draws_nothing_says_so(
    seen: Callable[[], Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hook = sys.unraisablehook
    with pytest.raises(NotRecordedError, match=reason) as caught:
        record_episode(counting(seen=seen), IDLE)
    assert "details" not in str(caught.value)
    assert sys.unraisablehook is hook
    assert capsys.readouterr() == ("", "")


def test_an_environment_without_pictures_is_not_even_made() -> None:
    with pytest.raises(NotRecordedError, match="it comes as a batch only"):
        record_episode(counting(), IDLE)
    gymnasium.register(ID, entry_point=Undrawn)
    try:
        with pytest.raises(NotRecordedError, match="it has no render mode rgb_array"):
            record_episode(counting(), IDLE)
    finally:
        gymnasium.registry.pop(ID)


class Undrawn(Counter):
    metadata = {"render_modes": ["human"]}  # noqa: RUF012 - Gymnasium's way


def global_draw() -> Any:
    np.random.seed(5)  # noqa: NPY002
    random.random()
    return np.full((4, 6, 3), np.random.randint(256), np.uint8)  # noqa: NPY002


@pytest.mark.usefixtures("registered")
def test_the_global_random_numbers_are_as_before() -> None:
    before = np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]  # noqa: NPY002
    record_episode(counting(seen=global_draw), IDLE)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # type: ignore[index]  # noqa: NPY002


# Pictures


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (100, 200, (200, 100)),  # small ones stay
        (480, 480, (240, 240)),
        (400, 600, (360, 240)),
        (270, 1200, (480, 108)),  # the long side counts
        (2000, 1, (1, 480)),
    ],
)
def test_pictures_are_shrunk_and_never_enlarged(
    height: int, width: int, size: tuple[int, int]
) -> None:
    assert recording.shrunk(np.zeros((height, width, 3), np.uint8)).size == size


def noise(count: int, *, side: int = 40) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(count)]


def test_an_animation_has_all_frames_and_equal_frames_give_equal_bytes() -> None:
    frames = noise(5)
    data = recording.animation(frames)
    assert data == recording.animation(frames)
    assert data != recording.animation(frames[::-1])
    with Image.open(io.BytesIO(data)) as opened:
        assert (opened.format, opened.n_frames, opened.size) == ("WEBP", 5, (40, 40))


def test_an_animation_that_is_too_large_becomes_coarser_then_shorter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames = noise(9)
    fine, coarse = (len(recording._webp(frames, quality=quality)) for quality in (70, 20))
    assert coarse < fine
    monkeypatch.setattr(recording, "MOST_BYTES", coarse)
    assert len(recording.animation(frames)) == coarse
    monkeypatch.setattr(recording, "MOST_BYTES", coarse // 2)
    data = recording.animation(frames)
    assert len(data) <= coarse // 2
    with Image.open(io.BytesIO(data)) as opened:
        assert 1 <= opened.n_frames < 9
    monkeypatch.setattr(recording, "MOST_BYTES", 10)
    with pytest.raises(NotRecordedError, match="one picture alone takes"):
        recording.animation(frames)


# On a board


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real runs of random search on deep-sea treasure."""
    out = tmp_path_factory.mktemp("sea")
    for cell in suite_cells(parse_suite("sea", SEA), out=str(out)):
        run(cell.config, say=lambda _: None)
    return out


@pytest.fixture(scope="module")
def filmed(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Board:
    board = begin_board(tmp_path_factory.mktemp("board") / "board", parse_suite("sea", SEA))
    found = boards.added(board, runs, policies=True)
    heard: list[str] = []
    assert len(film(board, found.added, say=heard.append)) == 1
    assert " videos: the sea <i>, random_search, seed " in heard[0]
    return board


@pytest.fixture
def copy(filmed: Board, tmp_path: Path) -> Board:
    folder = shutil.copytree(filmed.folder, tmp_path / "board")
    return Board(folder, filmed.suite, filmed.tasks)


def shown(board: Board) -> Row:
    (row,) = [row for row in read_rows(board).shown if row.videos]
    return row


def folder_of(board: Board) -> Path:
    row = shown(board)
    return board.run_folder(row.run_id, row.result_sha256)


def test_the_median_run_of_a_row_is_filmed_in_the_episode_that_is_on_record(filmed: Board) -> None:
    row = shown(filmed)
    volumes = [row.metrics["hypervolume"][0] for row in read_rows(filmed).shown]
    assert row.metrics["hypervolume"][0] == min(volumes)  # of two the lower one is the median
    assert [video.policy for video in row.videos] == list(showcase(row.points))
    result = RunResult.load(folder_of(filmed))
    for video in row.videos:
        stored = result.arrays.report_discounted[video.policy, 0]
        assert list(video.discounted) == stored.tolist()
        assert video.steps == result.arrays.report_lengths[video.policy, 0]
        assert (video.width, video.height) == (249, 240)
        assert video.moving.size <= videos.MOST_BYTES
        with Image.open(folder_of(filmed) / video.moving.name) as opened:
            assert opened.n_frames <= video.steps + 1
            assert opened.size == (249, 240)


def test_a_row_is_filmed_once_and_again_to_the_same_bytes(copy: Board) -> None:
    run_ids = [row.run_id for row in read_rows(copy).shown]
    heard: list[str] = []
    assert film(copy, run_ids, say=heard.append) == []
    assert heard == ["videos there already: the sea <i>, random_search"]
    before = shown(copy)
    lines = copy.ledger_file.read_bytes().splitlines(keepends=True)
    copy.ledger_file.write_bytes(b"".join(lines[:-1]))
    shutil.rmtree(copy.run_folder(before.run_id, before.result_sha256) / "videos")
    assert film(copy, run_ids, say=heard.append) == [before.run_id]
    assert copy.ledger_file.read_bytes().splitlines(keepends=True) == lines
    assert film(copy, ["0" * 64], say=heard.append) == []


def test_a_page_shows_the_videos_and_says_of_which_policies(filmed: Board, tmp_path: Path) -> None:
    build_site(filmed, tmp_path / "site")
    build_site(filmed, tmp_path / "again")
    row = shown(filmed)
    text = (tmp_path / "site" / "runs" / f"{row.run_id[:16]}.html").read_text()
    assert text.count('<figure class="film">') == len(row.videos)
    assert "best in treasure" in text
    assert "best in time" in text
    assert "knee" in text
    assert "the sea &lt;i&gt; plays an episode of" in text
    assert "autoplay" not in text
    for video in row.videos:
        for picture in (video.moving, video.still):
            name = f"runs/{row.run_id[:16]}-{Path(picture.name).name}"
            data = (tmp_path / "site" / name).read_bytes()
            assert data == (tmp_path / "again" / name).read_bytes()
            assert data == (folder_of(filmed) / picture.name).read_bytes()
            assert f'src="{Path(name).name}"' in text
    tasks = list((tmp_path / "site").glob("task-*.html"))
    assert "completed, with videos" in tasks[0].read_text()


def reworded(board: Board, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the line of the videos so that its digest fits."""
    lines = board.ledger_file.read_bytes().splitlines()
    content = json.loads(lines[-1])
    assert content["kind"] == "videos"
    change(content)
    for name in ("digest", "kind", "schema"):
        content.pop(name)
    board.ledger_file.write_bytes(b"\n".join([*lines[:-1], sealed("videos", content)]) + b"\n")


def first(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["videos"][0]
    return found


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: first(c).update(policy=99), "a video of policy 99, the front has"),
        (lambda c: first(c).update(policy="../../x"), "not a whole number"),
        (lambda c: first(c).update(size=[10**6, 1]), "a video of 1000000 x 1 pixels"),
        (lambda c: first(c).update(discounted=[1.0]), "has not 2 coordinates"),
        (lambda c: first(c).pop("seed"), "KeyError('seed')"),
        (lambda c: first(c)["moving"].update(bytes=10**9), "bytes, at most 150,000"),
        (lambda c: first(c)["still"].update(sha256="0" * 64), "altered: its SHA-256 differs"),
        (lambda c: c["videos"].append(first(c)), "two videos of one policy"),
        (lambda c: c.update(videos=None), "not a whole record"),
    ],
)
def test_a_line_about_videos_that_does_not_hold_is_refused_and_its_run_shown(
    change: Callable[[dict[str, Any]], Any], reason: str, copy: Board
) -> None:
    count = len(read_rows(copy).shown)
    reworded(copy, change)
    rows = read_rows(copy)
    (refusal,) = rows.refused_videos
    assert refusal.reason.startswith("videos: ")
    assert reason in refusal.reason
    assert refusal in rows.refused
    assert len(rows.shown) == count
    assert not any(row.videos for row in rows.shown)


def swapped(folder: Path) -> None:
    one, two = sorted((folder / "videos").glob("*-still.webp"))[:2]
    one.write_bytes(two.read_bytes())


def linked(folder: Path) -> None:
    file = next((folder / "videos").glob("*.webp"))
    file.rename(folder / "elsewhere.webp")
    file.symlink_to(folder / "elsewhere.webp")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (swapped, "-still.webp in .* was altered"),
        (linked, "was altered"),
        (lambda folder: shutil.rmtree(folder / "videos"), "is missing"),
    ],
)
def test_altered_videos_are_refused_by_build_and_verify(
    change: Callable[[Path], None],
    reason: str,
    copy: Board,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(folder_of(copy))
    built = build_site(copy, tmp_path / "site")
    (refusal,) = built.refused
    assert re.search(reason, refusal.reason)
    assert not list((tmp_path / "site").rglob("*.webp"))
    assert cli.main(["leaderboard", "verify", str(copy.folder)]) == 1
    assert f"FAIL  {refusal.what}: videos: " in capsys.readouterr().out


def test_no_other_kind_of_file_passes_for_a_video(copy: Board) -> None:
    file = next((folder_of(copy) / "videos").glob("*0.webp"))
    data = b"<svg onload='alert(1)'/>"
    file.write_bytes(data)
    reworded(copy, lambda c: first(c)["moving"].update(recording._fingerprint(data)))
    (refusal,) = read_rows(copy).refused_videos
    assert "is no WebP picture" in refusal.reason


# The command line


def test_runs_that_cannot_be_drawn_are_added_and_say_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = boards.suite()
    cell = suite_cells(suite, out=str(tmp_path / "runs"), seeds=[0])[0]
    run(cell.config, say=lambda _: None)
    board = begin_board(tmp_path / "board", suite)
    words = ["leaderboard", "add", str(tmp_path / "runs"), "--board", str(board.folder)]
    assert cli.main([*words, "--videos"]) == 0
    out = capsys.readouterr().out
    assert "1 added, 0 there already, 0 refused" in out
    assert out.count("no videos: levers-v0: ") == 1
    assert "levers-v0 draws no pictures: it comes as a batch only" in out
    assert (next((board.folder / "runs").iterdir()) / "checkpoint").is_dir()


def test_runs_without_policies_say_so(tmp_path: Path) -> None:
    board = boards.board(tmp_path, boards.result())
    heard: list[str] = []
    film(board, [row.run_id for row in read_rows(board).shown], say=heard.append)
    assert heard == [
        "no videos: levers-v0, somebody: no completed run with its policies on the board"
    ]


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_a_still_and_plays_what_is_opened(filmed: Board, tmp_path: Path) -> None:
    build_site(filmed, tmp_path / "site")
    page = f"runs/{shown(filmed).run_id[:16]}.html"
    seen = browser.probe(
        tmp_path / "site",
        page,
        """
        const films = [...document.querySelectorAll(".film")];
        const visible = () => films.map((film) =>
          ["summary img", "details > img"].map((css) => film.querySelector(css).checkVisibility()));
        const before = visible();
        films[0].querySelector("summary").click();
        const keyboard = films.every((film) => film.querySelector("summary").tabIndex === 0);
        return { before, after: visible(), keyboard };
        """,
    )
    count = len(shown(filmed).videos)
    assert seen["before"] == [[True, False]] * count
    assert seen["after"] == [[False, True], *[[True, False]] * (count - 1)]
    assert seen["keyboard"]
    # Opened and asked for at once, so that the page is loaded when all its pictures are.
    file = tmp_path / "site" / page
    text = file.read_text().replace("<details><summary><img", "<details open><summary><img")
    file.write_text(text.replace(' loading="lazy"', ""))
    sizes = browser.probe(
        tmp_path / "site",
        page,
        """
        return [...document.querySelectorAll(".film img")]
          .map((image) => [image.complete, image.naturalWidth, image.naturalHeight]);
        """,
    )
    assert sizes == [[True, 249, 240]] * 2 * count
