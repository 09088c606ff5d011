"""Figures that others have published, each under its own protocol; shown, never ranked."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Published:
    """One published figure.

    Attributes:
        environments: ids of ours that it is shown beside, separated by spaces.
        environment: what it was measured on.
        agent: as its authors call it.
        indicator: what was measured.
        value: as published, or as follows from published fronts.
        sd: standard deviation over seeds, or empty.
        seeds: number of them, or empty.
        budget: of training.
        protocol: how it was measured.
        source: where to find it.
    """

    environments: str
    environment: str
    agent: str
    indicator: str
    value: str
    sd: str
    seeds: str
    budget: str
    protocol: str
    source: str


def published_rows(env_id: str) -> list[Published]:
    """What is known of an environment, or of one that bears its name elsewhere."""
    file = resources.files("morl.experiments.leaderboard") / "published.csv"
    rows = [Published(**row) for row in csv.DictReader(file.read_text("utf-8").splitlines())]
    return [row for row in rows if env_id in row.environments.split()]
