"""A mistake and the message it must get; a good problem, and ways to spoil it."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast, final

import torch
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.errors import (
    RefbloError,
)
from refblo.estimators import (
    HPOSGLD,
    FMDDirectional,
)
from refblo.problem import (
    BilevelProblem,
    FixedInitial,
    LamInitial,
    RegulariserProducts,
    Separable,
)
from refblo.types import Batch

RULE, SCHEDULE = Langevin(0.1), Schedule.last(3)
NAN, INF = math.nan, math.inf


@final
@dataclass(frozen=True)
class Case:
    """A mistake, and the four parts of the message it must get."""

    mistake: Callable[[], object]
    error: type[RefbloError]
    argument: str
    must: str
    got: str
    remedy: str


def vector(*entries: float) -> Tensor:
    return torch.tensor(entries, dtype=torch.float64)


LAM = vector(0.5, -0.5)
THETA = vector(1.0, 2.0, 3.0)


def inner(lam: Tensor, theta: Tensor, _: Batch) -> Tensor:
    """½ ‖θ‖² e^{λ₁ + λ₂}."""
    return 0.5 * theta.square().sum() * lam.sum().exp()


def outer(_: Tensor, theta: Tensor, __: Batch) -> Tensor:
    """Σ cos θ."""
    return theta.cos().sum()


GOOD = BilevelProblem(inner, outer, FixedInitial(THETA))


def hypergradient(problem: BilevelProblem, lam: object = LAM) -> Tensor:
    return HPOSGLD(RULE, SCHEDULE).estimate(problem, cast("Tensor", lam)).value


def with_inner(loss: Callable[[Tensor, Tensor, Batch], object]) -> Callable[[], object]:
    wrong = cast("Callable[[Tensor, Tensor, Batch], Tensor]", loss)
    return lambda: hypergradient(replace(GOOD, inner=wrong))


def with_outer(loss: Callable[[Tensor, Tensor, Batch], object]) -> Callable[[], object]:
    wrong = cast("Callable[[Tensor, Tensor, Batch], Tensor]", loss)
    return lambda: hypergradient(replace(GOOD, outer=wrong))


def with_initial(theta: object) -> Callable[[], object]:
    return lambda: hypergradient(replace(GOOD, initial=FixedInitial(cast("Tensor", theta))))


def with_lam(lam: object) -> Callable[[], object]:
    return lambda: hypergradient(GOOD, lam)


def with_direction(direction: Tensor) -> Callable[[], object]:
    return lambda: FMDDirectional(RULE, SCHEDULE).derivative(GOOD, LAM, direction)


def with_products(gradient: Tensor, mixed: Tensor) -> Callable[[], object]:
    separable = Separable(
        data=lambda theta, _: theta.square().sum(),
        regulariser=lambda lam, theta: lam.sum() * theta.sum(),
        products=RegulariserProducts(lambda *_: gradient, lambda *_: mixed),
    )
    return lambda: hypergradient(replace(GOOD, inner=separable))


def changing(function: Callable[[float], object]) -> Callable[..., object]:
    """A function of how often it was called before."""
    calls = itertools.count()
    return lambda *_: function(float(next(calls)))


def counting_inner() -> Callable[[], object]:
    calls = itertools.count()
    return with_inner(lambda lam, theta, _: inner(lam, theta, None) + next(calls))


def counting_batches(name: str) -> Callable[[], object]:
    batches = changing(vector)
    return lambda: hypergradient(replace(GOOD, **{name: batches}))  # type: ignore[arg-type]  # a name chosen at run time


def empty_batches(name: str) -> Callable[[], object]:
    return lambda: hypergradient(replace(GOOD, **{name: lambda *_: torch.empty(0)}))  # type: ignore[arg-type]  # a name chosen at run time


def lam_initial(
    function: Callable[[Tensor], Tensor],
    vjp: Callable[[Tensor, Tensor], Tensor] | None = None,
    jvp: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Callable[[], object]:
    return lambda: hypergradient(replace(GOOD, initial=LamInitial(function, vjp, jvp)))
