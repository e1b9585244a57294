"""What is tried on the pretend device: every estimator of the registry with each of its options."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import final

import torch

from refblo.chain import Schedule
from refblo.estimators import (
    HPOSGLD,
    AmIGO,
    Compiled,
    CovarianceIdentity,
    Estimator,
    IFTConjugateGradient,
    IFTNeumann,
)
from refblo.estimators.registry import estimator_classes
from refblo.problems.case import Case
from refblo.testing.cases import SMALL_CASES, CaseBuilder
from refblo.testing.instances import examples

FIXED, MOVING = SMALL_CASES[0], SMALL_CASES[1]
"""A quadratic with a fixed initial point, and one whose initial point depends on λ."""


@final
@dataclass(frozen=True)
class Stop:
    """A line at which an estimator looks at numbers to decide whether it goes on."""

    file: str
    line: str


_CG = (
    Stop("refblo/estimators/ift.py", "if decide(torch.sqrt(at.square) <= floor"),
    Stop("refblo/estimators/ift.py", "if not decide(curvature > 0"),
)

STOPS: Mapping[str, tuple[Stop, ...]] = {
    "IFTConjugateGradient": _CG,
    "IMAML": _CG,
    "BoundedImplicit": _CG,
    "CovarianceIdentity": _CG,
    "AmIGO, CG": (*_CG, Stop("refblo/estimators/amigo.py", "begun = decide(torch.any(q != 0)")),
    "AdaptiveImplicit": (
        *_CG,
        Stop("refblo/estimators/adaptive.py", "number(vector_norm(vector)"),
        Stop("refblo/estimators/protocol.py", "return decide(finite(vector)"),
    ),
    "Compiled, IFTConjugateGradient": (
        Stop("refblo/estimators/_kernels.py", "numbers(told, without_numbers="),
    ),
}
"""Estimators with a data-dependent stop, and the lines that stop. All others look at nothing."""

WITHOUT = frozenset({"CovarianceIdentity, control=0"})
"""Settings of those classes that have no such stop."""


def stops(name: str) -> tuple[Stop, ...]:
    """The lines at which a case may look at numbers."""
    if name in WITHOUT:
        return ()
    return STOPS.get(name, STOPS.get(class_of(name), ()))


def class_of(name: str) -> str:
    """The class of a case."""
    return name.split(",", maxsplit=1)[0]


def short(build: CaseBuilder, dtype: torch.dtype = torch.float64) -> Case:
    """The problem with as few steps as have a burn-in and a sample."""
    return replace(build(dtype), schedule=Schedule(1, 1))


@cache
def fixed() -> Case:
    """The problem with a fixed initial point."""
    return short(FIXED)


def _further() -> Iterator[tuple[str, Estimator]]:
    """Settings that change which lines run, and that no option alone gives."""
    rule, schedule = fixed().dynamics, fixed().schedule
    yield "AmIGO, CG", AmIGO(rule, 2, 2)
    yield "CovarianceIdentity, control=0", CovarianceIdentity(rule, schedule, 3, control=0)
    for method in (
        HPOSGLD(rule, schedule),
        IFTNeumann(rule, 2, rule.step_size, 3),
        IFTConjugateGradient(rule, 2, 3),
    ):
        yield f"Compiled, {type(method).__name__}", Compiled(method, 2, "eager")


@cache
def cases() -> dict[str, Estimator]:
    """Every case by name; the first of each class is named as the class is."""
    walked = [pair for cls in estimator_classes() for pair in examples(cls, fixed())]
    return dict([*walked, *_further()])


def is_quick(name: str) -> bool:
    """Whether the quick suite runs a case: one of each class, and those without their class's stop."""
    return "," not in name or name in WITHOUT
