"""Calls of a function at λ, near λ and at λ again: which answer is wrong first, and what changed between.

One call shows a wrong answer; three show a function that keeps something: a buffer that accumulates, a λ
remembered from the first call, an argument overwritten. `hypergradcheck` (all its estimands) and the
conformance suite make these calls and judge them here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, final, runtime_checkable

import numpy as np
from jaxtyping import Float64
from torch import Tensor

Array = np.ndarray
Vector = Float64[Array, " p"]


@runtime_checkable
class _Judgement(Protocol):
    """Whether an answer is right, and more."""

    @property
    def right(self) -> bool:
        """Whether nothing is accused."""


T = TypeVar("T")
J = TypeVar("J", bound=_Judgement)

FLOORS = {"float64": 1e-9, "float32": 1e-4}
"""The relative error below which nothing is accused, by the dtype that a function computes in."""

NUDGE = 0.01
"""How far the second λ is from the first, relative to each entry."""

_COARSE = 1e-10
"""The unit roundoff above which a dtype is judged by the floor of float32."""


@final
@dataclass(frozen=True, eq=False)
class Call:
    """One call and its answer.

    Attributes:
        lam: λ, shape (p,).
        answer: what was returned, shape (p,).
        start: the θ that the call started from, where that is not the problem's own.
    """

    lam: Vector
    answer: Vector
    start: Tensor | None = None

    @property
    def finite(self) -> bool:
        """Whether every entry of the answer is a number."""
        return bool(np.isfinite(self.answer).all())


@final
@dataclass(frozen=True, eq=False)
class Judged(Generic[T, J]):
    """The call that the verdict is about.

    Attributes:
        position: which call it is.
        truth: what it was judged by.
        judgement: how far off it is.
    """

    position: int
    truth: T
    judgement: J


def floor_of(ulp: float) -> float:
    """The default floor for a unit roundoff."""
    return FLOORS["float32" if ulp > _COARSE else "float64"]


def near(lam: Vector) -> Vector:
    """A point near λ: every entry moved by `NUDGE`, up and down in turn; small entries by more."""
    size = np.maximum(np.abs(lam), 0.1 * (np.abs(lam).max() or 1.0))
    signs = np.where(np.arange(lam.size) % 2 == 0, 1.0, -1.0)
    moved: Array = lam + NUDGE * size * signs
    return moved


def points(lam: Vector, further: Sequence[Vector] = ()) -> list[Vector]:
    """Where a function is called: at λ, near λ, at λ again, and at further points."""
    return [lam, near(lam), lam, *further]


def first_wrong(
    calls: Sequence[Call],
    truth_at: Callable[[Call], T | None],
    judge: Callable[[Call, T], J],
) -> Judged[T, J]:
    """The first call whose answer is wrong, or the first of all where none is.

    Args:
        calls: in the order in which they were made; at least one.
        truth_at: what a call is judged by; None where there is no truth at that point. The first call
            must have one.
        judge: compares an answer with its truth.
    """
    first: Judged[T, J] | None = None
    for position, call in enumerate(calls):
        truth = truth_at(call)
        if truth is None:
            continue
        judged = Judged(position, truth, judge(call, truth))
        if not judged.judgement.right:
            return judged
        first = first or judged
    if first is None:
        raise AssertionError("the first call has a truth")
    return first


@np.errstate(invalid="ignore", over="ignore")  # an answer may be infinite
def gap(calls: Sequence[Call]) -> float:
    """The largest distance between two answers at the same λ; 0 where no λ occurs twice.

    An answer that is not finite is at distance inf from every other.
    """
    largest = 0.0
    for i, one in enumerate(calls):
        for other in calls[:i]:
            same = np.array_equal(one.answer, other.answer, equal_nan=True)
            if np.array_equal(one.lam, other.lam) and not same:
                distance = float(np.linalg.norm(one.answer - other.answer))
                largest = max(largest, distance if math.isfinite(distance) else math.inf)
    return largest
