"""Shares of a profile, from a profile made by hand."""

from __future__ import annotations

import pytest

from morl.experiments.bench import training_profile
from morl.experiments.bench.training_profile import bottleneck, parts


def entry(own: float, cumulative: float):
    return (1, 1, own, cumulative, {})


BY_HAND = {
    ("/x/agents/c_morl.py", 1, "learn"): entry(1.0, 20.0),
    ("/x/agents/learners/ppo/learner.py", 2, "improve"): entry(1.0, 10.0),
    ("/x/agents/learners/ppo/learner.py", 3, "accumulate_gradients"): entry(7.0, 7.0),
    ("/x/agents/learners/ppo/kernels.py", 4, "clipped_adam_"): entry(2.0, 2.0),
    ("/x/agents/learners/core/rollouts.py", 5, "collect"): entry(3.0, 5.0),
    ("/x/agents/learners/ppo/learner.py", 6, "act"): entry(2.0, 2.0),
    ("/x/agents/learners/ppo/learner.py", 7, "digest"): entry(1.0, 1.0),
    ("/x/morl/evaluation.py", 8, "rollout"): entry(1.0, 3.0),
    ("/x/agents/learners/ppo/policies.py", 9, "act"): entry(2.0, 2.0),
}


def test_parts_add_up_to_the_whole_and_do_not_overlap():
    shares = parts(BY_HAND)
    assert shares == {
        "forward and backward passes of updates": 0.35,
        "Adam": 0.1,
        "acting": 0.1,
        "values and advantages": 0.05,
        "evaluations for the archive": 0.15,
        "minibatches and advantages' weights": 0.05,
        "environments": 0.15,
        "the rest": 0.05,
    }
    assert bottleneck(shares) == "forward and backward passes of updates"


@pytest.mark.slow
def test_a_real_profile_knows_every_part(monkeypatch):
    small = {"deep-sea-treasure-v0": {"rollout_steps": 32, "selection_episodes": 1}}
    monkeypatch.setattr(training_profile, "SETTINGS", small)
    (row,) = training_profile.measure(steps=20_000)["rows"]
    assert row["steps_per_cpu_second"] > 100
    assert sum(row["shares"].values()) == pytest.approx(1.0, abs=0.01)
    assert all(share > 0 for name, share in row["shares"].items() if name != "the rest")
