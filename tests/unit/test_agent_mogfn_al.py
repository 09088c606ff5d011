"""MOGFN-AL: features, acquisition against numbers worked out by hand, rounds, resume, bad input."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest
import torch

from morl.agents.learners.core.errors import MissingExtraError
from morl.agents.learners.search.surrogates import (
    Botorch,
    Improvement,
    Surrogate,
    features_of,
    spectrum,
)
from morl.agents.mogfn_al import MOGFNAL, Config, variations
from morl.compositional import CompositionError, core_of, follow, random_walks, walks_to
from morl.envs import make_task
from morl.testing import check_agent

needs_botorch = pytest.mark.skipif(
    importlib.util.find_spec("botorch") is None, reason="needs the extra al"
)
GRID = make_task("hypergrid-v0", kwargs={"height": 8, "objectives": ["currin", "shubert"]})
STRINGS = make_task(
    "n-grams-v0", kwargs={"ngrams": ["A", "C"], "min_length": 3, "max_length": 4, "alphabet": "ACD"}
)
TINY: dict[str, Any] = {
    "batch": 4, "initial": 8, "updates": 2, "trajectories": 8, "candidates": 16, "samples": 4,
    "elite": 4, "hidden": (8, 8),
}  # fmt: skip


def agent(task: Any = GRID, *, total_steps: int = 10**6, **settings: Any) -> MOGFNAL:
    return MOGFNAL(task, Config(**{**TINY, **settings}), total_steps=total_steps, seed=0)


def test_the_spectrum_counts_letters_and_neighbours() -> None:
    # The string 0 1 0 1 and the string 2 of three letters.
    counts = spectrum(np.array([[0, 1, 0, 1], [2, -1, -1, -1]]), 3)
    assert counts.shape == (2, 12)
    assert counts[0, :3].tolist() == [2, 2, 0]
    assert counts[0, 3:].tolist() == [0, 2, 0, 1, 0, 0, 0, 0, 0]
    assert counts[1].tolist() == [0, 0, 1] + [0] * 9


def test_features_suit_the_objects() -> None:
    grid, strings = core_of(GRID), core_of(STRINGS)
    cells = np.array([[3, 4]])
    assert features_of(grid, "auto")(cells).tolist() == [[3.0, 4.0]]
    assert features_of(grid, "encoding")(cells).shape == (1, 16)
    assert features_of(strings, "auto")(np.array([[0, 1, 2, -1]])).shape == (1, 12)
    with pytest.raises(CompositionError, match=r"hypergrid-v0.*agent\.features=encoding"):
        features_of(grid, "spectrum")


def test_variations_differ_by_one_decision_and_are_legal() -> None:
    core, rng = core_of(STRINGS), np.random.default_rng(0)
    objects = random_walks(core, 50, rng).objects
    actions = variations(core, objects, rng)
    # `follow` steps through them, and the environment's own rules are the judge.
    ways = follow(core, 50, lambda states, rows, time: actions[rows, time])
    assert np.array_equal(ways.actions, actions)
    before = walks_to(core, objects)
    differing = (ways.actions[:, :3] != before.actions[:, :3]).sum(axis=1)
    assert differing.max() == 1
    assert (ways.objects != objects).any(axis=1).mean() > 0.4


def improvement(*known: tuple[float, float]) -> tuple[Improvement, torch.Tensor]:
    """Of a model that knows the objectives exactly: they are the features."""
    botorch = Botorch("a")  # the first import has warnings that it leaves out
    from botorch.models.deterministic import GenericDeterministicModel
    from botorch.sampling.index_sampler import IndexSampler

    botorch.sampler = IndexSampler  # there is but one sample of such a model
    points = torch.tensor(known, dtype=torch.float64)
    model = GenericDeterministicModel(lambda x: x, num_outputs=2)
    return Improvement(botorch, model, points, (0.0, 0.0), samples=4, seed=0), points


@needs_botorch
def test_without_noise_the_acquisition_is_the_improvement_of_the_hypervolume() -> None:
    # Two boxes of a half whose union is three quarters. The corner (1, 1) adds the missing
    # quarter; (0.75, 0.75) a sixteenth; (1.5, 0.5) a box of a half by a half.
    found, _ = improvement((1.0, 0.5), (0.5, 1.0))
    points = torch.tensor([[1.0, 1.0], [0.75, 0.75], [1.5, 0.5]], dtype=torch.float64)
    np.testing.assert_allclose(np.exp(found(points)), [0.25, 0.0625, 0.25], rtol=0.02)


@needs_botorch
def test_dominated_objects_are_expected_to_add_next_to_nothing_but_still_have_a_logarithm() -> None:
    found, _ = improvement((1.0, 0.5), (0.5, 1.0))
    near, far = found(torch.tensor([[0.5, 0.49], [0.1, 0.1]], dtype=torch.float64))
    assert np.isfinite([near, far]).all()
    assert far < near < np.log(0.01)


@needs_botorch
def test_the_second_choice_is_made_next_to_the_first() -> None:
    # Alone the points add 0.35, 0.34 and 0.1. Next to the first, the second adds 0.09 times 1 and
    # the third 1 times 0.1.
    found, _ = improvement((1.0, 0.5), (0.5, 1.0))
    points = torch.tensor([[1.0, 1.1], [1.09, 1.0], [2.0, 0.1]], dtype=torch.float64)
    assert found.choose(points, 9) == [0, 2, 1]


@needs_botorch
def test_a_fit_leaves_the_global_generator_alone_and_repeats_itself() -> None:
    core, rng = core_of(GRID), np.random.default_rng(0)
    objects = np.unique(random_walks(core, 30, rng).objects, axis=0)
    values = core.values(objects)
    before = torch.random.get_rng_state()
    found = [
        Surrogate(
            Botorch("a"), features_of(core, "auto"), objects, values, (0, 0), samples=4, seed=3
        ).log_improvements(objects)
        for _ in range(2)
    ]
    assert np.array_equal(*found)
    assert torch.equal(before, torch.random.get_rng_state())


@needs_botorch
@pytest.mark.parametrize(("task", "steps"), [(GRID, 90), (STRINGS, 48)], ids=["grid", "strings"])
def test_it_keeps_its_contract(task: Any, steps: int) -> None:
    settings = {**TINY, "network": "perceptron"}
    check_agent(MOGFNAL, Config(**settings), task, total_steps=steps).raise_for_failures()


@needs_botorch
def test_rounds_spend_evaluations_on_new_objects_alone() -> None:
    made = agent(max_evaluations=17)
    metrics = made.learn(10**6)
    assert made.finished
    assert made.evaluations == made.core.evaluations == 16
    asked = made.state_dict()["evaluated"]
    assert len(np.unique(asked["objects"], axis=0)) == 16
    assert np.array_equal(asked["values"], made.core.values(asked["objects"]))
    assert metrics["train/evaluations"] == 16.0
    assert 0.0 < metrics["train/new_candidates"] <= 1.0


@needs_botorch
def test_when_all_objects_are_known_it_asks_again() -> None:
    few = make_task("n-grams-v0", kwargs={
        "ngrams": ["A", "C"], "min_length": 1, "max_length": 2, "alphabet": "AC"
    })  # fmt: skip
    made = agent(few, max_evaluations=12, network="perceptron")
    made.learn(10**6)
    assert made.evaluations == 12


@needs_botorch
def test_it_goes_on_in_the_same_bits_from_every_round() -> None:
    whole, half = agent(max_evaluations=16), agent(max_evaluations=16)
    whole.learn(10**6)
    half.learn(1)
    again = agent(max_evaluations=16)
    again.load_state_dict(half.state_dict())
    while not again.finished:
        again.learn(1)
        other = agent(max_evaluations=16)
        other.load_state_dict(again.state_dict())
        again = other
    np.testing.assert_equal(again.state_dict(), whole.state_dict())


def test_without_botorch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botorch.fit", None)
    with pytest.raises(MissingExtraError, match=r"mogfn_al needs botorch.*morl-suite\[al\]"):
        agent()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"initial": 1}, "initial must be at least 2"),
        ({"updates": 0}, "updates must be at least 1"),
        ({"varied": 1.0}, r"varied must be in \[0, 1\)"),
        ({"exponent": 0.0}, "exponent must be positive"),
        ({"features": "smiles"}, "features must be one of auto, encoding"),
        ({"reward_floor": 0.0}, "reward_floor must be positive"),
        ({"exploration": 2.0}, r"exploration must be in \[0, 1\]"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Config(**settings)
