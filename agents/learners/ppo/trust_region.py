"""Constrained trust-region steps (CPO) for a whole population, with any number of constraints.

Each policy maximises the first-order model of its target objective subject to first-order models
of its constraints and a quadratic model of the KL divergence (Achiam et al., "Constrained Policy
Optimization", ICML 2017, equation 10); a backtracking line search on the sampled quantities
follows. Gradients come from torch's automatic differentiation of the stacked actors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from morl.agents.learners.ppo.constraints import Table
from morl.agents.learners.ppo.learner import Experience
from morl.agents.learners.ppo.losses import categorical_log_probability, gaussian_log_probability
from morl.agents.learners.ppo.networks import PopulationNetwork

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class TrustRegionConfig:
    """Settings of the step.

    Attributes:
        max_kl: bound on the mean KL divergence of a step.
        damping: added to the diagonal of the Fisher matrix.
        conjugate_gradient_steps: iterations of the solver of Fisher systems.
        fisher_samples: most observations of a policy from which the Fisher matrix is estimated.
        line_search_steps: most shrinkings of a step that is not accepted.
        shrink: factor of each.
    """

    max_kl: float = 0.01
    damping: float = 0.1
    conjugate_gradient_steps: int = 10
    fisher_samples: int = 1024
    line_search_steps: int = 10
    shrink: float = 0.7


@dataclass(frozen=True)
class QuadraticModel:
    """The step's problem for one policy, in the span of the natural gradients.

    Maximise ``g.x`` subject to ``c_j + b_j.x >= 0`` and ``x.H x / 2 <= max_kl``.

    Attributes:
        objective: ``g.H^-1 g``.
        cross: ``b_j.H^-1 g``, (constraint,).
        gram: ``b_j.H^-1 b_k``, (constraint, constraint).
        slack: c, (constraint,), negative where violated.
    """

    objective: float
    cross: NDArray[np.float64]
    gram: Matrix
    slack: NDArray[np.float64]


def solve_step(model: QuadraticModel, *, max_kl: float) -> tuple[float, NDArray[np.float64], bool]:
    """Solve the problem exactly by its Karush-Kuhn-Tucker conditions.

    The problem is convex, so the first active set whose multipliers and remaining constraints
    are in order is the solution. If the feasible set and the trust region do not meet, the step
    goes as far as the trust region allows towards the violated constraints.

    Args:
        model: the problem.
        max_kl: bound on the KL divergence.

    Returns:
        Coefficients (a, v) of the step ``x = H^-1 (a g + sum_j v_j b_j)``, and whether it solves
        the constrained problem (False for a recovery step).
    """
    constraints = range(len(model.slack))
    for size in range(len(model.slack) + 1):
        for active in combinations(constraints, size):
            found = _try_active_set(model, list(active), max_kl=max_kl)
            if found is not None:
                return (*found, True)
    return 0.0, _recovery(model, max_kl=max_kl), False


def _try_active_set(
    model: QuadraticModel, active: list[int], *, max_kl: float
) -> tuple[float, NDArray[np.float64]] | None:
    cross, slack = model.cross[active], model.slack[active]
    inverse = np.linalg.pinv(model.gram[np.ix_(active, active)])
    gain = model.objective - cross @ inverse @ cross
    room = 2.0 * max_kl - slack @ inverse @ slack
    if gain <= 1e-12 or room <= 0.0:
        return None
    temperature = float(np.sqrt(gain / room))
    multipliers: NDArray[np.float64] = np.zeros(len(model.slack))
    multipliers[active] = -inverse @ (temperature * slack + cross)
    if (multipliers < -1e-9).any():
        return None
    change = (model.cross + model.gram @ multipliers) / temperature
    if (model.slack + change < -1e-7).any():
        return None
    return float(1.0 / temperature), multipliers / temperature


def _recovery(model: QuadraticModel, *, max_kl: float) -> NDArray[np.float64]:
    """Coefficients of the steepest common ascent of the violated constraints."""
    weights = np.maximum(-model.slack, 0.0)
    length = weights @ model.gram @ weights
    if length <= 1e-16:
        return np.zeros_like(weights)
    scaled: NDArray[np.float64] = weights * np.sqrt(2.0 * max_kl / length)
    return scaled


class StackedActor:
    """The actors of a population as a differentiable function of flat vectors."""

    def __init__(self, network: PopulationNetwork) -> None:
        self._network = network
        blocks = network.spec.blocks()
        chosen = [i for i, block in enumerate(blocks) if block.name.startswith("actor/")]
        self._names = [blocks[index].name for index in chosen]
        self._arrays = [network.views(network.parameters)[index] for index in chosen]
        self._sizes = [array[0].size for array in self._arrays]

    def vector(self) -> Tensor:
        """Current parameters, (policy, parameter); a copy."""
        return torch.cat(
            [torch.tensor(array).flatten(start_dim=1) for array in self._arrays], dim=1
        )

    def assign(self, vector: Tensor) -> None:
        """Overwrite the network's actors."""
        for array, part in zip(self._arrays, vector.split(self._sizes, dim=1), strict=True):
            array[:] = part.numpy().reshape(array.shape)

    def outputs(self, vector: Tensor, observations: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits or means, (policy, batch, action), and log standard deviations or None."""
        parts = [
            part.reshape(array.shape)
            for part, array in zip(vector.split(self._sizes, dim=1), self._arrays, strict=True)
        ]
        log_std = None if self._network.spec.discrete else parts.pop()
        current = observations
        for weight, bias in zip(parts[0::2], parts[1::2], strict=True):
            current = torch.baddbmm(bias.unsqueeze(1), current, weight)
            if weight is not parts[-2]:
                current = torch.tanh(current)
        return current, log_std


def kl_divergence(old: tuple[Tensor, Tensor | None], new: tuple[Tensor, Tensor | None]) -> Tensor:
    """Mean KL divergence of the new from the old policies over the batch, (policy,)."""
    (old_outputs, old_log_std), (outputs, log_std) = old, new
    if old_log_std is None or log_std is None:
        old_log = torch.log_softmax(old_outputs, -1)
        new_log = torch.log_softmax(outputs, -1)
        return (old_log.exp() * (old_log - new_log)).sum(-1).mean(-1)
    difference = (old_outputs - outputs).square() + (2 * old_log_std).exp().unsqueeze(1)
    quadratic = difference / (2 * (2 * log_std).exp().unsqueeze(1)) - 0.5
    return quadratic.sum(-1).mean(-1) + (log_std - old_log_std).sum(-1)


def trust_region_step(
    network: PopulationNetwork,
    experience: Experience,
    *,
    target: NDArray[np.int64],
    slack: Table,
    scale: Table,
    config: TrustRegionConfig,
) -> dict[str, float]:
    """Take one constrained step with every actor, in place.

    Args:
        network: the population; critics are left alone.
        experience: rollout of the current actors.
        target: (policy,), objective that each maximises.
        slack: (policy, objective), return minus threshold in units of `scale`.
        scale: (policy, objective), units of the objectives.
        config: settings.

    Returns:
        Means over policies: KL divergence, share of recovery steps, share of accepted steps.
    """
    problem = _Problem(network, experience, scale=scale, config=config)
    gradients = problem.gradients()
    natural = [problem.natural(gradient) for gradient in gradients]
    steps, solved = _combine(gradients, natural, target=target, slack=slack, config=config)
    accepted, divergence = problem.line_search(steps, target=target, slack=slack, solved=solved)
    return {
        "kl": float(divergence.mean()),
        "recovery": float(1.0 - solved.mean()),
        "accepted": float(accepted.mean()),
    }


class _Problem:
    """Sampled surrogates of one rollout."""

    def __init__(
        self,
        network: PopulationNetwork,
        experience: Experience,
        *,
        scale: Table,
        config: TrustRegionConfig,
    ) -> None:
        self._config = config
        self._actor = StackedActor(network)
        self._start = self._actor.vector()
        self._observations = torch.from_numpy(experience.observations)
        self._actions = torch.from_numpy(experience.actions)
        weights = experience.discount_weights
        mean = np.einsum("pb,pbj->pj", weights, experience.advantages)
        mean /= weights.sum(axis=1, keepdims=True)
        centred = (experience.advantages - mean[:, None]) / scale[:, None]
        self._weighted = torch.from_numpy((centred * weights[..., None]).astype(np.float32))
        with torch.no_grad():
            self._old = self._actor.outputs(self._start, self._observations)
            self._old_log = self._log_probability(self._old)

    def _log_probability(self, outputs: tuple[Tensor, Tensor | None]) -> Tensor:
        heads, log_std = outputs
        if log_std is None:
            return categorical_log_probability(self._actions[..., 0], heads)
        return gaussian_log_probability(self._actions, heads, log_std)

    def _changes(self, outputs: tuple[Tensor, Tensor | None]) -> Tensor:
        """Surrogate change of every return, (policy, objective), in units of its scale."""
        ratio = (self._log_probability(outputs) - self._old_log).exp()
        return torch.einsum("pb,pbj->pj", ratio - 1.0, self._weighted)

    def gradients(self) -> list[Tensor]:
        """Gradient of each objective's surrogate, (policy, parameter)."""
        vector = self._start.clone().requires_grad_()
        changes = self._changes(self._actor.outputs(vector, self._observations)).sum(0)
        last = len(changes) - 1
        return [
            torch.autograd.grad(change, vector, retain_graph=index < last)[0]
            for index, change in enumerate(changes)
        ]

    def natural(self, gradient: Tensor) -> Tensor:
        """Fisher inverse times a gradient, (policy, parameter)."""
        batch = self._observations.shape[1]
        stride = max(1, batch // self._config.fisher_samples)
        observations = self._observations[:, ::stride]
        vector = self._start.clone().requires_grad_()
        new = self._actor.outputs(vector, observations)
        old = (new[0].detach(), None if new[1] is None else new[1].detach())
        slope = torch.autograd.grad(kl_divergence(old, new).sum(), vector, create_graph=True)[0]

        def fisher(direction: Tensor) -> Tensor:
            product = torch.autograd.grad((slope * direction).sum(), vector, retain_graph=True)[0]
            return product + self._config.damping * direction

        return conjugate_gradient(fisher, gradient, steps=self._config.conjugate_gradient_steps)

    @torch.no_grad()
    def line_search(
        self,
        steps: Tensor,
        *,
        target: NDArray[np.int64],
        slack: Table,
        solved: NDArray[np.bool_],
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Shrink each policy's step until its samples agree with it; else leave the policy."""
        policies = len(steps)
        accepted = np.zeros(policies, np.bool_)
        divergence = np.zeros(policies)
        result = self._start.clone()
        fraction = 1.0
        for _ in range(self._config.line_search_steps):
            candidate = self._start + fraction * steps
            outputs = self._actor.outputs(candidate, self._observations)
            changes = self._changes(outputs).double().numpy()
            kl = kl_divergence(self._old, outputs).double().numpy()
            good = kl <= 1.5 * self._config.max_kl
            good &= _agreeable(changes, target=target, slack=slack, solved=solved)
            new = good & ~accepted
            result[torch.from_numpy(new)] = candidate[torch.from_numpy(new)]
            divergence[new] = kl[new]
            accepted |= new
            if accepted.all():
                break
            fraction *= self._config.shrink
        self._actor.assign(result)
        return accepted, divergence


def _agreeable(
    changes: Table, *, target: NDArray[np.int64], slack: Table, solved: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether sampled changes improve the target, or the violation in a recovery step."""
    rows = np.arange(len(target))
    others = np.arange(slack.shape[1]) != target[:, None]
    before = np.where(others, np.minimum(slack, 0.0), 0.0).sum(axis=1)
    after = np.where(others, np.minimum(slack + changes, 0.0), 0.0).sum(axis=1)
    keeps = after >= before - 1e-3
    return np.asarray(np.where(solved, keeps & (changes[rows, target] > 0.0), after > before))


def conjugate_gradient(product: Callable[[Tensor], Tensor], right: Tensor, *, steps: int) -> Tensor:
    """Solve one symmetric positive system a policy.

    Args:
        product: maps (policy, parameter) to the matrices times it.
        right: right-hand sides, (policy, parameter).
        steps: iterations.
    """
    solution = torch.zeros_like(right)
    residual = right.clone()
    direction = residual.clone()
    norm = residual.square().sum(1, keepdim=True)
    for _ in range(steps):
        image = product(direction)
        rate = norm / ((direction * image).sum(1, keepdim=True) + 1e-20)
        solution = solution + rate * direction
        residual = residual - rate * image
        updated = residual.square().sum(1, keepdim=True)
        direction = residual + updated / (norm + 1e-20) * direction
        norm = updated
    return solution


def _combine(
    gradients: Sequence[Tensor],
    natural: Sequence[Tensor],
    *,
    target: NDArray[np.int64],
    slack: Table,
    config: TrustRegionConfig,
) -> tuple[Tensor, NDArray[np.bool_]]:
    """Solve each policy's small problem; steps (policy, parameter) and whether solved."""
    stacked = torch.stack(list(gradients), dim=1)
    directions = torch.stack(list(natural), dim=1)
    grams = torch.einsum("pik,pjk->pij", stacked, directions).double().numpy()
    coefficients = np.zeros(slack.shape)
    solved = np.zeros(len(target), np.bool_)
    for policy, (gram, goal) in enumerate(zip(grams, target, strict=True)):
        others = np.flatnonzero(np.arange(slack.shape[1]) != goal)
        symmetric = 0.5 * (gram + gram.T)
        model = QuadraticModel(
            objective=float(symmetric[goal, goal]),
            cross=symmetric[others, goal],
            gram=symmetric[np.ix_(others, others)],
            slack=slack[policy, others],
        )
        share, multipliers, solved[policy] = solve_step(model, max_kl=config.max_kl)
        coefficients[policy, goal] = share
        coefficients[policy, others] = multipliers
    mixture = torch.from_numpy(coefficients.astype(np.float32))
    return torch.einsum("pj,pjk->pk", mixture, directions), solved
