"""Every registered agent, built in or plugged in, keeps its contract on a small task."""

from dataclasses import replace

import pytest

from morl.envs import make_task
from morl.registry import AGENTS
from morl.testing import check_agent

SMALL = {
    "c_morl": {"num_envs": 2, "rollout_steps": 12, "epochs": 2, "minibatch": 16, "num_parents": 2,
               "selection_episodes": 1, "snapshot_interval": 2, "extension_updates": 3,
               "hidden": (8,)},
    "do_nothing": {"idle_action": 0},
    "envelope_q": {"num_envs": 4, "updates": 2, "batch": 8, "replay_capacity": 500, "hidden": (8,)},
    "linucb": {"num_envs": 5, "divisions": 4},
    "gmorl": {"num_envs": 4, "updates": 2, "batch": 16, "replay_capacity": 500, "hidden": (8,)},
    "multi_policy_sac": {"num_envs": 2, "updates": 2, "batch": 16, "replay_capacity": 1000,
                         "divisions": 4, "hidden": (8,)},
    "sb3": {"num_envs": 2, "rollout_steps": 12, "minibatch": 16, "epochs": 2, "hidden": (8,),
            "selection_episodes": 1},
}  # fmt: skip
AT_HOME = {"building_controller", "offloading_heuristic", "simulated_annealing"}
"""Agents that only know one environment; their own tests check them there."""
SAMPLERS = {"mogfn_pc", "op_gfn", "goal_conditioned_gflownet"}
"""Agents that build objects."""
BASELINES = {"uniform_sampling", "nsga2", "nsga3", "moreinforce", "mogfn_al"}
"""They build objects too; their own tests check them."""


@pytest.mark.parametrize(
    "name", [name for name in AGENTS if name not in AT_HOME | SAMPLERS | BASELINES]
)
def test_agent_keeps_its_contract_with_discrete_actions(name: str) -> None:
    entry = AGENTS[name]
    config = replace(entry.config(), **SMALL.get(name, {}))
    check_agent(entry.make, config, make_task("deep-sea-treasure-v0", horizon=20), total_steps=2000
                ).raise_for_failures()  # fmt: skip


@pytest.mark.parametrize("variant", ["ipo", "cpo"])
def test_c_morl_keeps_its_contract_with_continuous_actions(variant: str) -> None:
    entry = AGENTS["c_morl"]
    config = replace(entry.config(), **SMALL["c_morl"], variant=variant)
    task = make_task("water-reservoir-v0", horizon=15)
    check_agent(entry.make, config, task, total_steps=900).raise_for_failures()


def test_sb3_keeps_its_contract_with_continuous_actions() -> None:
    entry = AGENTS["sb3"]
    config = replace(entry.config(), **SMALL["sb3"], algorithm="td3", outer_loop="linear_support")
    task = make_task("mo-mountaincarcontinuous-v0", horizon=15)
    check_agent(entry.make, config, task, total_steps=600).raise_for_failures()


@pytest.mark.parametrize("variant", ["ipo", "cpo"])
def test_c_morl_keeps_its_contract_with_six_objectives(variant: str) -> None:
    entry = AGENTS["c_morl"]
    config = replace(entry.config(), **SMALL["c_morl"], variant=variant)
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
