"""Random tangents: the unrolled hypergradient from directional derivatives, O(n + p) memory.

Estimates F'(λ), F = (1/M) Σ_{m>B} f(λ, θ^m(λ)) with the chain's noise frozen, from K directions u_k with
E[u u'] = I, each costing one tangent run (Silver et al. 2021; Baydin et al. 2022):

    h = (1/K) Σ_k u_k ⟨F'(λ), u_k⟩.

Unbiased for every K and every law of u. With independent directions the covariance of h is, exactly,

    Rademacher   (‖F'‖² I + F'⊗F' − 2 diag(F'²)) / K,      E‖h − F'‖² = (p − 1)‖F'‖² / K,
    Gaussian     (‖F'‖² I + F'⊗F') / K,                    E‖h − F'‖² = (p + 1)‖F'‖² / K,

and with K ≤ p orthogonal directions of length √p, uniformly rotated,

    orthogonal   E‖h − F'‖² = (p/K − 1)‖F'‖²: zero at K = p.

Antithetic pairs u, −u give nothing: h is even in u, so that K directions in pairs have the variance of
K/2. They are here because that is worth showing.

Claims: field-antithetic-tangents, field-random-tangents.
"""

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from refblo.chain import Chain, Langevin, Schedule
from refblo.cost import counting
from refblo.derivatives import gradient_and_tangents, initial_jvp, outer_gradients
from refblo.errors import require, require_member
from refblo.estimators.protocol import Estimator, conclude
from refblo.noise import SEED_ZERO, Draws, Stream
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient, Lam, Theta
from refblo.validation import check_arguments


class Law(Enum):
    """How the directions are drawn."""

    RADEMACHER = "independent signs"
    GAUSSIAN = "independent normal numbers"
    ORTHOGONAL = "orthogonal, of length √p, uniformly rotated"
    ANTITHETIC = "independent signs in pairs u, −u"


def directions(draws: Draws, law: Law, lam: Lam, count: int, group: int) -> Float[Tensor, "p k"]:
    """One group of directions, as columns.

    Args:
        draws: where they come from.
        law: their law.
        lam: shape (p,); gives p, dtype and device.
        count: how many; even for pairs, at most p for orthogonal ones.
        group: which group: different ones share no numbers.
    """
    p = lam.numel()
    if law is Law.ORTHOGONAL:
        basis, triangle = torch.linalg.qr(
            draws.normal(Stream.DIRECTIONS, group, lam.new_empty(p, p))
        )
        # With R's diagonal made positive, Q is uniformly distributed (Mezzadri 2007).
        rotated: Tensor = basis * torch.sign(torch.diagonal(triangle))
        return rotated[:, :count].mul(math.sqrt(p))
    drawn = count // 2 if law is Law.ANTITHETIC else count
    normal = draws.normal(Stream.DIRECTIONS, group, lam.new_empty(p, drawn))
    if law is Law.GAUSSIAN:
        return normal
    signs = torch.where(normal < 0, -torch.ones_like(normal), torch.ones_like(normal))
    return torch.cat([signs, -signs], dim=1) if law is Law.ANTITHETIC else signs


@final
@dataclass(frozen=True)
class RandomTangents(Estimator):
    """The mean over random directions of direction times directional derivative.

    `estimate` raises ArgumentError for more orthogonal directions than hyperparameters.

    Args:
        dynamics: the step rule.
        schedule: B and M.
        tangents: K ≥ 1, directions in a group; even where they come in pairs.
        law: how they are drawn; orthogonal ones need K ≤ p.
        groups: independent groups of K, over which the mean is taken as well.
        block: how many tangents are carried at once; memory is O((n + p)·block).

    Raises:
        ArgumentError: if one of them is out of range.
        ArgumentTypeError: if the law is no `Law`.
    """

    dynamics: Langevin
    schedule: Schedule
    tangents: int = 1
    law: Law = Law.RADEMACHER
    groups: int = 1
    block: int = 1
    name: str = field(default="random tangents", kw_only=True)

    def __post_init__(self) -> None:
        require_member("law", self.law, Law)
        require(
            self.tangents >= 1, "tangents", "be at least 1", self.tangents, "give a larger number"
        )
        require(self.block >= 1, "block", "be at least 1", self.block, "give a larger number")
        require(self.groups >= 1, "groups", "be at least 1", self.groups, "give a larger number")
        if self.law is Law.ANTITHETIC:
            even = self.tangents % 2 == 0
            require(even, "tangents", "be even for pairs", self.tangents, "add one")

    @property
    def estimand(self) -> Estimand:
        """The pathwise mean; with one sample, the unrolled hypergradient."""
        return self.schedule.estimand

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        with counting() as cost:
            rows, theta, chain = self._samples(problem, lam, draws)
            h = rows.mean(dim=0)
        return conclude(h, self.estimand, theta, chain, lam, self.schedule.steps, cost)

    def samples(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Float[Tensor, "groups p"]:
        """The groups' independent estimates, whose mean is the estimate.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: as `estimate`.
        """
        return self._samples(problem, lam, draws)[0]

    def _samples(
        self, problem: BilevelProblem, lam: Lam, draws: Draws
    ) -> tuple[Float[Tensor, "groups p"], Theta, Chain]:
        check_arguments(problem, lam, draws)
        lam, count, p = lam.detach(), self.tangents, lam.numel()
        if self.law is Law.ORTHOGONAL:
            require(count <= p, "tangents", f"be at most p = {p}", count, "lower it, or add groups")
        chain = Chain(problem, self.dynamics, draws)
        theta, total = chain.initial(lam), count * self.groups
        sums = lam.new_zeros(self.groups, p)
        for first in range(0, total, self.block):
            members = range(first, min(first + self.block, total))
            drawn = {k // count: None for k in members}
            sets = {g: directions(draws, self.law, lam, count, g) for g in drawn}
            block = torch.stack([sets[k // count][:, k % count] for k in members], dim=1)
            slopes, theta = self._run(chain, lam, block)
            owners = torch.arange(members.start, members.stop, device=lam.device) // count
            sums.index_add_(0, owners, (block * slopes).T, alpha=1 / count)
        return sums, theta, chain

    def _run(
        self, chain: Chain, lam: Lam, u: Float[Tensor, "p k"]
    ) -> tuple[Float[Tensor, " k"], Theta]:
        """The derivatives of F along the columns of u, and θ^T."""
        problem, gamma = chain.problem, self.dynamics.step_size
        theta = chain.initial(lam)
        tangent = torch.stack([initial_jvp(problem.initial, lam, c) for c in u.unbind(1)], dim=1)
        slopes = torch.zeros_like(u[0])
        for t in range(1, self.schedule.steps + 1):
            gradient, change = gradient_and_tangents(
                problem.inner, lam, theta, chain.inner_batch(t - 1), u, tangent
            )
            theta = chain.advance(theta, gradient, t - 1)
            tangent = tangent.sub(change, alpha=gamma)
            if self.schedule.sampled(t):
                direct, slope = outer_gradients(problem.outer, lam, theta, chain.outer_batch(t))
                slopes.add_(direct @ u + slope @ tangent, alpha=1 / self.schedule.samples)
        return slopes, theta
