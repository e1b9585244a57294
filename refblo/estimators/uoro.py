"""Unbiased online recurrent optimisation: one rank-one tangent, O(n + p) memory.

Estimates F'(λ), F = (1/M) Σ_{m>B} f(λ, θ^m(λ)) with the chain's noise frozen (Tallec and Ollivier 2018). The
tangent Z_t = (I − γH) Z_{t−1} − γC of forward mode is replaced by s_t w_t', with fresh signs ν_t,

    s_t = ρ (I − γH) s_{t−1} + σ ν_t,      w_t = w_{t−1}/ρ − γ (ν_t·C)/σ,      E[s_t w_t'] = Z_t,

    h = (1/M) Σ_{m>B} (f_λ(θ^m) + ⟨f_θ(θ^m), s_m⟩ w_m).

Unbiased for positive ρ and σ that are even in the signs. With ρ = σ = 1, M = 1, and the signs of all T
steps stacked, ⟨f_θ, s_T⟩ = a'ν and w_T = B'ν with a_t = A_T⋯A_{t+1} f_θ, B_t = −γC, so that the variance is

    Var h_j = ‖a‖²‖b_j‖² + (a'b_j)² − 2 Σ_i a_i² b_ij²,

which grows with T in ‖a‖² and ‖b‖² although Σ a_i b_ij does not. Balanced, with ρ² = ‖w‖/‖(I − γH)s‖ and
σ² = ‖γ ν·C‖/‖ν‖, it is smaller where the two factors differ in size.

Claims: field-uoro.
"""

from dataclasses import dataclass, field
from typing import final

import torch
from typing_extensions import override

from refblo.chain import Chain, Langevin, Schedule
from refblo.cost import counting
from refblo.derivatives import inner_gradient_and_products, outer_gradients
from refblo.errors import require
from refblo.estimators.protocol import Estimator, conclude
from refblo.noise import SEED_ZERO, Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial
from refblo.types import Estimand, Hypergradient, Lam, Scalar, Theta
from refblo.validation import check_arguments

REPLICAS = 2**32
"""Replica r draws its signs from step r·2³² on: no two replicas share numbers."""


Factor = float | Scalar
"""A positive number, where it depends on the run's numbers a tensor: the host never looks at it."""


@final
@dataclass(frozen=True, eq=False)
class State:
    """What the next step needs: θ^m and the rank-one tangent s_m w_m'."""

    theta: Theta
    s: Theta
    w: Lam


@final
@dataclass(frozen=True)
class UORO(Estimator):
    """Forward mode with a random rank-one tangent.

    θ⁰ must not depend on λ: a full Jacobian dθ⁰/dλ has no rank-one form.

    Args:
        dynamics: the step rule.
        schedule: B and M.
        balanced: scale the two factors so that they grow alike.
        replica: which independent signs, with the same noise of the chain.

    Raises:
        ArgumentError: if the replica is negative.
    """

    dynamics: Langevin
    schedule: Schedule
    balanced: bool = True
    replica: int = 0
    name: str = field(default="UORO", kw_only=True)

    def __post_init__(self) -> None:
        require(self.replica >= 0, "replica", "be non-negative", self.replica, "count from 0")

    @property
    def estimand(self) -> Estimand:
        """The pathwise mean; with one sample, the unrolled hypergradient."""
        return self.schedule.estimand

    def signs(self, draws: Draws, theta: Theta, m: int) -> Theta:
        """ν_m, shape (n,)."""
        normal = draws.normal(Stream.DIRECTIONS, self.replica * REPLICAS + m, theta)
        return torch.where(normal < 0, -torch.ones_like(normal), torch.ones_like(normal))

    def step(self, chain: Chain, lam: Lam, state: State, m: int) -> State:
        """From (θ^{m−1}, s_{m−1}, w_{m−1}) to (θ^m, s_m, w_m)."""
        problem, gamma = chain.problem, self.dynamics.step_size
        # H s and ν·C are products with different vectors: the two need a graph each.
        batch, nu = chain.inner_batch(m - 1), self.signs(chain.draws, state.theta, m)
        gradient, products = inner_gradient_and_products(problem.inner, lam, state.theta, batch)
        curved, _ = products(state.s)
        _, products = inner_gradient_and_products(problem.inner, lam, state.theta, batch)
        _, mixed = products(nu)
        pushed, fresh = state.s.sub(curved, alpha=gamma), mixed.mul(-gamma)
        rho, sigma = self._scales(pushed, state.w, nu, fresh)
        s, w = rho * pushed + sigma * nu, state.w / rho + fresh / sigma
        return State(chain.advance(state.theta, gradient, m - 1), s, w)

    def _scales(self, pushed: Theta, w: Lam, nu: Theta, fresh: Lam) -> tuple[Factor, Factor]:
        """ρ and σ; 1 where a factor vanishes, since then its scale does not matter."""
        if not self.balanced:
            return 1.0, 1.0
        of_w, of_s, of_fresh, of_nu = (torch.linalg.vector_norm(v) for v in (w, pushed, fresh, nu))
        one = torch.ones_like(of_w)
        rho = torch.where((of_w > 0) & (of_s > 0), (of_w / of_s).sqrt(), one)
        sigma = torch.where(of_fresh > 0, (of_fresh / of_nu).sqrt(), one)
        return rho, sigma

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        require(
            isinstance(problem.initial, FixedInitial),
            "problem.initial",
            "not depend on lam",
            type(problem.initial).__name__,
            "use RandomTangents instead",
        )
        lam = lam.detach()
        chain = Chain(problem, self.dynamics, draws)
        with counting() as cost:
            theta = chain.initial(lam)
            state = State(theta, torch.zeros_like(theta), torch.zeros_like(lam))
            h = torch.zeros_like(lam)
            for m in range(1, self.schedule.steps + 1):
                state = self.step(chain, lam, state, m)
                if self.schedule.sampled(m):
                    batch = chain.outer_batch(m)
                    direct, slope = outer_gradients(problem.outer, lam, state.theta, batch)
                    h.add_(direct).add_(torch.dot(slope, state.s) * state.w)
            h.div_(self.schedule.samples)
        return conclude(h, self.estimand, state.theta, chain, lam, self.schedule.steps, cost)
