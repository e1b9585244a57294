"""HPO-SGLD: the forward recursion of Kim and Hospedales, Algorithm 1.

Estimates the pathwise mean d/dλ (1/M) Σ_{m>B} f(λ, θ^m) (and, through it, the Gibbs hypergradient) by

    θ^m = θ^{m−1} − (ε/2) ∂_θE(λ, θ^{m−1}) + √ε z^{m−1},  z ~ N(0, κ²I)                  (24)
    g_m = g_{m−1} + (θ^m − θ^{m−1})·f_θθ(θ^{m−1})·dθ⁰/dλ
                  + (ε/2) f_θ(θ^m)·(B(θ^{m−1}) + A(θ^{m−1})·dθ⁰/dλ)                       (22)
    h  += (∂_λ f(θ^m) + g_m) / M   for m > B                                            (25)

with A = −∂²E/∂θ², B = −∂²E/∂λ∂θ, E = L_T/τ.

Bias: every transition Jacobian is replaced by the identity. At a fixed number of steps the relative
error is O(√ε) with noise and a curved f, O(ε) without; at a fixed horizon mγ it does not vanish.
Cost per step with θ⁰ independent of λ: one ∂_θ L_T, one ∂_θ f, one mixed product; memory O(n + p).

Claims: alg-1, eq-22, eq-24, eq-25, text-two-iterates, thm-1, thm-3.
"""

from dataclasses import dataclass, field
from typing import final

import torch
from typing_extensions import override

from refblo.chain import Chain, Langevin, Schedule
from refblo.cost import counting
from refblo.derivatives import (
    hessian_product_function,
    initial_vjp,
    inner_gradient_and_mixed,
    inner_gradient_and_products,
    outer_gradients_if_any,
    outer_theta_gradient,
)
from refblo.estimators.protocol import Estimator, conclude
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem, FixedInitial, Separable
from refblo.types import Estimand, Hypergradient, Lam, Theta
from refblo.validation import check_arguments


@final
@dataclass(frozen=True, eq=False)
class State:
    """What the next step needs: the iterate θ^m and the recursion g_m ≈ f_θ(θ^m)·dθ^m/dλ."""

    theta: Theta
    g: Lam


@final
@dataclass(frozen=True)
class HPOSGLD(Estimator):
    """HPO-SGLD, Algorithm 1 of Kim and Hospedales.

    Args:
        dynamics: γ (or ε), τ and κ.
        schedule: B and M.

    Example:
        >>> import torch
        >>> from refblo.problem import BilevelProblem, FixedInitial, Separable
        >>> problem = BilevelProblem(
        ...     inner=lambda lam, theta, _: 0.5 * (theta - lam).square().sum(),
        ...     outer=lambda lam, theta, _: theta.sum(),
        ...     initial=FixedInitial(torch.zeros(1, dtype=torch.float64)),
        ... )
        >>> method = HPOSGLD(Langevin(step_size=0.1), Schedule.last(20))
        >>> lam = torch.ones(1, dtype=torch.float64)
        >>> round(method.estimate(problem, lam).value.item(), 12)  # the unrolled truth is 0.878
        2.0
    """

    dynamics: Langevin
    schedule: Schedule
    name: str = field(default="HPO-SGLD", kw_only=True)

    @property
    def estimand(self) -> Estimand:
        """The pathwise mean; with one sample, the unrolled hypergradient."""
        return self.schedule.estimand

    def init(self, chain: Chain, lam: Lam) -> State:
        """(θ⁰, g_0 = f_θ(θ⁰)·dθ⁰/dλ)."""
        theta = chain.initial(lam)
        if isinstance(chain.problem.initial, FixedInitial):
            return State(theta, torch.zeros_like(lam))
        slope = outer_theta_gradient(chain.problem.outer, lam, theta, chain.outer_batch(0))
        # A copy: `_run` overwrites it, and the caller's function may keep what it returned.
        return State(theta, initial_vjp(chain.problem.initial, lam, slope).clone())

    def step(self, chain: Chain, lam: Lam, state: State, m: int) -> tuple[State, Lam | None]:
        """(24) and (22): from (θ^{m−1}, g_{m−1}) to (θ^m, g_m).

        Returns:
            The next state, and ∂_λ f(θ^m) when m > B and f depends on λ.
        """
        theta, changes, direct = self._transition(chain, lam, state.theta, m)
        g = state.g
        for change, factor in changes:
            g = g.add(change, alpha=factor)
        return State(theta, g), direct

    def run(self, chain: Chain, lam: Lam, state: State, h: Lam, transitions: range) -> State:
        """The state after some transitions; what is averaged, g_m + ∂_λ f(θ^m), is added to h."""
        return self._run(chain, lam, State(state.theta, state.g.clone()), h, transitions)

    def _run(self, chain: Chain, lam: Lam, state: State, h: Lam, transitions: range) -> State:
        """As `run`, but `state.g` is overwritten: a new vector of 10⁶ entries takes three times as long."""
        theta, g = state.theta, state.g
        for m in range(transitions.start + 1, transitions.stop + 1):
            theta, changes, direct = self._transition(chain, lam, theta, m)
            for change, factor in changes:
                g.add_(change, alpha=factor)
            del changes, change  # two vectors less while the next gradients are computed
            if self.schedule.sampled(m):
                h.add_(g)
            if direct is not None:
                h.add_(direct)
        return State(theta, g)

    def _transition(
        self, chain: Chain, lam: Lam, old: Theta, m: int
    ) -> tuple[Theta, list[tuple[Lam, float]], Lam | None]:
        """θ^m, what is added to g_{m−1} with its factors, and ∂_λ f(θ^m) when m > B and f depends on λ."""
        problem, gamma = chain.problem, self.dynamics.step_size
        batch = chain.inner_batch(m - 1)
        if isinstance(problem.initial, FixedInitial):
            gradient, mixed = inner_gradient_and_mixed(problem.inner, lam, old, batch)
            own = isinstance(
                problem.inner, Separable
            )  # then the gradient is a sum of two, a new vector
            theta = chain.advance(old, gradient, m - 1, overwrite=own)
            del gradient  # n numbers less while the outer loss's graph is alive
            slope, direct = self._outer(chain, lam, theta, m)
            # (ε/2) B = −γ C.
            return theta, [(mixed(slope), -gamma)], direct
        gradient, products = inner_gradient_and_products(problem.inner, lam, old, batch)
        theta = chain.advance(old, gradient, m - 1)
        slope, direct = self._outer(chain, lam, theta, m)
        # (ε/2) A = −γ H: one double backward gives both products.
        hessian_slope, slope_mixed = products(slope)
        outer_hessian = hessian_product_function(problem.outer, lam, old, chain.outer_batch(m - 1))
        through_initial = outer_hessian(theta - old).sub(hessian_slope, alpha=gamma)
        changes = [
            (slope_mixed, -gamma),
            (initial_vjp(problem.initial, lam, through_initial), 1.0),
        ]
        return theta, changes, direct

    def _outer(self, chain: Chain, lam: Lam, theta: Theta, m: int) -> tuple[Theta, Lam | None]:
        """f_θ(θ^m), and f_λ(θ^m) where there is one and it is averaged."""
        outer, batch = chain.problem.outer, chain.outer_batch(m)
        if self.schedule.sampled(m):
            direct, slope = outer_gradients_if_any(outer, lam, theta, batch)
            return slope, direct
        return outer_theta_gradient(outer, lam, theta, batch), None

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        lam = lam.detach()
        chain = Chain(problem, self.dynamics, draws)
        with counting() as cost:
            h = torch.zeros_like(lam)
            state = self._run(chain, lam, self.init(chain, lam), h, range(self.schedule.steps))
            h.div_(self.schedule.samples)
        return conclude(h, self.estimand, state.theta, chain, lam, self.schedule.steps, cost)
