"""Multi-objective reinforcement learning: environments, agents, indicators and verified results.

Importing this package loads next to nothing: each name below is fetched from its module on first
use, submodules as well. What is not listed in ``__all__`` may change without notice.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from morl.archive import ParetoArchive
    from morl.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
    from morl.envs import make_task, make_vec
    from morl.evaluation import Episodes, Evaluation, evaluate, evaluation_seeds, rollout
    from morl.experiments.quick import run
    from morl.experiments.trained import TrainedPolicy, TrainedRun, load
    from morl.indicators import (
        cardinality,
        epsilon_additive,
        expected_utility,
        gd_plus,
        hypervolume,
        igd,
        igd_plus,
        jackknife_hypervolume,
        maximum_utility_loss,
        r2,
        sparsity,
        sparsity_deduplicated,
    )
    from morl.pareto import nondominated, unique
    from morl.preferences import dirichlet, lattice, sobol_simplex
    from morl.registry import (
        AGENTS,
        ENVS,
        AgentEntry,
        EnvEntry,
        RegistrationError,
        UnknownNameError,
        register_agent,
        register_env,
    )
    from morl.result import Metric, ResultError, RunResult
    from morl.seeding import derive_seed, generator, stream
    from morl.storage import StorageError
    from morl.testing import check_agent, check_env
    from morl.tracking import (
        CompositeTracker,
        JsonlTracker,
        TensorBoardTracker,
        Tracker,
        WandbTracker,
    )
    from morl.types import (
        Agent,
        EnvSpec,
        Front,
        KnownFront,
        Metrics,
        MorlError,
        NonFiniteError,
        Objective,
        Policy,
        Solution,
        StackedPolicy,
        State,
        Task,
        Vector,
    )

__all__ = [
    "AGENTS",
    "ENVS",
    "Agent",
    "AgentEntry",
    "Checkpoint",
    "CheckpointError",
    "CompositeTracker",
    "EnvEntry",
    "EnvSpec",
    "Episodes",
    "Evaluation",
    "Front",
    "JsonlTracker",
    "KnownFront",
    "Metric",
    "Metrics",
    "MorlError",
    "NonFiniteError",
    "Objective",
    "ParetoArchive",
    "Policy",
    "RegistrationError",
    "ResultError",
    "RunResult",
    "Solution",
    "StackedPolicy",
    "State",
    "StorageError",
    "Task",
    "TensorBoardTracker",
    "Tracker",
    "TrainedPolicy",
    "TrainedRun",
    "UnknownNameError",
    "Vector",
    "WandbTracker",
    "__version__",
    "cardinality",
    "check_agent",
    "check_env",
    "derive_seed",
    "dirichlet",
    "epsilon_additive",
    "evaluate",
    "evaluation_seeds",
    "expected_utility",
    "gd_plus",
    "generator",
    "hypervolume",
    "igd",
    "igd_plus",
    "jackknife_hypervolume",
    "lattice",
    "load",
    "load_checkpoint",
    "make_task",
    "make_vec",
    "maximum_utility_loss",
    "nondominated",
    "r2",
    "register_agent",
    "register_env",
    "rollout",
    "run",
    "save_checkpoint",
    "sobol_simplex",
    "sparsity",
    "sparsity_deduplicated",
    "stream",
    "unique",
]

_HOMES = {
    "morl.archive": ("ParetoArchive",),
    "morl.checkpoint": ("Checkpoint", "CheckpointError", "load_checkpoint", "save_checkpoint"),
    "morl.envs": ("make_task", "make_vec"),
    "morl.evaluation": ("Episodes", "Evaluation", "evaluate", "evaluation_seeds", "rollout"),
    "morl.experiments.quick": ("run",),
    "morl.experiments.trained": ("TrainedPolicy", "TrainedRun", "load"),
    "morl.indicators": (
        "cardinality",
        "epsilon_additive",
        "expected_utility",
        "gd_plus",
        "hypervolume",
        "igd",
        "igd_plus",
        "jackknife_hypervolume",
        "maximum_utility_loss",
        "r2",
        "sparsity",
        "sparsity_deduplicated",
    ),
    "morl.pareto": ("nondominated", "unique"),
    "morl.preferences": ("dirichlet", "lattice", "sobol_simplex"),
    "morl.registry": (
        "AGENTS",
        "ENVS",
        "AgentEntry",
        "EnvEntry",
        "RegistrationError",
        "UnknownNameError",
        "register_agent",
        "register_env",
    ),
    "morl.result": ("Metric", "ResultError", "RunResult"),
    "morl.seeding": ("derive_seed", "generator", "stream"),
    "morl.storage": ("StorageError",),
    "morl.testing": ("check_agent", "check_env"),
    "morl.tracking": (
        "CompositeTracker",
        "JsonlTracker",
        "TensorBoardTracker",
        "Tracker",
        "WandbTracker",
    ),
    "morl.types": (
        "Agent",
        "EnvSpec",
        "Front",
        "KnownFront",
        "Metrics",
        "MorlError",
        "NonFiniteError",
        "Objective",
        "Policy",
        "Solution",
        "StackedPolicy",
        "State",
        "Task",
        "Vector",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = frozenset(
    {
        "agents",
        "archive",
        "checkpoint",
        "envs",
        "evaluation",
        "experiments",
        "hpo",
        "indicators",
        "pareto",
        "preferences",
        "registry",
        "result",
        "seeding",
        "stats",
        "storage",
        "testing",
        "tracking",
        "types",
    }
)


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Fetch a public name, or a submodule, on first use."""
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Every public name and submodule, fetched or not."""
    return sorted({*globals(), *__all__, *_MODULES})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("morl-suite")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0+unknown"
