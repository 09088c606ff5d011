"""Envelope Q-learning finds the convex front of deep-sea treasure."""

from __future__ import annotations

import pytest
import torch

from morl.agents.envelope_q import Config, EnvelopeQ
from morl.envs import make_task
from morl.evaluation import rollout
from morl.indicators import hypervolume


@pytest.mark.slow
def test_two_hundred_thousand_steps_find_deep_sea_treasure() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        task = make_task("deep-sea-treasure-v0")
        agent = EnvelopeQ(task, Config(), total_steps=200_000, seed=0)
        while not agent.finished:
            agent.learn(2000)
        points = rollout(task, agent.solutions(), seeds=[1]).discounted[:, 0]
    finally:
        torch.set_num_threads(threads)
    assert hypervolume(points, task.spec.reference_point).value > 0.97 * 854.85
