"""What decides a study: typed settings of `morl tune`, their checks and their record."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from morl.experiments.config import (
    ConfigError,
    EnvConfig,
    ProtocolSettings,
    RunConfig,
    check_env_config,
    command_words,
    make_settings,
    nearest,
    plain,
    require,
    unknown_key,
)
from morl.hpo.types import Aggregate, Direction, Objective, PrunerName, RaceConfig, SamplerName
from morl.registry import AGENTS
from morl.types import EnvSpec

COSTS = ("wall_s", "cpu_s")
"""Costs of a run that may be objectives, beside its indicators."""

_MAXIMISED = (
    "hypervolume", "hypervolume_jackknife", "hypervolume_normalised", "hypervolume_ratio",
    "expected_utility", "cardinality",
)  # fmt: skip
_MINIMISED = ("maximum_utility_loss", "igd_plus", "epsilon_additive", *COSTS)
METRICS = (*_MAXIMISED, *_MINIMISED)
"""What can be optimised."""

_AGGREGATES: tuple[Aggregate, ...] = ("mean", "iqm", "std")
_DIRECTIONS: Mapping[str, Direction] = {"max": "maximize", "min": "minimize"}
_OBJECTIVE = re.compile(r"(?P<metric>\w+)(?:\.(?P<aggregate>\w+))?(?::(?P<direction>\w+))?")
_A_DAY = 86_400.0


@dataclass(kw_only=True)
class SearchSettings:
    """How a study searches, on which seeds, and where it is kept.

    Attributes:
        n_trials: configurations to search, the defaults included.
        objectives: what is optimised, each METRIC, METRIC.AGGREGATE or either with ":min" or
            ":max"; aggregates over seeds are mean, iqm and std. Several make a front of
            trade-offs, without pruning and race.
        variance_penalty: standard deviations over seeds that the first objective loses.
        diverged: value of an objective in a run that diverged, by metric, where the usual one
            (hypervolume 0, utility of the reference point, a day) is not wanted.
        evaluations: points of a run's learning curve at which trials are compared.
        tuning_seeds: seeds of every trial of the search.
        race: the best configurations of the search, on more seeds.
        test_seeds: fresh seeds for the winner and the defaults; empty leaves the test out.
        sampler: "auto", "gp", "tpe", "random", "sobol", "cmaes" or "nsga2".
        pruner: "auto", "none", "median" or "hyperband".
        seed: root of the sampler's random numbers.
        only: search these settings of the agent alone.
        space: changes of the agent's search space, by setting.
        storage: "journal://" (in the study's folder), "sqlite://" alike, or a PostgreSQL address.
        stale_after: seconds without a sign of life after which a worker elsewhere counts as dead.
        max_retries: how often a trial is begun again whose worker died.
        max_crashes: trials that end in an error before any ends well, after which all stops.
    """

    n_trials: int = 40
    objectives: tuple[str, ...] = ("hypervolume_jackknife",)
    variance_penalty: float = 0.0
    diverged: dict[str, float] = field(default_factory=dict)
    evaluations: int = 10
    tuning_seeds: tuple[int, ...] = (100,)
    race: RaceConfig = field(default_factory=RaceConfig)
    test_seeds: tuple[int, ...] = tuple(range(1000, 1010))
    sampler: SamplerName = "auto"
    pruner: PrunerName = "auto"
    seed: int = 0
    only: tuple[str, ...] | None = None
    space: dict[str, Any] = field(default_factory=dict)
    storage: str = "journal://"
    stale_after: float = 120.0
    max_retries: int = 2
    max_crashes: int = 5

    def __post_init__(self) -> None:
        """Refuse objectives that cannot be read.

        Raises:
            ConfigError: names the objective.
        """
        if not self.objectives:
            raise ConfigError("objectives must name at least one metric")
        for text in self.objectives:
            read_objective(text)
        for metric in self.diverged:
            if metric not in METRICS:
                raise ConfigError(
                    f"diverged: unknown metric {metric!r}{nearest(metric, METRICS) or _listed()}"
                )


@dataclass(kw_only=True)
class TuneSettings(ProtocolSettings):
    """Everything about a study except its environment and its agent.

    Attributes:
        study: name of the study and of its folder; default ENV-AGENT.
        out: folder for all studies.
        workers: processes on this machine, or jobs of a launcher.
        worker: number of this one among the jobs of a launcher.
        hpo: the search.
    """

    study: str | None = None
    out: str = "studies"
    workers: int = 1
    worker: int = 0
    hpo: SearchSettings = field(default_factory=SearchSettings)

    def __post_init__(self) -> None:
        """Refuse what no study could use.

        Raises:
            ConfigError: names the setting.
        """
        super().__post_init__()
        require("workers", self.workers, at_least=1)
        require("worker", self.worker, at_least=0)
        if self.study is not None and not re.fullmatch(r"[\w.+-]+", self.study):
            raise ConfigError(
                f"study: {self.study!r} is to be a name of letters, digits and .+-_; "
                "its folder is chosen by out"
            )


UNDECIDING = frozenset({"study", "out", "workers", "worker", "hpo"})
"""Settings of a study that are none of its runs'."""


@dataclass(kw_only=True)
class TuneConfig(TuneSettings):
    """All that decides a study.

    Attributes:
        env: the environment.
        agent: registered name of the agent.
        agent_config: settings around which is searched: the defaults of the study.
    """

    env: EnvConfig = field(default_factory=EnvConfig)
    agent: str = "c_morl"
    agent_config: Any = None

    def __post_init__(self) -> None:
        """Fill the agent's defaults in and check every field.

        Raises:
            ConfigError: names the setting.
            UnknownNameError: there is no such agent.
        """
        super().__post_init__()
        check_env_config(self.env)
        if self.agent_config is None:
            self.agent_config = AGENTS[self.agent].config()

    @property
    def name(self) -> str:
        """Of the study, in its storage and on the disk."""
        return self.study or f"{self.env.id.replace('/', '-')}-{self.agent}"

    @property
    def folder(self) -> Path:
        """Of the study."""
        return Path(self.out) / self.name

    def record(self) -> dict[str, Any]:
        """Plain nested data that `from_record` reads, in the order of the command line."""
        settings = {
            setting.name: getattr(self, setting.name)
            for setting in dataclasses.fields(TuneSettings)
        }
        settings["hpo"] = dataclasses.asdict(self.hpo)
        agent = {"name": self.agent, **dataclasses.asdict(self.agent_config)}
        content: dict[str, Any] = plain(
            {"env": dataclasses.asdict(self.env), "agent": agent, **settings}
        )
        return content

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TuneConfig:
        """Read what `record` wrote, or what Hydra composed.

        Raises:
            ConfigError: names the setting.
        """
        settings = dict(record)
        env = make_settings(EnvConfig, settings.pop("env"), where="env")
        agent = dict(settings.pop("agent"))
        name = str(agent.pop("name"))
        agent_config = make_settings(AGENTS[name].config, agent, where="agent")
        hpo = make_settings(SearchSettings, settings.pop("hpo", {}), where="hpo")
        known = {setting.name for setting in dataclasses.fields(TuneSettings)}
        for key in settings.keys() - known:
            raise ConfigError(unknown_key(key, known))
        return cls(env=env, agent=name, agent_config=agent_config, hpo=hpo, **settings)

    def run_config(self, params: Mapping[str, Any], *, seed: int, steps: int) -> RunConfig:
        """The run of one configuration on one seed.

        Args:
            params: settings of the agent that differ from the study's defaults, plain data.
            seed: of the run.
            steps: its budget.

        Raises:
            ConfigError: the agent refuses the settings.
        """
        base = plain(dataclasses.asdict(self.agent_config))
        agent_config = make_settings(type(self.agent_config), {**base, **params}, where="agent")
        protocol = {
            setting.name: getattr(self, setting.name)
            for setting in dataclasses.fields(ProtocolSettings)
        }
        return RunConfig(
            **(protocol | {"steps": steps}),
            seed=seed,
            eval_every=max(1, steps // self.hpo.evaluations),
            env=self.env,
            agent=self.agent,
            agent_config=agent_config,
        )

    def command(self) -> str:
        """The command line that makes this study, defaults left out."""
        default = TuneConfig(agent=self.agent, env=EnvConfig(id=self.env.id)).record()
        return shlex.join(["morl", "tune", *command_words(self.record(), default)])


def read_objective(text: str, *, spec: EnvSpec | None = None) -> Objective:
    """Read METRIC[.AGGREGATE][:DIRECTION].

    Args:
        text: such as "hypervolume_jackknife", "expected_utility.iqm" or "wall_s:min".
        spec: of the task; gives the utility of a run that diverged.

    Raises:
        ConfigError: names what is wrong and what there is.
    """
    found = _OBJECTIVE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"objectives: cannot read {text!r}; write METRIC.AGGREGATE:DIRECTION")
    metric, aggregate = found["metric"], found["aggregate"] or "mean"
    if metric not in METRICS:
        raise ConfigError(
            f"objectives: unknown metric {metric!r}{nearest(metric, METRICS) or _listed()}"
        )
    if aggregate not in _AGGREGATES:
        raise ConfigError(
            f"objectives: {text!r}: the aggregate must be one of {', '.join(_AGGREGATES)}"
        )
    usual = "min" if metric in _MINIMISED or aggregate == "std" else "max"
    direction = _DIRECTIONS.get(found["direction"] or usual)
    if direction is None:
        raise ConfigError(f"objectives: {text!r}: the direction must be min or max")
    return Objective(
        metric=metric,
        direction=direction,
        aggregate=aggregate,
        diverged=_worst(metric, spec),
    )


def objectives_of(settings: SearchSettings, spec: EnvSpec) -> tuple[Objective, ...]:
    """What a study optimises.

    Raises:
        ConfigError: an objective without a worst value needs one in `diverged`, or the
            environment does not allow the metric.
    """
    found = []
    for place, text in enumerate(settings.objectives):
        objective = read_objective(text, spec=spec)
        _refuse_what_cannot_be_measured(objective.metric, spec)
        if objective.metric in settings.diverged:
            objective.diverged = float(settings.diverged[objective.metric])
        elif objective.metric in _WITHOUT_WORST:
            raise ConfigError(
                f"hpo.objectives: {objective.metric} has no worst value; say what a run that "
                f"diverged is worth: hpo.diverged.{objective.metric}=NUMBER"
            )
        if place == 0:
            objective.variance_penalty = settings.variance_penalty
        found.append(objective)
    return tuple(found)


_WITHOUT_WORST = ("maximum_utility_loss", "igd_plus", "epsilon_additive")
_OF_KNOWN_FRONTS = (*_WITHOUT_WORST, "hypervolume_ratio")


def _refuse_what_cannot_be_measured(metric: str, spec: EnvSpec) -> None:
    if metric in _OF_KNOWN_FRONTS and spec.known_front is None:
        raise ConfigError(f"hpo.objectives: {metric} needs a known front, {spec.id} has none")
    if metric == "hypervolume_normalised" and spec.box is None:
        raise ConfigError(f"hpo.objectives: {metric} needs a box, {spec.id} has none")


def _worst(metric: str, spec: EnvSpec | None) -> float:
    """Value of a run that diverged."""
    if metric in COSTS:
        return _A_DAY
    if metric == "expected_utility" and spec is not None:
        # The mean preference is uniform: so is the utility of a single point, its mean.
        return sum(spec.reference_point) / len(spec.reference_point)
    return 0.0


def curve_of(objective: Objective) -> str | None:
    """The column of the learning curve that foretells an objective, if there is one."""
    if objective.aggregate == "std":
        return None
    if objective.metric.startswith("hypervolume"):
        return "hypervolume"
    return "expected_utility" if objective.metric == "expected_utility" else None


def _listed() -> str:
    return f"; there are: {', '.join(METRICS)}"
