"""The problems whose cost is measured."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from refblo.problem import BilevelProblem, FixedInitial, LamInitial, RegulariserProducts, Separable
from refblo.ravel import ravel_module
from refblo.types import Batch

WIDTHS = (784, 1024, 192, 10)


@final
@dataclass(frozen=True, eq=False)
class Setting:
    """A problem and a λ, shape (p,)."""

    problem: BilevelProblem
    lam: Tensor


def network() -> torch.nn.Module:
    """A perceptron with ReLU and 10⁶ parameters, initialised from a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[torch.nn.Module] = []
        for inputs, outputs in pairwise(WIDTHS):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])


def network_with_weight_decay(batch_size: int, closed_form: bool) -> Setting:
    """Eq. (1) of Kim and Hospedales: cross-entropy + Σ_j λ_j θ_j², one λ for each of 10⁶ parameters.

    Args:
        batch_size: rows that one gradient sees; drawn once, so that no data loading is timed.
        closed_form: declare the regulariser's derivatives, or leave them to autograd.
    """
    generator = torch.Generator().manual_seed(0)

    def rows() -> tuple[Tensor, Tensor]:
        return (
            torch.randn(batch_size, WIDTHS[0], generator=generator),
            torch.randint(0, WIDTHS[-1], (batch_size,), generator=generator),
        )

    (x, y), (validation_x, validation_y) = rows(), rows()
    theta, apply = ravel_module(network())
    products = RegulariserProducts(
        gradient=lambda lam, theta: torch.mul(lam, theta).mul_(2),
        mixed=lambda _, theta, v: torch.mul(theta, v).mul_(2),
    )
    inner = Separable(
        data=lambda theta, _: cross_entropy(apply(theta, x), y),
        regulariser=lambda lam, theta: (lam * theta.square()).sum(),
        products=products if closed_form else None,
    )
    problem = BilevelProblem(
        inner=inner,
        outer=lambda _, theta, __: cross_entropy(apply(theta, validation_x), validation_y),
        initial=FixedInitial(theta),
    )
    return Setting(problem, torch.full_like(theta, 1e-4))


def tiny(moving_start: bool = False) -> Setting:
    """A problem with p = 3, n = 5, whose run is nothing but calls."""
    K = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3)

    def inner(lam: Tensor, theta: Tensor, _: Batch) -> Tensor:
        return ((K @ lam).exp() * theta.square()).sum() + theta.sin().sum()

    def outer(_: Tensor, theta: Tensor, __: Batch) -> Tensor:
        return (theta - 1).square().sum()

    start = torch.ones(5, dtype=torch.float64)
    initial: FixedInitial | LamInitial = FixedInitial(start)
    if moving_start:
        initial = LamInitial(lambda lam: start + K @ lam, lambda _, v: v @ K, lambda _, u: K @ u)
    problem = BilevelProblem(inner, outer, initial)
    return Setting(problem, torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64))


def quadratic(n: int = 100, p: int = 60, device: str = "cpu") -> Setting:
    """½ θ·Hθ − θ·Cλ from θ⁰ = 0, f = ½ ‖θ − t‖²; eigenvalues of H in [1, 5.3]."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

    root, mixed, target = normal(n, n), normal(n, p) / n**0.5, normal(n)
    hessian = root @ root.T / n + torch.eye(n, dtype=torch.float64, device=device)
    problem = BilevelProblem(
        inner=lambda lam, theta, _: 0.5 * theta @ (hessian @ theta) - theta @ (mixed @ lam),
        outer=lambda _, theta, __: 0.5 * (theta - target).square().sum(),
        initial=FixedInitial(torch.zeros(n, dtype=torch.float64, device=device)),
    )
    return Setting(problem, normal(p))


def separable_numbers(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights in [0.5, 1.5], a target and a λ, each of shape (n,), for `separable`."""
    index = torch.linspace(0, 1, n, dtype=torch.float64)
    return 0.5 + index, (7 * index).cos(), (5 * index).sin()


def separable(n: int) -> Setting:
    """½ Σ w (θ − λ)² + 0.1 Σ cos θ from θ⁰ = 0, f = ½ ‖θ − t‖²; p = n, curvature in [0.4, 1.6].

    Every product costs a few passes over a vector, so that what is measured is calls at small n and
    memory traffic at large.
    """
    weights, target, lam = separable_numbers(n)
    problem = BilevelProblem(
        inner=lambda lam, theta, _: (
            0.5 * (weights * (theta - lam).square()).sum() + 0.1 * theta.cos().sum()
        ),
        outer=lambda _, theta, __: 0.5 * (theta - target).square().sum(),
        initial=FixedInitial(torch.zeros(n, dtype=torch.float64)),
    )
    return Setting(problem, lam)


PlainLoss = Callable[[Tensor, Tensor], Tensor]


def plain_losses(setting: Setting) -> tuple[PlainLoss, PlainLoss]:
    """(inner, outer) as functions of (lam, theta) alone, for code that knows nothing of refblo."""
    problem = setting.problem
    return (
        lambda lam, theta: problem.inner(lam, theta, None),
        lambda lam, theta: problem.outer(lam, theta, None),
    )
