"""Forward-mode differentiation of the inner run.

Computes d/dλ (1/M) Σ_{m>B} f(λ, θ^m) (Franceschi et al. 2017; with M = 1 the unrolled hypergradient
(49)) by carrying the tangent s_t = dθ^t/dλ along the chain, eq. (50):

    s_t = a_{t−1} s_{t−1} + b_{t−1},   a = I − γ H(θ^{t−1}),   b = −γ C(θ^{t−1}).

Exact up to rounding. The tangent's columns are carried in blocks: memory is O(n · block), time
O(p / block) inner runs. `FMDDirectional` carries one column, for one direction u in λ-space.

Claims: eq-49, eq-50, eq-51, eq-52, tab-1, text-fmd-memory.
"""

import math
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from refblo.chain import Langevin, Schedule
from refblo.cost import counting, number
from refblo.derivatives import (
    gradient_and_tangent,
    gradient_and_tangents,
    initial_jvp,
    outer_directional,
    outer_gradients,
)
from refblo.errors import require_integer
from refblo.estimators.protocol import Estimator, conclude
from refblo.estimators.rule_chain import AnyChain, chain_of
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.rules.rule import Rule
from refblo.types import Estimand, Hypergradient, Lam, Theta
from refblo.validation import check_arguments, check_like

__all__ = ["FMD", "FMDDirectional"]


@final
@dataclass(frozen=True)
class FMD(Estimator):
    """Forward-mode differentiation with the dense tangent.

    Args:
        dynamics: the step rule: Langevin, or any `Rule`.
        schedule: B and M.
        block: how many columns of the tangent (n × p) are carried at once; None for all.

    Raises:
        ArgumentError: if `block` is less than 1.
    """

    dynamics: Langevin | Rule
    schedule: Schedule
    block: int | None = None
    name: str = field(default="FMD", kw_only=True)

    def __post_init__(self) -> None:
        if self.block is not None:
            require_integer("block", self.block, 1, "use at least one column at a time")

    @property
    def estimand(self) -> Estimand:
        """The pathwise mean; with one sample, the unrolled hypergradient."""
        return self.schedule.estimand

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        lam = lam.detach()
        chain = chain_of(problem, self.dynamics, draws, lam, self.schedule.steps)
        p = lam.numel()
        block = p if self.block is None else min(self.block, p)
        with counting() as cost:
            parts = []
            for first in range(0, p, block):
                width = min(block, p - first)
                part, theta = self._columns(chain, lam, first, width)
                parts.append(part)
        value = torch.cat(parts)
        return conclude(value, self.estimand, theta, chain, lam, self.schedule.steps, cost)

    def _columns(
        self, chain: AnyChain, lam: Lam, first: int, width: int
    ) -> tuple[Float[Tensor, " k"], Theta]:
        """Entries first … first + width − 1 of the hypergradient, and θ^T."""
        problem = chain.problem
        directions = torch.zeros(lam.numel(), width, dtype=lam.dtype, device=lam.device)
        directions[first : first + width].fill_diagonal_(1)
        state = chain.lifted(chain.initial(lam))
        tangent = chain.lifted(
            torch.stack([initial_jvp(problem.initial, lam, u) for u in directions.unbind(1)], dim=1)
        )
        value = torch.zeros(width, dtype=lam.dtype, device=lam.device)
        for t in range(1, self.schedule.steps + 1):
            batch = chain.inner_batch(t - 1)
            # No name for the part of the tangent that is θ's: it would keep the matrix for a step.
            gradient, change = gradient_and_tangents(
                problem.inner, lam, chain.theta(state), batch, directions, chain.theta(tangent)
            )
            state, tangent = chain.following_with_tangents(
                lam, state, gradient, t - 1, directions, tangent, change
            )
            if self.schedule.sampled(t):
                at, batch = chain.theta(state), chain.outer_batch(t)
                direct, slope = outer_gradients(problem.outer, lam, at, batch)
                value.add_(direct[first : first + width]).add_(slope @ chain.theta(tangent))
        return value.div_(self.schedule.samples), chain.theta(state)


@final
@dataclass(frozen=True)
class FMDDirectional:
    """One directional derivative of the outer objective by one tangent: O(n) memory at any p.

    Args:
        dynamics: the step rule: Langevin, or any `Rule`.
        schedule: B and M.
    """

    dynamics: Langevin | Rule
    schedule: Schedule
    name: str = field(default="FMD, one direction", kw_only=True)

    def derivative(
        self, problem: BilevelProblem, lam: Lam, direction: Lam, draws: Draws = SEED_ZERO
    ) -> float:
        """The derivative along `direction`, ⟨dF/dλ, u⟩, of F = (1/M) Σ_{m>B} f(λ, θ^m).

        Args:
            problem: the bilevel problem.
            lam: λ, shape (p,).
            direction: u, shape (p,).
            draws: the run's randomness.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem, λ or u that cannot be used.
            DivergenceError: if the chain diverges.
        """
        check_arguments(problem, lam, draws)
        check_like("direction", direction, lam, "lam")
        lam, direction = lam.detach(), direction.detach()
        chain = chain_of(problem, self.dynamics, draws, lam, self.schedule.steps)
        state = chain.lifted(chain.initial(lam))
        tangent = chain.lifted(initial_jvp(problem.initial, lam, direction))
        total = torch.zeros((), dtype=lam.dtype, device=lam.device)
        for t in range(1, self.schedule.steps + 1):
            batch = chain.inner_batch(t - 1)
            gradient, change = gradient_and_tangent(
                problem.inner, lam, chain.theta(state), batch, direction, chain.theta(tangent)
            )
            state, tangent = chain.following_with_tangents(
                lam, state, gradient, t - 1, direction, tangent, change
            )
            if self.schedule.sampled(t):
                batch, at = chain.outer_batch(t), chain.theta(state)
                total = total + outer_directional(
                    problem.outer, lam, at, batch, direction, chain.theta(tangent)
                )
        value = total / self.schedule.samples
        # The one look: the answer is a number of Python's.
        answer = number(value, without_numbers=0.0)
        if not math.isfinite(answer):
            estimand = self.schedule.estimand
            # The replay finds the step, and .value raises with it.
            steps = self.schedule.steps
            with counting() as cost:
                theta = chain.theta(state)
                conclude(value.expand(1), estimand, theta, chain, lam, steps, cost).value  # noqa: B018
        return answer
