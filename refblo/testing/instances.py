"""An instance of every estimator class, with hyperparameters that suit a problem.

A constructor's arguments are filled by their names, which are the same in every estimator. Each option, a
boolean or an `Enum`, is tried with each of its values.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from enum import Enum
from functools import lru_cache
from types import MappingProxyType

from refblo.contracts.bounded import quadratic_constants
from refblo.contracts.minimiser import minimum
from refblo.errors import ArgumentError
from refblo.estimators import RMD
from refblo.estimators.error_bound import Constants
from refblo.estimators.protocol import Estimator
from refblo.estimators.registry import EstimatorClass
from refblo.problems.case import Case


@lru_cache(maxsize=8)
def _constants(case: Case) -> Constants:
    return quadratic_constants(minimum(case))


ARGUMENTS: Mapping[str, Callable[[Case], object]] = MappingProxyType(
    {
        "chains": lambda _: 3,
        "constants": _constants,
        "draws_of_z": lambda _: 2,
        "dynamics": lambda case: case.dynamics,
        "error": lambda _: 0.1,
        "iterations": lambda _: 2,
        "method": lambda case: RMD(case.dynamics, case.schedule),
        "scale": lambda case: case.dynamics.step_size,
        "schedule": lambda case: case.schedule,
        "sigma": lambda _: 0.1,
        "solve_step": lambda case: case.dynamics.step_size,
        "step_size": lambda case: case.dynamics.step_size,
        "steps": lambda case: case.schedule.steps,
        "strength": lambda _: 1.0,
        "terms": lambda _: 2,
        # These have defaults, which would take long, or show too little of the method.
        "backend": lambda _: "eager",
        "momentum": lambda _: 0.5,
        "particles": lambda case: case.problem.initial(case.lam).numel(),
        "tangents": lambda _: 2,
    }
)
"""Argument of an estimator → its value for a problem. An argument of a new name adds its line."""

WITHOUT_NOISE = frozenset({"error"})
"""Arguments whose estimators want an inner run without noise."""


def example(cls: EstimatorClass, case: Case, *, shortest: bool = False) -> Estimator:
    """An instance of an estimator class for a problem.

    Args:
        cls: the class.
        case: the problem that its hyperparameters must suit.
        shortest: leave out every argument that has a default.

    Raises:
        ArgumentError: if an argument without a default has a name that `ARGUMENTS` does not have.
    """
    named = [each for each in _fields(cls) if each.init]
    for each in named:
        if _has_no_default(each) and each.name not in ARGUMENTS:
            raise ArgumentError(
                f"argument {each.name!r} of {cls.__name__} must be one of {', '.join(ARGUMENTS)}, or have a "
                f"default, got neither; add the line {each.name!r}: lambda case: VALUE, to ARGUMENTS in "
                "refblo/testing/instances.py"
            )
    known = {
        each.name: ARGUMENTS[each.name](case)
        for each in named
        if each.name in ARGUMENTS and (_has_no_default(each) or not shortest)
    }
    if "dynamics" in known and WITHOUT_NOISE & known.keys():
        known["dynamics"] = replace(case.dynamics, noise_scale=0.0)
    built: Estimator = cls(**known)
    return built


def examples(cls: EstimatorClass, case: Case) -> Iterator[tuple[str, Estimator]]:
    """An instance of a class, and one more for every other value of each of its options.

    Yields:
        A name such as "RMD" or "RMD, checkpointed=True", and the instance.
    """
    first = example(cls, case)
    yield cls.__name__, first
    for each in _fields(cls):
        now = getattr(first, each.name)
        if each.init and isinstance(now, bool | Enum):
            values = (False, True) if isinstance(now, bool) else tuple(type(now))
            for value in values:
                if value is not now:
                    shown = value.name.lower() if isinstance(value, Enum) else value
                    yield f"{cls.__name__}, {each.name}={shown}", _with(first, each.name, value)


def _with(estimator: Estimator, field: str, value: object) -> Estimator:
    given = {
        each.name: getattr(estimator, each.name) for each in _fields(type(estimator)) if each.init
    }
    changed: Estimator = type(estimator)(**{**given, field: value})
    return changed


def _fields(cls: EstimatorClass) -> tuple[Field[object], ...]:
    if not is_dataclass(cls):
        raise ArgumentError(
            f"an estimator must be a dataclass, got {cls.__name__}; decorate it with "
            "@dataclass(frozen=True)"
        )
    return fields(cls)


def _has_no_default(each: Field[object]) -> bool:
    return each.default is MISSING and each.default_factory is MISSING
