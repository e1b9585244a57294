"""What the value of each option of `hypergradcheck` must be, whatever the estimand."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import cast

from torch import Tensor

from refblo.errors import ArgumentError, ArgumentTypeError, require
from refblo.rules.named import rule_of
from refblo.rules.numbers import check_number


def short(value: object) -> str:
    """A value as an error shows it."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    shown = repr(value)
    return shown if len(shown) <= 40 else type(value).__name__


def _integer(least: int) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ArgumentTypeError(
                f"{name} must be an integer, got {short(value)}; give a Python int"
            )
        require(int(value) >= least, name, f"be at least {least}", value, "give a larger number")

    return check


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentTypeError(
            f"{name} must be a real number, got {short(value)}; give a Python number"
        )
    return float(value)


def _positive(name: str, value: object) -> None:
    number = _number(name, value)
    good = math.isfinite(number) and number > 0
    require(good, name, "be positive and finite", value, "choose a positive number")


def _share(name: str, value: object) -> None:
    number = _number(name, value)
    good = 0 <= number < 1  # also false for what is no number
    require(
        good,
        name,
        "be non-negative, finite and below 1",
        value,
        "use a relative error such as 1e-6",
    )


def _seconds(name: str, value: object) -> None:
    number = _number(name, value)
    require(
        number >= 0,
        name,
        "be non-negative",
        value,
        "give a number of seconds, or 0 for no diagnosis",
    )


def _callable(name: str, value: object) -> None:
    if not callable(value):
        raise ArgumentTypeError(
            f"{name} must be a function, got {short(value)}; give the function itself"
        )


def _step_size(name: str, value: object) -> None:
    if isinstance(value, Tensor):
        raise ArgumentTypeError(
            f"{name} must be a real number or a function of lam, got {short(value)}; if it is λ, or depends "
            'on λ, give a function such as lambda lam: lam["lr"].exp()'
        )
    check_number(name, value, "give a Python number")


def _rule(_: str, value: object) -> None:
    rule_of(value)


def _tensor(name: str, value: object) -> None:
    good = isinstance(value, Tensor) and value.is_floating_point() and not value.is_meta
    if not good:
        got = value.dtype if isinstance(value, Tensor) else short(value)
        raise ArgumentTypeError(
            f"{name} must be a floating-point tensor, got {got}; give the noise that is added to theta at "
            "each step, of shape (steps, n)"
        )


def _sequence(name: str, value: object) -> None:
    listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    stacked = isinstance(value, Tensor) and value.ndim >= 1
    if not (listed or stacked):
        raise ArgumentTypeError(
            f"{name} must be a list with one batch for each step, got {short(value)}; make it a list"
        )
    if any(batch is None for batch in cast("Sequence[object]", value)):
        raise ArgumentError(
            f"{name} must hold a batch for each step, got None for one; give a batch for every step"
        )


def _bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{name} must be True or False, got {short(value)}; choose one")


VALUE_CHECKS: Mapping[str, Callable[[str, object], None]] = {
    "steps": _integer(1),
    "step_size": _step_size,
    "rule": _rule,
    "step": _callable,
    "read": _callable,
    "temperature": _positive,
    "noise": _tensor,
    "inner_batches": _sequence,
    "outer_batches": _sequence,
    "burn_in": _integer(0),
    "directions": _integer(1),
    "floor": _share,
    "tolerance": _share,
    "terms": _integer(0),
    "seed": _integer(0),
    "seeds": _integer(2),
    "stateful": _bool,
    "diagnosis_seconds": _seconds,
}
"""Each raises an `ArgumentError` or `ArgumentTypeError` that names the option and the value."""
