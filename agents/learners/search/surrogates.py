"""Gaussian processes over objects, and what another object is expected to add to their front.

A surrogate is fitted to the objects that were evaluated; the acquisition is noisy expected
hypervolume improvement (Daulton, Balandat and Bakshy, "Parallel Bayesian Optimization of Multiple
Noisy Objectives with Expected Hypervolume Improvement", NeurIPS 2021, arXiv:2105.08195), by its
logarithm (Ament et al. 2023, arXiv:2310.20708), which still ranks objects that are expected to add
next to nothing. Both are botorch's (extra "al").
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from morl.agents.learners.core.errors import MissingExtraError
from morl.compositional import CompositionalCore, CompositionError, States
from morl.types import Front, Vector

FEATURES = ("auto", "encoding", "state", "spectrum")
"""What of an object the surrogate sees; see `features_of`."""

LARGEST_RELEVANCE = 16
"""Most features with a length scale each; more share one."""

Table: TypeAlias = NDArray[np.float64]
"""Features of objects, (object, feature)."""

Describe: TypeAlias = Callable[[States], Table]


def features_of(core: CompositionalCore, kind: str) -> Describe:
    """How objects become inputs of the surrogate.

    Args:
        core: of the objects.
        kind: "encoding": what networks see. "state": the numbers of the state. "spectrum", for
            strings: how often each letter and each pair of neighbours occurs (Leslie, Eskin and
            Noble 2002). "auto": the spectrum of strings, the state of ordinal cores, else the
            encoding.

    Raises:
        CompositionError: the objects are no strings and have no spectrum.
    """
    if kind == "auto":
        strings = core.vocabulary is not None
        kind = "spectrum" if strings else "state" if core.ordinal else "encoding"
    if kind == "state":
        return lambda states: states.astype(np.float64)
    if kind == "encoding":
        return lambda states: core.encode(states).astype(np.float64)
    if core.vocabulary is None:
        raise CompositionError(
            f"{core.name}: its objects are no strings and have no spectrum; set "
            "agent.features=encoding"
        )
    letters = core.vocabulary
    return lambda states: spectrum(states, letters)


def spectrum(strings: States, letters: int) -> Table:
    """Numbers of each letter and of each pair of neighbours.

    Args:
        strings: letters from 0, then -1, (string, position).
        letters: of the alphabet.

    Returns:
        (string, letters + letters ** 2); pair (a, b) at ``letters + a * letters + b``.
    """
    counts = np.zeros((len(strings), letters * (letters + 1)))
    rows, places = np.nonzero(strings >= 0)
    np.add.at(counts, (rows, strings[rows, places]), 1.0)
    rows, places = np.nonzero(strings[:, 1:] >= 0)
    pairs = letters * (strings[rows, places] + 1) + strings[rows, places + 1]
    np.add.at(counts, (rows, pairs), 1.0)
    return counts


class Botorch:
    """The parts of botorch and gpytorch that are used.

    Args:
        agent: who asks, for the message.

    Raises:
        MissingExtraError: botorch is not installed.
    """

    def __init__(self, agent: str) -> None:
        part = importlib.import_module
        try:
            with warnings.catch_warnings():
                # Its dependencies compile functions in a way that torch deprecates.
                warnings.simplefilter("ignore", DeprecationWarning)
                acquisition: Any = part("botorch.acquisition.multi_objective.logei")
                models: Any = part("botorch.models")
                fit: Any = part("botorch.fit")
                samplers: Any = part("botorch.sampling")
                kernels: Any = part("gpytorch.kernels")
                likelihoods: Any = part("gpytorch.mlls")
                transforms: Any = part("botorch.models.transforms")
        except ImportError as error:
            raise MissingExtraError(
                f"agent {agent} needs botorch: pip install 'morl-suite[al]'"
            ) from error
        self.improvement: Any = acquisition.qLogNoisyExpectedHypervolumeImprovement
        self.sampler: Any = samplers.SobolQMCNormalSampler
        self._process: Any = models.SingleTaskGP
        self._processes: Any = models.ModelListGP
        self._standardise: Any = transforms.Standardize
        self._fit: Any = fit.fit_gpytorch_mll
        self._likelihood: Any = likelihoods.ExactMarginalLogLikelihood
        self._kernels: Any = kernels

    def fitted(self, table: Tensor, values: Tensor) -> Any:  # noqa: ANN401 - botorch's
        """A process for each objective, its parameters at the largest marginal likelihood.

        The kernel is a Matern kernel of smoothness 5/2 plus a linear one, so that trends go on
        where no object has been seen yet.

        Args:
            table: (object, feature), float64, each feature from 0 to 1.
            values: (object, objective), float64.
        """
        processes = []
        for column in values.unbind(1):
            process = self._process(
                table,
                column.unsqueeze(1),
                covar_module=self._kernel(table.shape[1]),
                outcome_transform=self._standardise(m=1),
            )
            options = {"options": {"maxiter": _ITERATIONS}}
            self._fit(self._likelihood(process.likelihood, process), optimizer_kwargs=options)
            processes.append(process)
        return self._processes(*processes)

    def _kernel(self, num_features: int) -> Any:  # noqa: ANN401 - gpytorch's
        scales = num_features if num_features <= LARGEST_RELEVANCE else None
        matern = self._kernels.MaternKernel(nu=2.5, ard_num_dims=scales)
        # gpytorch's linear kernel has low rank, and sums with one are factored by an eigenvalue
        # problem that does not always converge; this is the same kernel as a plain matrix.
        linear = self._kernels.PolynomialKernel(power=1)
        return self._kernels.ScaleKernel(matern) + self._kernels.ScaleKernel(linear)


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Let botorch draw from torch's global generator, seeded, and put that back afterwards.

    Its notices on numerical matters, which no caller can act on, are left out.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.simplefilter("ignore")
        yield


class Improvement:
    """Expected improvement of the hypervolume by further objects; logarithms.

    Args:
        botorch: the package.
        model: of the objectives, by features.
        known: features of the objects that were evaluated, (object, feature).
        reference_point: of the hypervolume, (objective,).
        samples: of the expectation, quasi-random.
        seed: of the samples.
    """

    def __init__(
        self,
        botorch: Botorch,
        model: Any,  # noqa: ANN401 - botorch's
        known: Tensor,
        reference_point: Sequence[float],
        *,
        samples: int,
        seed: int,
    ) -> None:
        self._acquisition = botorch.improvement(
            model=model,
            ref_point=list(reference_point),
            X_baseline=known,
            sampler=botorch.sampler(torch.Size([samples]), seed=seed),
            prune_baseline=True,
        )

    @torch.no_grad()
    def __call__(self, table: Tensor) -> Vector:
        """Of each object alone, next to those that are pending, (object,).

        Args:
            table: (object, feature), float64.
        """
        parts = [self._acquisition(part.unsqueeze(1)) for part in table.split(_AT_ONCE)]
        found: Vector = torch.cat(parts).numpy()
        return found

    def choose(self, table: Tensor, count: int) -> list[int]:
        """Objects that add most together, one after the other; all that follow come next to them.

        Args:
            table: candidates, (object, feature).
            count: how many to choose; all where there are no more.

        Returns:
            Indices, the best first.
        """
        chosen: list[int] = []
        for _ in range(min(count, len(table))):
            worth = self(table)
            worth[chosen] = -np.inf
            chosen.append(int(worth.argmax()))
            self._acquisition.set_X_pending(table[chosen])
        return chosen


_ITERATIONS = 60
"""Most steps of the quasi-Newton method that fits a process; more change next to nothing."""

_AT_ONCE = 256
"""Objects of one call of the acquisition: its memory grows with samples times cells times them."""


class Surrogate:
    """What is known of all objects, from those that were evaluated.

    Args:
        botorch: the package.
        describe: features of objects.
        objects: evaluated, (object, feature).
        values: theirs, (object, objective).
        reference_point: of the hypervolume.
        samples: of the expectation.
        seed: of whatever is random in the fit and in the samples.
    """

    def __init__(
        self,
        botorch: Botorch,
        describe: Describe,
        objects: States,
        values: Front,
        reference_point: Sequence[float],
        *,
        samples: int,
        seed: int,
    ) -> None:
        self._describe = describe
        table = describe(objects)
        low, high = table.min(axis=0), table.max(axis=0)
        self._low, self._width = low, np.where(high > low, high - low, 1.0)
        known = self._table(objects)
        self._seed = seed
        with own_randomness(seed):
            model = botorch.fitted(known, torch.from_numpy(values))
            self._improvement = Improvement(
                botorch, model, known, reference_point, samples=samples, seed=seed
            )

    def log_improvements(self, objects: States) -> Vector:
        """Logarithm of what each object alone is expected to add, (object,)."""
        with own_randomness(self._seed):
            return self._improvement(self._table(objects))

    def choose(self, objects: States, count: int) -> list[int]:
        """Indices of the objects that are expected to add most together."""
        with own_randomness(self._seed):
            return self._improvement.choose(self._table(objects), count)

    def _table(self, objects: States) -> Tensor:
        return torch.from_numpy((self._describe(objects) - self._low) / self._width)
