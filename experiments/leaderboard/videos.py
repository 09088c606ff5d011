"""Short videos of some policies of a run: which policies, and what the ledger says of them.

How they are made is in `morl.experiments.leaderboard.recording`; nothing here plays or decodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from morl.experiments.leaderboard import fields
from morl.experiments.leaderboard.ledger import LeaderboardError

VIDEOS = "videos"
"""Kind of the lines about videos, and the folder of the files beside a run's others."""

MOST_BYTES = 150_000
"""Of a video; a still takes a fraction of it."""

MOST_SIDE = 1_000
"""Pixels of a side that a page accepts."""

_WEBP = (b"RIFF", b"WEBP")


@dataclass(frozen=True)
class Picture:
    """A file of a video.

    Attributes:
        name: in the folder of the run.
        sha256: of its content.
        size: bytes.
    """

    name: str
    sha256: str
    size: int

    def read(self, folder: Path) -> bytes:
        """Its content.

        Args:
            folder: of the run.

        Raises:
            LeaderboardError: it is missing, or not what was added.
        """
        file = folder / self.name
        try:
            if file.is_symlink() or file.stat().st_size != self.size:
                raise LeaderboardError(
                    f"{self.name} in {folder.name} was altered: its size differs"
                )
            data = file.read_bytes()
        except OSError:
            raise LeaderboardError(f"{self.name} is missing in {folder.name}") from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise LeaderboardError(f"{self.name} in {folder.name} was altered: its SHA-256 differs")
        if (data[:4], data[8:12]) != _WEBP:
            raise LeaderboardError(f"{self.name} in {folder.name} is no WebP picture")
        return data


@dataclass(frozen=True)
class Video:
    """One episode of one policy.

    Attributes:
        policy: index in the run's front.
        seed: of the episode.
        steps: of the episode.
        width: of the picture in pixels.
        height: of the picture in pixels.
        discounted: return of the shown episode, by objective.
        undiscounted: its plain sums of rewards.
        moving: the animation.
        still: its last frame.
    """

    policy: int
    seed: int
    steps: int
    width: int
    height: int
    discounted: Sequence[float]
    undiscounted: Sequence[float]
    moving: Picture
    still: Picture


@dataclass(frozen=True)
class Role:
    """Why a policy is shown.

    Attributes:
        best_in: objectives in which it is the best of its front.
        knee: whether it is the front's compromise.
    """

    best_in: tuple[int, ...]
    knee: bool


def showcase(points: Sequence[Sequence[float]]) -> dict[int, Role]:
    """The policies of a front that are worth a look: the best for each objective, and the knee.

    Every objective is scaled to the range of the front, so that the worst return is 0 and the best
    1. The knee is the policy nearest to (1, ..., 1). It takes no box (some tasks have none) and
    no hyperplane through the extremes (there is none where extremes coincide). Of policies that
    are equally good in an objective the one with the highest scaled sum is its best.

    Args:
        points: mean discounted returns, by policy and objective.

    Returns:
        Roles by policy, ascending; empty for an empty front.
    """
    if not len(points):
        return {}
    front = np.asarray(points, dtype=np.float64)
    extent = np.ptp(front, axis=0)
    scaled = (front - front.min(axis=0)) / np.where(extent > 0.0, extent, 1.0)
    sums = scaled.sum(axis=1)
    best = [
        max(range(len(front)), key=lambda index: (column[index], sums[index])) for column in front.T
    ]
    shortfall = np.where(extent > 0.0, 1.0 - scaled, 0.0)
    knee = int(np.argmin((shortfall**2).sum(axis=1)))
    return {
        policy: Role(
            tuple(axis for axis, index in enumerate(best) if index == policy), policy == knee
        )
        for policy in sorted({*best, knee})
    }


def file_names(policy: int) -> tuple[str, str]:
    """Where animation and still of a policy lie in the folder of its run."""
    return f"{VIDEOS}/policy-{policy}.webp", f"{VIDEOS}/policy-{policy}-still.webp"


def videos_of(
    content: Mapping[str, Any], *, points: Sequence[Sequence[float]]
) -> tuple[Video, ...]:
    """Read a line about videos, which may say anything.

    Args:
        content: of the line.
        points: of the run's front.

    Raises:
        LeaderboardError: it does not describe videos of this front.
        KeyError, TypeError, ValueError: it lacks something.
    """
    videos = tuple(_video(each, points) for each in content[VIDEOS])
    if len({video.policy for video in videos}) != len(videos):
        raise LeaderboardError("two videos of one policy")
    return videos


def _video(said: Mapping[str, Any], points: Sequence[Sequence[float]]) -> Video:
    policy = fields.whole(said["policy"])
    if policy >= len(points):
        raise LeaderboardError(f"a video of policy {policy}, the front has {len(points)}")
    width, height = (fields.whole(side) for side in said["size"])
    if not (0 < width <= MOST_SIDE and 0 < height <= MOST_SIDE):
        raise LeaderboardError(f"a video of {width} x {height} pixels")
    (discounted, undiscounted) = fields.points(
        [said["discounted"], said["undiscounted"]], len(points[policy])
    )
    moving, still = (
        _picture(name, said[key])
        for name, key in zip(file_names(policy), ("moving", "still"), strict=True)
    )
    return Video(
        policy=policy,
        seed=fields.whole(said["seed"]),
        steps=fields.whole(said["steps"]),
        width=width,
        height=height,
        discounted=discounted,
        undiscounted=undiscounted,
        moving=moving,
        still=still,
    )


def _picture(name: str, said: Mapping[str, Any]) -> Picture:
    size = fields.whole(said["bytes"])
    if size > MOST_BYTES:
        raise LeaderboardError(f"{name} has {size:,} bytes, at most {MOST_BYTES:,} are shown")
    return Picture(name, fields.text(said, "sha256"), size)


def check_videos(folder: Path, videos: Sequence[Video]) -> None:
    """Are the files there, and what they were when they were added?

    Args:
        folder: of the run.
        videos: of the run.

    Raises:
        LeaderboardError: names the file and what is wrong with it.
    """
    for video in videos:
        video.moving.read(folder)
        video.still.read(folder)
