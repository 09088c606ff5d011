"""The budget of an agent in true environment steps: what is spent, what still fits."""

from __future__ import annotations

from dataclasses import dataclass

from morl.agents.learners.core.errors import BudgetError


@dataclass
class Budget:
    """Counts environment steps against what an agent may take.

    Agents spend in rounds: a rollout of all environments, a batch of objects. A round is begun only
    where all of it fits, so that no agent takes more steps than it was given.

    Attributes:
        total_steps: steps that may be taken.
        steps: steps taken so far, the agent's own evaluations included.
    """

    total_steps: int
    steps: int = 0

    def spend(self, steps: int) -> None:
        """Count steps that were taken."""
        self.steps += steps

    def fits(self, round_steps: int) -> bool:
        """Whether a round of so many steps is within the budget."""
        return self.steps + round_steps <= self.total_steps

    def goal(self, steps: int) -> int:
        """Where a call of ``learn(steps)`` ends: so many steps from here, or with the budget."""
        return min(self.steps + steps, self.total_steps)

    @property
    def remaining(self) -> int:
        """Steps that are left; zero where an agent took more than it was given."""
        return max(0, self.total_steps - self.steps)

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        return min(1.0, self.steps / max(1, self.total_steps))

    def require(
        self, round_steps: int, *, env_id: str, round_name: str, settings: tuple[str, ...]
    ) -> None:
        """Refuse a budget that does not allow a single round.

        Args:
            round_steps: steps of a round.
            env_id: for the message.
            round_name: what a round is: "update of 6 policies".
            settings: of the agent, that make a round smaller: ("num_envs",).

        Raises:
            BudgetError: states the budget, the round and what to change.
        """
        if self.total_steps >= round_steps:
            return
        remedies = " or ".join(f"agent.{name}" for name in settings)
        raise BudgetError(
            f"{env_id}: a budget of {self.total_steps} steps is less than one {round_name} "
            f"({round_steps} steps); raise steps or lower {remedies}"
        )
