"""A problem with a known Hessian that the tests of hypergradcheck share: five θ, three λ, eight steps."""

import torch
from torch import Tensor

from refblo import RMD, BilevelProblem, FixedInitial, Langevin, Schedule

N, P, T = 5, 3, 8
_DRAW = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=_DRAW)


FACTOR = normal(N, N)
HESSIAN = FACTOR @ FACTOR.T / N + torch.eye(N, dtype=torch.float64)
COUPLING, LAM, THETA = normal(N, P), normal(P), normal(N)


def inner(lam: Tensor, theta: Tensor) -> Tensor:
    quartic = 0.1 * lam[0].exp() * theta.pow(4).sum()
    return 0.5 * theta @ HESSIAN @ theta - theta @ (COUPLING @ lam) + quartic


def outer(lam: Tensor, theta: Tensor) -> Tensor:
    return theta.sin().sum() + 0.5 * lam.square().sum()


def problem() -> BilevelProblem:
    return BilevelProblem(
        lambda lam, theta, _: inner(lam, theta),
        lambda lam, theta, _: outer(lam, theta),
        FixedInitial(THETA),
    )


def unrolled(lam: Tensor, steps: int = T) -> Tensor:
    return RMD(Langevin(0.1), Schedule.last(steps)).estimate(problem(), lam).value
