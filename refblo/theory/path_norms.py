"""‖H‖ and ‖C‖ along a chain, with H = ∂_θ² L_T and C = ∂_λ∂_θ L_T.

Small H and C are formed; the norms of large ones come from power iterations. `walk` measures them at every
iterate, and `refblo.theory.recursion_bound` bounds the recursion's error by them.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from refblo.chain import Chain
from refblo.derivatives import (
    gradient_and_tangent,
    gradient_and_tangents,
    gradient_not_finite,
    mixed_product,
    outer_gradients,
)
from refblo.errors import DivergenceError, LossError
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem
from refblo.types import Batch, Lam, Theta

DENSE_LIMIT = 128
"""n and p up to which H and C are formed; above it their norms come from power iterations."""

POWER_ITERATIONS = 40


@final
@dataclass(frozen=True)
class IterateNorms:
    """Sizes of the derivatives of ∂_θ L_T at one iterate.

    Attributes:
        hessian: ‖H‖.
        mixed: ‖C‖.
        smallest: the smallest eigenvalue of H; NaN where H was not formed.
    """

    hessian: float
    mixed: float
    smallest: float


def _require_finite(gradient: Tensor, derivative: Tensor, index: int) -> None:
    """Raise where ∂_θ L_T or its derivative is not finite at a finite iterate.

    Raises:
        LossError: saying which, and at which step.
    """
    for what, values in (("∂_θ inner", gradient), ("the derivative of ∂_θ inner", derivative)):
        if not bool(values.isfinite().all()):
            raise LossError(gradient_not_finite(what, f"step {index}"))


def _dense_norms(
    problem: BilevelProblem, lam: Lam, theta: Theta, batch: Batch, index: int
) -> IterateNorms:
    p, n = lam.numel(), theta.numel()
    eye = torch.eye(p + n).to(theta)
    gradient, both = gradient_and_tangents(problem.inner, lam, theta, batch, eye[:p], eye[p:])
    _require_finite(gradient, both, index)
    mixed, hessian = both[:, :p], both[:, p:]
    eigenvalues = torch.linalg.eigvalsh(hessian)
    return IterateNorms(
        float(eigenvalues.abs().max()),
        float(torch.linalg.matrix_norm(mixed, ord=2)),
        float(eigenvalues.min()),
    )


def _power_norms(
    problem: BilevelProblem, lam: Lam, theta: Theta, batch: Batch, draws: Draws, index: int
) -> IterateNorms:
    """Largest singular values by power iteration: from below, converging to them."""
    direction = draws.normal(Stream.DIRECTIONS, 0, theta)
    zero_lam, zero_theta = torch.zeros_like(lam), torch.zeros_like(theta)
    largest = 0.0
    for _ in range(POWER_ITERATIONS):
        direction = direction / direction.norm()
        gradient, product = gradient_and_tangent(
            problem.inner, lam, theta, batch, zero_lam, direction
        )
        _require_finite(gradient, product, index)
        largest = float(product.norm())
        if largest == 0:
            break
        direction = product
    towards = draws.normal(Stream.DIRECTIONS, 1, lam)
    mixed = 0.0
    for _ in range(POWER_ITERATIONS):
        towards = towards / towards.norm()
        _, image = gradient_and_tangent(problem.inner, lam, theta, batch, towards, zero_theta)
        mixed = float(image.norm())
        if mixed == 0:
            break
        towards = mixed_product(problem.inner, lam, theta, batch, image)
    return IterateNorms(largest, mixed, float("nan"))


@final
@dataclass(frozen=True, eq=False)
class PathNorms:
    """What the bound on the recursion's error needs of one chain.

    Attributes:
        slopes: ∂_θ f at θ⁰ … θ^T.
        direct: ‖∂_λ f‖ there.
        norms: of the derivatives of ∂_θ L_T there.
    """

    slopes: list[Tensor]
    direct: list[float]
    norms: list[IterateNorms]


def walk(chain: Chain, lam: Lam, steps: int, dense: bool, draws: Draws) -> PathNorms:
    """Run a chain and measure at every iterate.

    Args:
        chain: the chain.
        lam: λ.
        steps: T.
        dense: whether H and C are formed, which up to `DENSE_LIMIT` entries is cheaper than power iterations.
        draws: of the first directions of the power iterations.

    Raises:
        DivergenceError: if the chain leaves the finite numbers.
        LossError: if a derivative of the inner loss is not finite at a finite iterate.
    """
    problem = chain.problem
    slopes, direct, norms = [], [], []
    for index, theta in enumerate(chain.iterates(lam, steps)):
        batch = chain.inner_batch(min(index, steps - 1))
        # A loss that overflows at a finite theta ends the chain at the next step.
        loss = problem.inner(lam, theta, batch)
        if not bool(torch.isfinite(theta).all() & torch.isfinite(loss)):
            raise DivergenceError(
                f"the inner chain left the finite numbers at step {index}; lower the step size",
                index,
            )
        by_lam, by_theta = outer_gradients(problem.outer, lam, theta, chain.outer_batch(index))
        slopes.append(by_theta)
        direct.append(float(by_lam.norm()))
        if dense:
            norms.append(_dense_norms(problem, lam, theta, batch, index))
        else:
            norms.append(_power_norms(problem, lam, theta, batch, draws, index))
    return PathNorms(slopes, direct, norms)
