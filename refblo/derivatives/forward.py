"""Forward mode, and forward over reverse: tangents of gradients, of losses and of the initial point."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.cost import count
from refblo.derivatives._calls import jvp
from refblo.problem import FixedInitial, Initial
from refblo.types import Batch, Lam, Loss, Scalar, Theta


def initial_jvp(initial: Initial, lam: Lam, u: Lam) -> Theta:
    """dθ⁰/dλ·u, shape (n,); zero when θ⁰ does not depend on λ."""
    if isinstance(initial, FixedInitial):
        return torch.zeros_like(initial.theta)
    if initial.jvp is not None:
        return initial.jvp(lam, u)
    return jvp(initial.function, (lam,), (u,))[1]


def gradient_and_tangent(
    inner: Loss, lam: Lam, theta: Theta, batch: Batch, u: Lam, s: Theta
) -> tuple[Theta, Theta]:
    """(∂_θ L_T, H s + C u), both of shape (n,), by forward over reverse.

    The tangent is that of the inner gradient along (u, s) in (λ, θ).
    """
    count("inner_gradients")
    count("hessian_products")
    count("mixed_products")

    def gradient(at_lam: Tensor, at_theta: Tensor) -> Tensor:
        by_theta: Tensor = torch.func.grad(lambda t: inner(at_lam, t, batch))(at_theta)
        return by_theta

    return jvp(gradient, (lam.detach(), theta.detach()), (u, s))


def gradient_and_tangents(
    inner: Loss,
    lam: Lam,
    theta: Theta,
    batch: Batch,
    u: Float[Tensor, "p k"],
    s: Float[Tensor, "n k"],
) -> tuple[Theta, Float[Tensor, "n k"]]:
    """`gradient_and_tangent` for k tangents at once: (∂_θ L_T, H S + C U)."""
    count("inner_gradients")
    count("hessian_products", s.shape[1])
    count("mixed_products", s.shape[1])
    lam, theta = lam.detach(), theta.detach()

    def gradient(at_lam: Tensor, at_theta: Tensor) -> Tensor:
        by_theta: Tensor = torch.func.grad(lambda t: inner(at_lam, t, batch))(at_theta)
        return by_theta

    def one(u_column: Tensor, s_column: Tensor) -> tuple[Tensor, Tensor]:
        return jvp(gradient, (lam, theta), (u_column, s_column))

    # Every column computes the same gradient; with no batched input it is computed once (and has no
    # column dimension of its own, so vmap can only expand it in front).
    values, tangents = torch.func.vmap(one, in_dims=(1, 1), out_dims=(0, 1))(u, s)
    return values[0], tangents


def function_and_tangents(
    function: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """A function's value and its derivative along one tangent, or along k that are columns."""
    if along[0].ndim == 1:
        return jvp(function, tuple(x.detach() for x in at), along)
    points = tuple(x.detach() for x in at)

    def one(*columns: Tensor) -> tuple[Tensor, Tensor]:
        return jvp(function, points, columns)

    values, tangents = torch.func.vmap(one, in_dims=1, out_dims=(0, 1))(*along)
    return values[0], tangents


def outer_directional(
    outer: Loss, lam: Lam, theta: Theta, batch: Batch, u: Lam, s: Theta
) -> Scalar:
    """∂_λ f·u + ∂_θ f·s, a scalar."""
    count("outer_gradients")
    return jvp(
        lambda at_lam, at_theta: outer(at_lam, at_theta, batch),
        (lam.detach(), theta.detach()),
        (u, s),
    )[1]
