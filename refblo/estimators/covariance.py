"""The covariance identity: the Gibbs hypergradient itself, from samples.

Estimates, exactly differentiated under the integral, with p ∝ exp(−E), E = L_T/T and T = τκ²,

    d/dλ E_p[f] = E_p[∂_λ f] − Cov_p(f, ∂_λ E).

By parts, E_p[∂_θE g] = E_p[∂_θ g], so that for any fixed q the same is

    E_p[∂_λ f − q·C] − Cov_p(f − q·∂_θ L_T, ∂_λ L_T)/T:

the implicit formula averaged, and a covariance that makes it exact. With q = H⁻¹f_θ at a reference point
(where a descent without noise ends; CG solves) what is left of f in the covariance has no linear part, and at
low temperature most of the variance is gone. With q = 0 no second derivative is needed at all.

C chains of (24) run at once by vmap. In chain c both factors of the covariance are taken about means over
other chains, not the same ones, so that each chain's value is unbiased at stationarity for any M. The error
returned is the standard error over the chains: each counts as one sample, whatever its autocorrelation.

Bias: burn-in, geometric in B; the step, O(γ), none with `adjusted` (Metropolis-adjusted Langevin, Roberts and
Tweedie 1996). Variance O(1/(CM)). Memory O(C(n + p)).

Claims: eq-10, field-covariance.
"""

from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from refblo.chain import Chain, Langevin, Schedule
from refblo.cost import counting
from refblo.derivatives import (
    batched_inner_gradients,
    batched_lam_gradients,
    batched_mixed_products,
    batched_outer_values,
    hessian_product_function,
    outer_theta_gradient,
)
from refblo.errors import require
from refblo.estimators.ift import IFTConjugateGradient
from refblo.estimators.protocol import Estimator, conclude
from refblo.noise import SEED_ZERO, Draws, Stream
from refblo.problem import BilevelProblem, FullBatch
from refblo.types import Estimand, Hypergradient, Lam, Theta
from refblo.validation import check_arguments


@final
@dataclass(frozen=True)
class CovarianceIdentity(Estimator):
    """The Gibbs hypergradient by the covariance identity over parallel chains.

    The problem's batches must be full (a batch's noise would heat the chain) and its losses must work under
    `torch.func.vmap`. `Hypergradient.error` is the norm of the standard error.

    Args:
        dynamics: γ (or ε), τ and κ > 0.
        schedule: B and M, of each chain.
        chains: C ≥ 3.
        adjusted: accept or reject each step, so that the chain has no discretisation bias.
        control: CG iterations for q; 0 for q = 0, first derivatives alone.

    Raises:
        ArgumentError: if one of them is out of range.
    """

    dynamics: Langevin
    schedule: Schedule
    chains: int
    adjusted: bool = True
    control: int = 10
    name: str = field(default="covariance identity", kw_only=True)
    estimand: Estimand = field(default=Estimand.GIBBS, init=False)

    def __post_init__(self) -> None:
        require(self.chains >= 3, "chains", "be at least 3", self.chains, "give a larger number")
        require(
            self.control >= 0,
            "control",
            "be non-negative",
            self.control,
            "use 0 for no control variate",
        )
        scale = self.dynamics.noise_scale
        require(
            scale > 0,
            "dynamics.noise_scale",
            "be positive",
            scale,
            "choose a positive noise scale: the chain must sample",
        )

    @property
    def temperature(self) -> float:
        """τκ², what the chain samples at."""
        return self.dynamics.temperature * self.dynamics.noise_scale**2

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        full = all(isinstance(b, FullBatch) for b in (problem.inner_batches, problem.outer_batches))
        require(full, "problem", "use full batches", problem.name, "take the full-batch problem")
        lam = lam.detach()
        chain = Chain(problem, self.dynamics, draws)
        with counting() as cost:
            rows, thetas = self._run(chain, lam)
        error = (rows.var(dim=0) / self.chains).sum().sqrt()
        result = rows.mean(dim=0)
        steps = self.schedule.steps
        return conclude(result, self.estimand, thetas[0], chain, lam, steps, cost, error=error)

    def samples(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Float[Tensor, "C p"]:
        """The chains' estimates h_c, whose mean is the estimate."""
        return self._run(Chain(problem, self.dynamics, draws), lam.detach())[0]

    def _run(self, chain: Chain, lam: Lam) -> tuple[Float[Tensor, "C p"], Float[Tensor, "C n"]]:
        problem, count = chain.problem, self.chains
        q = self._control(chain, lam)
        lams = lam.expand(count, -1)
        thetas = chain.initial(lam).expand(count, -1).clone()
        state = self._look(problem, lams, thetas)
        direct = lam.new_zeros(count, lam.numel())
        energy, product = torch.zeros_like(direct), torch.zeros_like(direct)
        values = lam.new_zeros(count)
        for m in range(1, self.schedule.steps + 1):
            thetas, state = self._step(chain, lams, thetas, state, m - 1)
            if not self.schedule.sampled(m):
                continue
            value, by_lam = batched_lam_gradients(problem.outer, lams, thetas, None)
            _, slope = batched_lam_gradients(problem.inner, lams, thetas, None)
            direct += by_lam
            if q is not None:
                direct -= batched_mixed_products(problem.inner, lams, thetas, None, q)
                value = value - state[1] @ q
            energy += slope
            values += value
            product += value[:, None] * slope
        samples = self.schedule.samples
        f_mean, slope_mean = values[:, None] / samples, energy / samples
        (f_others, _), (_, slope_others) = _apart(f_mean), _apart(slope_mean)
        # (f − f̄_A)(∂_λL − mean_B): A, B and c are different chains, so that no product of means is biased.
        covariance = product / samples - f_others * slope_mean - (f_mean - f_others) * slope_others
        return direct / samples - covariance / self.temperature, thetas

    def _control(self, chain: Chain, lam: Lam) -> Theta | None:
        """Solve for q at the end of a descent of B steps; of no sample, so that it is fixed."""
        if self.control == 0:
            return None
        quiet = Langevin(self.dynamics.step_size)
        theta = Chain(chain.problem, quiet, chain.draws).last(lam, self.schedule.burn_in)
        slope = outer_theta_gradient(chain.problem.outer, lam, theta, None)
        hessian = hessian_product_function(chain.problem.inner, lam, theta, None)
        return IFTConjugateGradient(quiet, 1, self.control).solve(hessian, slope).q

    def _look(self, problem: BilevelProblem, lams: Tensor, thetas: Tensor) -> tuple[Tensor, Tensor]:
        """L_T and its gradient at every chain's point."""
        values = batched_outer_values(problem.inner, lams, thetas, None)
        return values, batched_inner_gradients(problem.inner, lams, thetas, None)

    def _step(
        self,
        chain: Chain,
        lams: Tensor,
        thetas: Tensor,
        state: tuple[Tensor, Tensor],
        step: int,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(24) for all chains, accepted or rejected where that is asked for."""
        gamma, scale = self.dynamics.step_size, self.dynamics.noise
        values, slopes = state
        noise = chain.draws.normal(Stream.LANGEVIN, step, thetas)
        proposed = thetas - gamma * slopes + scale * noise
        new = self._look(chain.problem, lams, proposed)
        if not self.adjusted:
            return proposed, new
        forward = (proposed - thetas + gamma * slopes).square().sum(dim=1)
        backward = (thetas - proposed + gamma * new[1]).square().sum(dim=1)
        # Both proposals are normal with variance scale².
        odds = (values - new[0]) / self.temperature + (forward - backward) / (2 * scale**2)
        drawn = chain.draws.uniform(
            Stream.DIRECTIONS, step, (self.chains,), 0.0, 1.0, device=odds.device
        ).to(odds.dtype)
        kept = (torch.log(drawn) < odds)[:, None]
        return (
            torch.where(kept, proposed, thetas),
            (
                torch.where(kept[:, 0], new[0], values),
                torch.where(kept, new[1], slopes),
            ),
        )


def _apart(values: Float[Tensor, "C d"]) -> tuple[Float[Tensor, "C d"], Float[Tensor, "C d"]]:
    """For each chain, means over two sets of other chains that have none in common."""
    count = len(values)
    half = (count - 1) // 2
    # Chains in a ring: the next `half` after each, and the `half` after those.
    sums = torch.cat([torch.zeros_like(values[:1]), torch.cat([values, values]).cumsum(dim=0)])
    ends = [sums[1 + shift : 1 + shift + count] for shift in (0, half, 2 * half)]
    return (ends[1] - ends[0]) / half, (ends[2] - ends[1]) / half
