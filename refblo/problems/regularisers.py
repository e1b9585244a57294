"""Weighted penalties, eq. (1) of Kim and Hospedales, with their derivatives in closed form.

R(λ, θ) = Σ_j λ_{g(j)} θ_j² or Σ_j λ_{g(j)} |θ_j|: one weight a parameter (g the identity) or one weight a
group. Entries of θ beyond the last one that has a group are not penalised.
"""

from collections.abc import Callable

import torch
from jaxtyping import Int64
from torch import Tensor

from refblo.problem import RegulariserProducts
from refblo.problems.namespace import A, ArrayNamespace
from refblo.types import Lam, Theta

Groups = Int64[Tensor, " k"]
Penalty = Callable[[A, A], A]


def weighted_l2(groups: A | None = None) -> Penalty[A]:
    """(lam, theta) ↦ Σ_j λ_{g(j)} θ_j².

    Args:
        groups: g as indices into λ for the first entries of θ, or None for one weight a parameter.
    """
    if groups is None:
        return lambda lam, theta: lam @ (theta * theta)
    count = groups.shape[0]
    return lambda lam, theta: lam[groups] @ (theta[:count] * theta[:count])


def weighted_l1(xp: ArrayNamespace[A], groups: A | None = None) -> Penalty[A]:
    """(lam, theta) ↦ Σ_j λ_{g(j)} |θ_j|; `groups` as in `weighted_l2`."""
    absolute = xp.abs
    if groups is None:
        return lambda lam, theta: lam @ absolute(theta)
    count = groups.shape[0]
    return lambda lam, theta: lam[groups] @ absolute(theta[:count])


def weighted_l2_products(groups: Groups | None = None) -> RegulariserProducts:
    """Of `weighted_l2`: ∂_θR = 2λ∘θ and v·∂²R/∂λ∂θ = 2θ∘v, gathered by groups."""
    return _products(lambda theta: 2 * theta, groups)


def weighted_l1_products(groups: Groups | None = None) -> RegulariserProducts:
    """Of `weighted_l1`: ∂_θR = λ∘sign(θ) and v·∂²R/∂λ∂θ = sign(θ)∘v, gathered by groups.

    At θ_j = 0 the derivative is taken to be 0, as autograd takes it.
    """
    return _products(torch.sign, groups)


def _products(slope: Callable[[Tensor], Tensor], groups: Groups | None) -> RegulariserProducts:
    """The products of Σ_j λ_{g(j)} r(θ_j), with r' given."""
    if groups is None:
        return RegulariserProducts(
            gradient=lambda lam, theta: slope(theta).mul_(lam),
            mixed=lambda _, theta, v: slope(theta).mul_(v),
        )
    count = groups.shape[0]

    def gradient(lam: Lam, theta: Theta) -> Theta:
        result = torch.zeros_like(theta)
        result[:count] = slope(theta[:count]).mul_(lam[groups])
        return result

    def mixed(lam: Lam, theta: Theta, v: Theta) -> Lam:
        terms = slope(theta[:count]).mul_(v[:count])
        return torch.zeros_like(lam).index_add_(0, groups, terms)

    return RegulariserProducts(gradient, mixed)
