"""A linear system solved along the inner run: one Hessian product a step.

Estimates the implicit hypergradient f_λ − f_θ·H⁻¹·C by carrying, beside the iterate, a running
solution q of H q = f_θ, all of it evaluated at the same θ^{m−1},

    θ^m = θ^{m−1} − γ ∂_θ L_T(θ^{m−1}) + √ε z^{m−1},
    q_m = q_{m−1} − α (H(θ^{m−1}) q_{m−1} − f_θ(θ^{m−1})),
    h   = (1/M) Σ_{m>B} (∂_λ f(θ^{m−1}) − q_{m−1}·C(θ^{m−1})),

so that one graph gives the gradient, H q and q·C. It is the fully simultaneous iteration of Dagréou et
al. (2022) run for many inner steps at a fixed λ. With a given diagonal D in the place of H no
Hessian product is left, and the limit is f_λ − f_θ·D⁻¹·C.

Error at θ*: at most ‖C‖‖q*‖ρ^m with ρ = max|1 − α·eig(H)|, geometric, where HPO-SGLD's sum, which is
this iteration without H q, grows linearly. Unbiased products (minibatches) leave a floor of O(α). Memory
O(n + p).

Claims: field-running-solve.
"""

from dataclasses import dataclass, field, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from refblo.chain import Chain, Langevin, Schedule
from refblo.cost import counting
from refblo.derivatives import (
    inner_gradient_and_mixed,
    inner_gradient_and_products,
    outer_gradients,
    outer_theta_gradient,
)
from refblo.errors import ArgumentError, require
from refblo.estimators.protocol import conclude
from refblo.estimators.warm import WarmEstimator, WarmState
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam
from refblo.validation import check_arguments


@final
@dataclass(frozen=True, eq=False)
class RunningSolve(WarmEstimator):
    """Implicit differentiation by a running solve, with the Hessian or with a diagonal model of it.

    Args:
        dynamics: γ (or ε), τ and κ.
        schedule: B and M.
        solve_step: α > 0; γ when it is left out, which is stable whenever the inner run is.
        diagonal: D, shape (n,), positive; None for the Hessian itself.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    dynamics: Langevin
    schedule: Schedule
    solve_step: float | None = None
    diagonal: Float[Tensor, " n"] | None = None
    name: str = field(default="running solve", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        if self.solve_step is not None:
            remedy = "choose α < 2/λ_max(H)"
            require(self.solve_step > 0, "solve_step", "be positive", self.solve_step, remedy)
        if self.diagonal is not None:
            smallest = float(self.diagonal.min())
            remedy = "give a model of the curvature"
            require(smallest > 0, "diagonal", "have positive entries", smallest, remedy)

    @property
    def rate(self) -> float:
        """α."""
        return self.dynamics.step_size if self.solve_step is None else self.solve_step

    def step(
        self, chain: Chain, lam: Lam, carried: WarmState, m: int
    ) -> tuple[WarmState, Lam | None]:
        """From (θ^{m−1}, q_{m−1}) to (θ^m, q_m), with the hypergradient at the former when m > B."""
        problem, theta, q = chain.problem, carried.theta, carried.q
        sampled, batch = self.schedule.sampled(m), chain.outer_batch(m - 1)
        direct: Lam | None = None
        indirect: Lam | None = None
        if sampled:
            direct, slope = outer_gradients(problem.outer, lam, theta, batch)
        else:
            slope = outer_theta_gradient(problem.outer, lam, theta, batch)
        if self.diagonal is None:
            gradient, products = inner_gradient_and_products(
                problem.inner, lam, theta, chain.inner_batch(m - 1)
            )
            curved, indirect = products(q)
        else:
            gradient, mixed = inner_gradient_and_mixed(
                problem.inner, lam, theta, chain.inner_batch(m - 1)
            )
            curved = self.diagonal * q
            indirect = mixed(q) if sampled else None
        value = direct - indirect if direct is not None and indirect is not None else None
        advanced = chain.advance(theta, gradient, m - 1)
        q = q.sub(curved - slope, alpha=self.rate)
        return replace(carried, theta=advanced, q=q), value

    @override
    def advance(
        self, problem: BilevelProblem, lam: Lam, carried: WarmState, draws: Draws = SEED_ZERO
    ) -> tuple[Hypergradient, WarmState]:
        check_arguments(problem, lam, draws)
        if self.diagonal is not None and self.diagonal.shape != carried.theta.shape:
            raise ArgumentError(
                f"diagonal must have the shape of theta {tuple(carried.theta.shape)}, got "
                f"{tuple(self.diagonal.shape)}; give one curvature for each entry of theta"
            )
        lam = lam.detach()
        problem = problem.starting_at(carried.theta)
        chain = Chain(problem, self.dynamics, draws)
        with counting() as cost:
            h = torch.zeros_like(lam)
            for m in range(1, self.schedule.steps + 1):
                carried, value = self.step(chain, lam, carried, m)
                if value is not None:
                    h.add_(value, alpha=1 / self.schedule.samples)
        steps = self.schedule.steps
        return conclude(h, self.estimand, carried.theta, chain, lam, steps, cost), carried
