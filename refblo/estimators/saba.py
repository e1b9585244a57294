"""SABA: SOBA with SAGA's variance reduction over a finite sum.

Estimates the implicit hypergradient f_λ − f_θ·H⁻¹·C of L_T = (1/m) Σ_i L_i (Dagréou et al. 2022). A table
keeps, for each of the m inner blocks, the last ∂_θ L_i, H_i q and q·C_i. With block i drawn at random,

    direction = new_i − table_i + (1/m) Σ_j table_j,      then table_i = new_i,

takes the place of each of the three in SOBA. Unbiased, and its variance vanishes at the solution: a constant
step converges to the truth itself, geometrically, where SOBA's noise leaves a floor O(α). With one block
it is SOBA exactly. Memory O(m(n + p)). The outer loss is taken in full.

Claims: field-running-solve.
"""

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from refblo.cost import counting
from refblo.derivatives import inner_gradient_and_products, outer_gradients
from refblo.errors import ArgumentError
from refblo.estimators._single_loop import check_count, check_rate, concluded
from refblo.estimators.warm import WarmEstimator, WarmState, at_rest
from refblo.noise import SEED_ZERO, Draws, Stream
from refblo.problem import BilevelProblem, FullBatch, Minibatches
from refblo.types import Batch, Estimand, Hypergradient, Lam, Theta
from refblo.validation import check_arguments


@final
@dataclass(frozen=True)
class SABA(WarmEstimator):
    """The variance-reduced single-loop algorithm.

    Args:
        step_size: γ > 0, of θ.
        solve_step: α > 0, of q.
        blocks: m ≥ 1: the inner population is cut into m blocks of equal size; 1 for full batches.
        steps: simultaneous steps a call; 1 as published.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    step_size: float
    solve_step: float
    blocks: int = 1
    steps: int = 1
    name: str = field(default="SABA", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        check_rate("step_size", self.step_size)
        check_rate("solve_step", self.solve_step)
        check_count("blocks", self.blocks)
        check_count("steps", self.steps)

    @override
    def begin(self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO) -> WarmState:
        """θ⁰(λ), q = 0, and the table filled there, at the cost of one pass over the blocks.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used, or one
                that cannot be cut into so many blocks of equal size.
        """
        start = at_rest(problem, lam, draws)
        rows = [
            self._inner(problem, lam.detach(), start.theta, start.q, i) for i in range(self.blocks)
        ]
        gradient, curved, mixed = (torch.stack(column) for column in zip(*rows, strict=True))
        table = {"gradient": gradient, "curved": curved, "mixed": mixed}
        return WarmState(start.theta, start.q, table)

    @override
    def advance(
        self, problem: BilevelProblem, lam: Lam, carried: WarmState, draws: Draws = SEED_ZERO
    ) -> tuple[Hypergradient, WarmState]:
        check_arguments(problem, lam, draws)
        lam, theta, q, value = lam.detach(), carried.theta, carried.q, lam
        # Tables are carried as values: what is written here is a copy.
        tables = [carried.recall(name).clone() for name in ("gradient", "curved", "mixed")]
        with counting() as cost:
            for step in range(self.steps):
                i = self._drawn(draws, step)
                new = self._inner(problem, lam, theta, q, i)
                averaged = []
                for table, row in zip(tables, new, strict=True):
                    averaged.append(row - table[i] + table.mean(dim=0))
                    table[i] = row
                gradient, curved, mixed = averaged
                direct, slope = outer_gradients(problem.outer, lam, theta, None)
                value = direct - mixed
                theta = theta.sub(gradient, alpha=self.step_size)
                q = q.sub(curved - slope, alpha=self.solve_step)
        memory = dict(zip(("gradient", "curved", "mixed"), tables, strict=True))
        return concluded(value, WarmState(theta, q, memory), self.steps, cost)

    def _drawn(self, draws: Draws, step: int) -> int:
        """The block of one step, uniform."""
        if self.blocks == 1:
            return 0
        return int(draws.indices(Stream.INNER_BATCH, step, self.blocks, 1)[0])

    def _block(self, problem: BilevelProblem, i: int) -> Batch:
        """The indices of block i."""
        source = problem.inner_batches
        if self.blocks == 1 and isinstance(source, FullBatch):
            return None
        if not isinstance(source, Minibatches) or source.population % self.blocks != 0:
            got = source.population if isinstance(source, Minibatches) else type(source).__name__
            raise ArgumentError(
                f"problem.inner_batches must be Minibatches of a population that is a multiple of "
                f"{self.blocks} blocks, got {got}; change the number of blocks"
            )
        size = source.population // self.blocks
        return torch.arange(i * size, (i + 1) * size)

    def _inner(
        self, problem: BilevelProblem, lam: Lam, theta: Theta, q: Theta, i: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """∂_θ L_i, H_i q and q·C_i."""
        batch = self._block(problem, i)
        gradient, products = inner_gradient_and_products(problem.inner, lam, theta, batch)
        curved, mixed = products(q)
        return gradient, curved, mixed
