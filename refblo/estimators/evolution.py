"""Evolution strategies: a hypergradient from values alone.

Estimates the gradient of the smoothed program F_σ(λ) = E F(λ + σz), z ~ N(0, I), with
F(λ) = (1/M) Σ_{m>B} f(λ, θ^m(λ)) and the chain's noise frozen (Nesterov and Spokoiny 2017; E.4 of Kim and
Hospedales), as the mean over N draws of

    printed      z F(λ + σz) / σ,
    baseline     z (F(λ + σz) − F(λ)) / σ,
    antithetic   z (F(λ + σz) − F(λ − σz)) / (2σ).

All three are unbiased for ∇F_σ, and ‖∇F_σ − ∇F‖ ≤ (σ/2) L (p + 3)^{3/2}; the bias is (σ²/2) ∇ΔF + O(σ⁴), zero
for a quadratic F. With g, A the gradient and Hessian of a quadratic F and a = F(λ)/σ (0 for the baseline),

    N Var h_i = a² + 2aσ(tr A/2 + A_ii) + ‖g‖² + g_i² + (σ²/4)((tr A)² + 2‖A‖² + 4 tr A A_ii + 8 (A²)_ii),

(‖·‖ Frobenius), and ‖g‖² + g_i² alone for pairs: without a baseline it is (F/σ)² that one sees.
Memory O(n + p) with one sample at a time.

Claims: field-es, text-es-variance.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from refblo.chain import Chain, Langevin, Schedule
from refblo.cost import counting
from refblo.derivatives import batched_inner_gradients, batched_outer_values
from refblo.errors import require, require_member
from refblo.estimators.protocol import Estimator, conclude
from refblo.noise import SEED_ZERO, Draws, Stream
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam, Theta
from refblo.validation import check_arguments


class Variant(Enum):
    """What stands in the place of F(λ + σz)/σ."""

    PRINTED = "F(λ + σz)/σ"
    BASELINE = "(F(λ + σz) − F(λ))/σ"
    ANTITHETIC = "(F(λ + σz) − F(λ − σz))/(2σ)"


@final
@dataclass(frozen=True)
class EvolutionStrategies(Estimator):
    """The mean of z times a difference of values.

    The losses must work under `torch.func.vmap`. The chain's noise is the same for every z.

    Args:
        dynamics: the step rule.
        schedule: B and M.
        sigma: σ > 0.
        draws_of_z: N ≥ 1; pairs take two runs each.
        variant: which difference.
        block: how many runs go on at once; memory is O((n + p)·block).

    Raises:
        ArgumentError: if one of them is out of range.
        ArgumentTypeError: if the variant is no `Variant`.
    """

    dynamics: Langevin
    schedule: Schedule
    sigma: float
    draws_of_z: int
    variant: Variant = Variant.ANTITHETIC
    block: int = 64
    name: str = field(default="ES", kw_only=True)

    def __post_init__(self) -> None:
        require_member("variant", self.variant, Variant)
        require(self.sigma > 0, "sigma", "be positive", self.sigma, "give a larger number")
        require(
            self.draws_of_z >= 1,
            "draws_of_z",
            "be at least 1",
            self.draws_of_z,
            "give a larger number",
        )
        require(self.block >= 1, "block", "be at least 1", self.block, "give a larger number")

    @property
    def estimand(self) -> Estimand:
        """The pathwise mean; with one sample, the unrolled hypergradient."""
        return self.schedule.estimand

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        lam = lam.detach().contiguous()
        chain = Chain(problem, self.dynamics, draws)
        with counting() as cost:
            value = self.samples(problem, lam, draws).mean(dim=0)
            _, theta = self._values(chain, lam[None])
        return conclude(value, self.estimand, theta[0], chain, lam, self.schedule.steps, cost)

    def samples(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Float[Tensor, "N p"]:
        """The N independent estimates whose mean is the estimate."""
        chain = Chain(problem, self.dynamics, draws)
        z = draws.normal(Stream.DIRECTIONS, 0, lam.new_empty(self.draws_of_z, lam.numel()))
        # A product over a λ that is spread out in memory sums in another order.
        lam = lam.contiguous()
        ahead = self._all_values(chain, lam + self.sigma * z)
        if self.variant is Variant.ANTITHETIC:
            behind = self._all_values(chain, lam - self.sigma * z)
            return z * ((ahead - behind) / (2 * self.sigma))[:, None]
        if self.variant is Variant.BASELINE:
            ahead = ahead - self._values(chain, lam[None])[0]
        return z * (ahead / self.sigma)[:, None]

    def _all_values(self, chain: Chain, lams: Float[Tensor, "k p"]) -> Float[Tensor, " k"]:
        """F at each row, a block at a time."""
        parts = torch.split(lams, self.block)
        return torch.cat([self._values(chain, part)[0] for part in parts])

    def _values(
        self, chain: Chain, lams: Float[Tensor, "k p"]
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, "k n"]]:
        """F at each row, and θ^T."""
        problem = chain.problem
        thetas: Float[Tensor, "k n"] = torch.stack([chain.initial(lam) for lam in lams])
        total = lams.new_zeros(len(lams))
        for t in range(1, self.schedule.steps + 1):
            batch = chain.inner_batch(t - 1)
            gradients = batched_inner_gradients(problem.inner, lams, thetas, batch)
            thetas = thetas - self.dynamics.step_size * gradients + self._noise(chain, thetas[0], t)
            if self.schedule.sampled(t):
                values = batched_outer_values(problem.outer, lams, thetas, chain.outer_batch(t))
                total = total + values / self.schedule.samples
        return total, thetas

    def _noise(self, chain: Chain, like: Theta, t: int) -> Theta:
        """√ε κ z^{t−1}, shape (n,), shared by all runs."""
        scale = self.dynamics.noise
        if scale == 0:
            return torch.zeros_like(like)
        return scale * chain.draws.normal(Stream.LANGEVIN, t - 1, like)
