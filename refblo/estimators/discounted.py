"""The recursion of HPO-SGLD with a scalar model of the curvature in the place of none.

Estimates the implicit hypergradient f_λ − f_θ·H⁻¹·C with the memory and, up to one Hessian product a
call, the cost of HPO-SGLD. Where (22) of Kim and Hospedales replaces the transition Jacobian I − γH by
the identity, so that its sum grows without limit, here it is replaced by (1 − γħ)I:

    g_m = (1 − γħ) g_{m−1} − γ f_θ(θ^m)·C(θ^{m−1}),      w_m = 1 − (1 − γħ)^m,
    h   = (1/M) Σ_{m>B} (∂_λ f(θ^m) + g_m / w_m).

g_m is a discounted sum, and w_m the sum of its weights times ħ, by which it is divided so that it needs
no time to fill up (Kingma and Ba 2015 do so with Adam's moments).

Limit as θ^m → θ*: f_λ − f_θ·C/ħ, which is exact when H = ħI (always for n = 1), and otherwise off by at
most ‖f_θ‖‖C‖ max|1/h_i − 1/ħ| over the eigenvalues h_i of H. Without the division the approach is
geometric at the rate 1 − γħ. With ħ → 0 the undivided recursion is HPO-SGLD. Memory O(n + p).

Claims: field-discounted.
"""

from dataclasses import dataclass, field
from typing import final

import torch
from typing_extensions import override

from refblo.chain import Chain, Langevin, Schedule
from refblo.cost import counting
from refblo.derivatives import (
    hessian_product_function,
    inner_gradient_and_mixed,
    outer_gradients,
    outer_theta_gradient,
)
from refblo.errors import require
from refblo.estimators.protocol import Estimator, conclude
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam, Scalar, Theta
from refblo.validation import check_arguments

Factor = float | Scalar
"""A number; where it is measured a tensor, so that the host never looks at it."""


@final
@dataclass(frozen=True, eq=False)
class State:
    """What the next step needs: θ^m, g_m and the weight w_m."""

    theta: Theta
    g: Lam
    weight: Factor


@final
@dataclass(frozen=True)
class DiscountedHPOSGLD(Estimator):
    """HPO-SGLD's forward recursion, discounted by a scalar curvature.

    Args:
        dynamics: γ (or ε), τ and κ.
        schedule: B and M.
        curvature: ħ in (0, 1/γ); with None it is measured at the start of every call, by one Hessian
            product, as the Rayleigh quotient of H along f_θ.
        filled: divide by the weights' sum.

    Raises:
        ArgumentError: if the curvature is out of range.

    Example:
        >>> import torch
        >>> from refblo.problem import BilevelProblem, FixedInitial
        >>> problem = BilevelProblem(
        ...     inner=lambda lam, theta, _: 0.5 * (theta - lam).square().sum(),
        ...     outer=lambda lam, theta, _: theta.sum(),
        ...     initial=FixedInitial(torch.zeros(1, dtype=torch.float64)),
        ... )
        >>> method = DiscountedHPOSGLD(Langevin(step_size=0.1), Schedule.last(20))
        >>> lam = torch.ones(1, dtype=torch.float64)
        >>> round(method.estimate(problem, lam).value.item(), 12)  # HPO-SGLD says 2.0 here
        1.0
    """

    dynamics: Langevin
    schedule: Schedule
    curvature: float | None = None
    filled: bool = True
    name: str = field(default="HPO-SGLD, discounted", kw_only=True)
    estimand: Estimand = field(default=Estimand.IMPLICIT, init=False)

    def __post_init__(self) -> None:
        if self.curvature is not None:
            require(
                0 < self.curvature < 1 / self.dynamics.step_size,
                "curvature",
                f"lie in (0, 1/step_size = {1 / self.dynamics.step_size:g})",
                self.curvature,
                "lower the step size, or leave it out to have it measured",
            )

    def init(self, chain: Chain, lam: Lam) -> State:
        """(θ⁰, 0, 0)."""
        return State(chain.initial(lam), torch.zeros_like(lam), 0.0)

    def step(
        self, chain: Chain, lam: Lam, state: State, m: int, curvature: Factor
    ) -> tuple[State, Lam | None]:
        """From (θ^{m−1}, g_{m−1}) to (θ^m, g_m), with ∂_λ f(θ^m) when m > B."""
        problem, gamma = chain.problem, self.dynamics.step_size
        gradient, mixed = inner_gradient_and_mixed(
            problem.inner, lam, state.theta, chain.inner_batch(m - 1)
        )
        theta = chain.advance(state.theta, gradient, m - 1)
        batch, direct = chain.outer_batch(m), None
        if self.schedule.sampled(m):
            direct, slope = outer_gradients(problem.outer, lam, theta, batch)
        else:
            slope = outer_theta_gradient(problem.outer, lam, theta, batch)
        kept = 1 - gamma * curvature
        g = (kept * state.g).sub_(mixed(slope), alpha=gamma)
        return State(theta, g, kept * state.weight + gamma * curvature), direct

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        lam = lam.detach()
        chain = Chain(problem, self.dynamics, draws)
        with counting() as cost:
            state = self.init(chain, lam)
            curvature = self._curvature(chain, lam, state.theta)
            h = torch.zeros_like(lam)
            for m in range(1, self.schedule.steps + 1):
                state, direct = self.step(chain, lam, state, m, curvature)
                if direct is not None:
                    weight = state.weight if self.filled else 1.0
                    h.add_(direct).add_(state.g / weight)
            h.div_(self.schedule.samples)
        return conclude(h, self.estimand, state.theta, chain, lam, self.schedule.steps, cost)

    def _curvature(self, chain: Chain, lam: Lam, theta: Theta) -> Factor:
        """ħ, given or measured; measured, it is kept where the recursion is a contraction."""
        if self.curvature is not None:
            return self.curvature
        problem = chain.problem
        slope = outer_theta_gradient(problem.outer, lam, theta, chain.outer_batch(0))
        largest = 1 / self.dynamics.step_size
        product = hessian_product_function(problem.inner, lam, theta, chain.inner_batch(0))(slope)
        measured = torch.dot(slope, product) / torch.dot(slope, slope)
        # Where there is nothing to propagate (0/0) any contraction will do. Not positive means that the model
        # does not fit here; the floor bounds the sum's memory by the run's length, as the run itself would.
        usable = torch.where(torch.isfinite(measured), measured, largest / 2)
        return usable.clamp(largest / (10 * self.schedule.steps), largest / 2)
