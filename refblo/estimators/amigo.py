"""AmIGO: implicit differentiation whose two inner problems go on from where they were left.

Estimates the implicit hypergradient f_λ − f_θ·H⁻¹·C (Arbel and Mairal 2022, Algorithm 1). At outer step k

    θ_k = T steps of (24) from θ_{k−1},
    q_k = N steps on ½ q'Hq − q'f_θ from q_{k−1}:  q ← q − α (H q − f_θ)  (AmIGO-SGD),  or CG (AmIGO-CG),
    h_k = f_λ(θ_k) − q_k·C(θ_k).

Error of q after k calls at a fixed λ and θ*: at most ρ^{kN}‖q*‖ with ρ = max|1 − α·eig(H)| for AmIGO-SGD; in
the norm of H, at most c^k‖q*‖_H with c = 2r^N/(1 + r^{2N}), r = (√κ − 1)/(√κ + 1), for AmIGO-CG, which
forgets its directions between calls. Memory O(n + p).

Claims: field-aid, field-cg, field-running-solve, text-auxiliary-quadratic, text-warm-solve.
"""

from dataclasses import dataclass, field
from typing import final

import torch
from typing_extensions import override

from refblo.chain import Chain, Langevin
from refblo.cost import counting, decide
from refblo.derivatives import hessian_product_function, mixed_product, outer_gradients
from refblo.errors import require
from refblo.estimators.ift import IFTConjugateGradient
from refblo.estimators.protocol import conclude
from refblo.estimators.warm import WarmEstimator, WarmState
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam
from refblo.validation import check_arguments


@final
@dataclass(frozen=True)
class AmIGO(WarmEstimator):
    """AmIGO-SGD and AmIGO-CG.

    Args:
        dynamics: the step rule of the inner run.
        steps: T ≥ 1, inner steps a call.
        iterations: N ≥ 1, steps on the linear system a call.
        solve_step: α > 0 for AmIGO-SGD; None for AmIGO-CG.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    dynamics: Langevin
    steps: int
    iterations: int
    solve_step: float | None = None
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        require(
            self.steps >= 1, "steps", "be at least 1", self.steps, "run at least one inner step"
        )
        require(
            self.iterations >= 1,
            "iterations",
            "be at least 1",
            self.iterations,
            "give a larger number",
        )
        if self.solve_step is not None:
            remedy = "choose α < 2/λ_max(H)"
            require(self.solve_step > 0, "solve_step", "be positive", self.solve_step, remedy)

    @property
    def name(self) -> str:
        """The name in tables."""
        return "AmIGO-CG" if self.solve_step is None else "AmIGO-SGD"

    @override
    def advance(
        self, problem: BilevelProblem, lam: Lam, carried: WarmState, draws: Draws = SEED_ZERO
    ) -> tuple[Hypergradient, WarmState]:
        check_arguments(problem, lam, draws)
        lam, problem = lam.detach(), problem.starting_at(carried.theta)
        chain = Chain(problem, self.dynamics, draws)
        with counting() as cost:
            theta, q = chain.last(lam, self.steps), carried.q
            direct, slope = outer_gradients(
                problem.outer, lam, theta, chain.outer_batch(self.steps)
            )
            if self.solve_step is None:
                # CG from q is CG from zero on what q leaves.
                batch = chain.inner_batch(self.steps)
                hessian = hessian_product_function(problem.inner, lam, theta, batch)
                solver = IFTConjugateGradient(self.dynamics, self.steps, self.iterations)
                start = q
                begun = decide(torch.any(q != 0), without_numbers=True)
                rhs = slope - hessian(q) if begun else slope
                q = start + solver.solve(hessian, rhs).q
            else:
                for i in range(self.iterations):
                    # Every step of the stochastic solve sees a batch of its own.
                    batch = chain.inner_batch(self.steps + i)
                    hessian = hessian_product_function(problem.inner, lam, theta, batch)
                    q = q.sub(hessian(q) - slope, alpha=self.solve_step)
            last = chain.inner_batch(self.steps + self.iterations)
            value = direct - mixed_product(problem.inner, lam, theta, last, q)
        result = conclude(value, self.estimand, theta, chain, lam, self.steps, cost)
        return result, WarmState(theta, q)
