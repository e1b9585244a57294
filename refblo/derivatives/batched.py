"""Derivatives at many points at once, by vmap."""

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.cost import count
from refblo.derivatives.reverse import Inner
from refblo.types import Batch, Loss, Theta


def batched_inner_gradients(
    inner: Inner,
    lams: Float[Tensor, "k p"],
    thetas: Float[Tensor, "k n"],
    batch: Batch,
) -> Float[Tensor, "k n"]:
    """∂_θ L_T at k points (λ, θ) on the same batch, shape (k, n), by vmap."""
    count("inner_gradients", len(lams))

    def one(lam: Tensor, theta: Tensor) -> Tensor:
        gradient: Tensor = torch.func.grad(lambda t: inner(lam, t, batch))(theta)
        return gradient

    found: Tensor = torch.func.vmap(one)(lams.detach(), thetas.detach())
    return found


def batched_outer_values(
    outer: Loss, lams: Float[Tensor, "k p"], thetas: Float[Tensor, "k n"], batch: Batch
) -> Float[Tensor, " k"]:
    """f at k points (λ, θ) on the same batch, shape (k,), by vmap; a value is no derivative and free."""
    points = (lams.detach(), thetas.detach())
    found: Tensor = torch.func.vmap(lambda lam, theta: outer(lam, theta, batch))(*points)
    return found


def batched_lam_gradients(
    loss: Loss, lams: Float[Tensor, "k p"], thetas: Float[Tensor, "k n"], batch: Batch
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
    """A loss and its ∂_λ at k points (λ, θ) on the same batch, shapes (k,) and (k, p), by vmap."""
    count("outer_gradients", len(lams))

    def one(lam: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        gradient, value = torch.func.grad_and_value(lambda at: loss(at, theta, batch))(lam)
        return value, gradient

    values, gradients = torch.func.vmap(one)(lams.detach(), thetas.detach())
    return values, gradients


def batched_mixed_products(
    inner: Inner,
    lams: Float[Tensor, "k p"],
    thetas: Float[Tensor, "k n"],
    batch: Batch,
    v: Theta,
) -> Float[Tensor, "k p"]:
    """v·C at k points (λ, θ) on the same batch, shape (k, p), by vmap."""
    count("mixed_products", len(lams))

    def one(lam: Tensor, theta: Tensor) -> Tensor:
        def along(at: Tensor) -> Tensor:
            slope: Tensor = torch.func.grad(lambda t: inner(at, t, batch))(theta)
            return torch.dot(slope, v)

        product: Tensor = torch.func.grad(along)(lam)
        return product

    found: Tensor = torch.func.vmap(one)(lams.detach(), thetas.detach())
    return found
