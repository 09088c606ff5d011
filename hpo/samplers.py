"""How the next configuration is chosen, and which are given up early.

A sampler is made anew for every trial, seeded by the trial's number. So a study does not depend on
how often it was interrupted: with one worker it proposes the same trials, with several only what
each of them knew at the time differs. Random and Sobol trials are the same with any number of
workers.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from morl.hpo.space import Plain, SearchSpace
from morl.hpo.types import PrunerName, SamplerName, StudyConfig, StudyError
from morl.seeding import derive_seed, generator

if TYPE_CHECKING:
    from optuna.study import Study as OptunaStudy

GP_TRIALS = 150
"""Up to so many trials "auto" takes a Gaussian process: its cost grows with their cube."""

STARTUP_TRIALS = 5
"""Trials that have to be seen before one is given up."""

_POPULATION = 20
_REDUCTION = 3


def resolve_methods(config: StudyConfig) -> tuple[SamplerName, PrunerName]:
    """What "auto" means for a study.

    A Gaussian process learns nothing from trials that were given up early, so the two are not
    paired.

    Raises:
        StudyError: for methods that do not work together; says which do.
    """
    sampler, pruner = config.sampler, config.pruner
    if config.multi_objective:
        if pruner not in ("auto", "none"):
            raise StudyError(
                f"pruner {pruner!r}: a study of several objectives has no order to prune by; "
                "set pruner to none"
            )
        if sampler == "cmaes":
            raise StudyError("sampler 'cmaes' knows one objective only; choose tpe, nsga2 or gp")
        return ("tpe" if sampler == "auto" else sampler), "none"
    if config.objectives[0].aggregate == "std":
        if pruner not in ("auto", "none"):
            raise StudyError(f"pruner {pruner!r}: a spread over seeds is known at the end only")
        pruner = "none"
    if sampler == "auto":
        few = config.n_trials <= GP_TRIALS and pruner in ("auto", "none")
        sampler = "gp" if few else "tpe"
    if pruner == "auto":
        pruner = "none" if sampler == "gp" else "median"
    return sampler, pruner


def independent_sample(
    name: SamplerName, space: SearchSpace, *, seed: int, number: int
) -> Mapping[str, Plain] | None:
    """Sampled values that depend on a trial's number alone, or None if the sampler learns.

    Args:
        name: of the sampler.
        space: what is searched.
        seed: root of the study's random numbers.
        number: of the trial; 0 stands for the defaults.
    """
    if number == 0:
        return space.defaults
    if name == "random":
        return space.from_unit(
            generator(seed, "hpo/random", number).random(len(space.names)).tolist()
        )
    if name == "sobol":
        return space.from_unit(_sobol_point(len(space.names), seed=seed, index=number - 1))
    return None


def _sobol_point(dimensions: int, *, seed: int, index: int) -> list[float]:
    """One point of a scrambled Sobol sequence."""
    from scipy.stats import qmc  # slow to import, and for this sampler only

    engine = qmc.Sobol(dimensions, scramble=True, seed=generator(seed, "hpo/sobol"))
    if index:  # SciPy cannot go forward by nothing
        engine.fast_forward(index)
    return [float(place) for place in engine.random(1)[0]]


def make_sampler(name: SamplerName, *, seed: int, number: int) -> BaseSampler:
    """A sampler for one trial.

    Args:
        name: which; not "auto".
        seed: root of the study's random numbers.
        number: of the trial.
    """
    derived = derive_seed(seed, f"hpo/{name}", number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "gp":
            return GPSampler(seed=derived, deterministic_objective=False)
        if name == "tpe":
            return TPESampler(seed=derived, multivariate=True, constant_liar=True)
        if name == "cmaes":
            return CmaEsSampler(seed=derived, warn_independent_sampling=False)
        if name == "nsga2":
            return NSGAIISampler(seed=derived, population_size=_POPULATION)
    return optuna.samplers.RandomSampler(seed=derived)


def make_pruner(name: PrunerName, *, evaluations: int, seeds: int) -> BasePruner:
    """A pruner for steps that count evaluations over all seeds of a trial.

    Args:
        name: which; not "auto".
        evaluations: of a run.
        seeds: runs of a trial, one after the other.
    """
    if name == "median":
        return PairedMedianPruner(warmup=max(1, -(-evaluations // 3)))
    if name == "hyperband":
        most = evaluations * seeds
        return HyperbandPruner(
            min_resource=max(1, most // _REDUCTION**2),
            max_resource=most,
            reduction_factor=_REDUCTION,
        )
    return NopPruner()


class PairedMedianPruner(BasePruner):
    """Gives a trial up when more than half of all trials were better at the same step.

    Steps are paired: the same seed at the same share of the budget. Trials that were given up
    before count among the worse ones, so the better half of all always goes on. Optuna's median
    pruner compares a trial's best value so far, which over several seeds is that of its luckiest,
    and only with those that finished.

    Args:
        warmup: first step at which trials are compared.
        startup: how many others must have come so far.
    """

    def __init__(self, *, warmup: int, startup: int = STARTUP_TRIALS) -> None:
        self._warmup = warmup
        self._startup = startup

    def prune(self, study: OptunaStudy, trial: FrozenTrial) -> bool:
        """Whether to give the trial up at its last step."""
        step = trial.last_step
        if step is None or step < self._warmup:
            return False
        sign = 1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
        mine = sign * trial.intermediate_values[step]
        others = [
            sign * other.intermediate_values.get(step, -sign * float("inf"))
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and self._counts(other, step)
        ]
        return len(others) >= self._startup and mine < statistics.median(others)

    def _counts(self, other: FrozenTrial, step: int) -> bool:
        """Whether it came so far, or was given up after the first comparison."""
        if other.state == TrialState.FAIL:
            return False
        if step in other.intermediate_values:
            return True
        last = other.last_step
        return other.state == TrialState.PRUNED and last is not None and last >= self._warmup
