"""Every registered agent, built in or plugged in, keeps its contract on a small task."""

from dataclasses import replace
from typing import Any

import pytest

from morl.envs import make_task
from morl.registry import AGENTS
from morl.testing import check_agent
from morl.types import Task

TASKS = {
    "discrete": make_task("deep-sea-treasure-v0", horizon=20),
    "continuous": make_task("water-reservoir-v0", horizon=15),
    "objects": make_task("hypergrid-v0", kwargs={"height": 6, "objectives": ["branin", "shubert"]}),
}
"""Small tasks; an agent is checked in the first that it can act in. Those at home in one family of
environments are checked by their own tests, where a small task of that family is at hand."""


def smoke(name: str) -> dict[str, Any]:
    """The settings of a small test that an agent declares."""
    capabilities = AGENTS[name].capabilities
    return {} if capabilities is None else dict(capabilities.smoke)


def first_task(name: str) -> Task | None:
    """The first small task that an agent can act in; agents made for objects prefer those."""
    capabilities = AGENTS[name].capabilities
    if capabilities is not None and capabilities.environments:
        return None
    return next(task for task in TASKS.values() if AGENTS[name].supports(task) is None)


NEEDS = {"nsga2": "pymoo", "nsga3": "pymoo", "mogfn_al": "botorch"}
"""Packages of optional extras; without them the agent refuses to be made, and says so."""


@pytest.mark.parametrize("name", list(AGENTS))
def test_agent_keeps_its_contract(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    entry, task = AGENTS[name], first_task(name)
    if task is None:
        pytest.skip("at home in one family of environments; checked there")
    config = replace(entry.config(), **smoke(name))
    check_agent(entry.make, config, task, total_steps=2000).raise_for_failures()


@pytest.mark.parametrize("variant", ["ipo", "cpo"])
def test_c_morl_keeps_its_contract_with_continuous_actions(variant: str) -> None:
    entry = AGENTS["c_morl"]
    config = replace(entry.config(), **smoke("c_morl"), variant=variant)
    task = make_task("water-reservoir-v0", horizon=15)
    check_agent(entry.make, config, task, total_steps=900).raise_for_failures()


def test_sb3_keeps_its_contract_with_continuous_actions() -> None:
    entry = AGENTS["sb3"]
    config = replace(entry.config(), **smoke("sb3"), algorithm="td3", outer_loop="linear_support")
    task = make_task("mo-mountaincarcontinuous-v0", horizon=15)
    check_agent(entry.make, config, task, total_steps=600).raise_for_failures()


@pytest.mark.parametrize("variant", ["ipo", "cpo"])
def test_c_morl_keeps_its_contract_with_six_objectives(variant: str) -> None:
    entry = AGENTS["c_morl"]
    config = replace(entry.config(), **smoke("c_morl"), variant=variant)
    check_agent(entry.make, config, make_task("fruit-tree-v0"), total_steps=2400
                ).raise_for_failures()  # fmt: skip


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mogfn_pc", {"answer": "samplers", "exponent_distribution": "gamma", "loss": "subtb"}),
        ("mogfn_pc", {"scalarisation": "tchebycheff", "loss": "db", "final_learning_rate": 0.1}),
        ("mogfn_pc", {"measure": "choices", "loss": "db"}),
        ("op_gfn", {}),
        ("op_gfn", {"replay_capacity": 30, "replay_warmup": 16}),
        ("goal_conditioned_gflownet", {"replay_capacity": 30, "replay_warmup": 16}),
        ("goal_conditioned_gflownet", {"replay_capacity": 0, "goals": "hyperspherical"}),
    ],
)
def test_samplers_keep_their_contract_with_objects(name: str, settings: dict[str, object]) -> None:
    entry = AGENTS[name]
    config = replace(entry.config(), batch=8, hidden=(8, 8), archive_capacity=10, **settings)
    task = make_task("hypergrid-v0", kwargs={"height": 6, "objectives": ["branin", "shubert"]})
    check_agent(entry.make, config, task, total_steps=900).raise_for_failures()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mogfn_pc", {"loss": "subtb", "measure": "choices"}),
        ("op_gfn", {"replay_capacity": 30, "replay_warmup": 16}),
        ("goal_conditioned_gflownet", {"replay_capacity": 30, "replay_warmup": 16}),
        ("moreinforce", {}),
    ],
)
def test_samplers_keep_their_contract_with_strings(name: str, settings: dict[str, object]) -> None:
    entry = AGENTS[name]
    config = replace(
        entry.config(), batch=8, hidden=(8,), width=8, layers=1, heads=2, archive_capacity=10,
        **settings,
    )  # fmt: skip
    task = make_task("n-grams-v0", kwargs={"ngrams": ["A", "C"], "min_length": 3, "max_length": 5})
    check_agent(entry.make, config, task, total_steps=400).raise_for_failures()
