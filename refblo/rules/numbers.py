"""A number of a rule: a float, or a function of λ, or of λ and the step."""

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

from refblo.errors import ArgumentError, ArgumentTypeError, require, require_real

Number: TypeAlias = float | Callable[..., Any]
"""A float; or a function λ ↦ number or (λ, t) ↦ number, t counting from 0.

Its value is a float, a scalar tensor, or a number for each entry of θ.
"""


def check_number(
    name: str, number: object, remedy: str, *, positive: bool = True, below: float = math.inf
) -> None:
    """Raise unless it is a function, or a real number in its range.

    Raises:
        ArgumentTypeError: if it is neither.
        ArgumentError: if it is out of range, or a function of another number of arguments.
    """
    if is_function(number):
        arity(name, number)
        return
    require_real(name, number, f"{remedy}, or a function of lam", positive=positive)
    if below < math.inf:
        good = float(number) < below  # type: ignore[arg-type]  # it has just been checked
        require(good, name, f"lie in [0, {below:g})", number, f"{remedy}, or a function of lam")


def is_function(number: object) -> bool:
    """Whether a number is to be computed from λ."""
    return callable(number) and not isinstance(number, Tensor | type)


def arity(name: str, function: object) -> int:
    """1 for a function of λ, 2 for one of (λ, t).

    Raises:
        ArgumentError: if it is neither.
    """
    try:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]  # it is callable
    except (TypeError, ValueError):
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in kinds and p.default is p.empty]
    keyword = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    most = len([p for p in parameters if p.kind in kinds])
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    count = len(needed) if needed else (2 if several else min(most, 1))
    require(
        count in (1, 2) and not keyword,
        name,
        "be a function (lam) or (lam, t)",
        f"one that needs {len(needed) + len(keyword)} arguments",
        "give it these parameters (t counts the steps from 0)",
    )
    return count


def value_of(name: str, number: Number, lam: Any, step: int) -> Any:
    """The number at one λ and one step.

    Raises:
        ArgumentError: if it is a function of λ, and no λ is given.
    """
    if not is_function(number):
        return number
    if lam is None:
        raise ArgumentError(
            f"lam must be given because {name} is a function of it, got None; give the λ of the run"
        )
    function: Any = number
    return function(lam) if arity(name, number) == 1 else function(lam, step)


def check_value(name: str, value: object, size: int, least: float, below: float) -> None:
    """Raise unless what a function of λ returned is a number in [least, below), or one for each entry of θ.

    Raises:
        ArgumentTypeError: if it is no number.
        ArgumentError: if its size or its range is wrong.
    """
    what = "return a number, or one for each entry of theta"
    remedy = "check what the function returns"
    if isinstance(value, Tensor):
        if value.is_complex() or not value.is_floating_point():
            raise ArgumentTypeError(f"{name} must {what}, got a tensor of {value.dtype}; {remedy}")
        shape = tuple(value.shape)
        require(shape in ((), (size,)), name, what, f"shape {shape} for {size} entries", remedy)
        low, high = float(value.detach().min()), float(value.detach().max())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low = high = float(value)
    else:
        raise ArgumentTypeError(f"{name} must {what}, got {type(value).__name__}; {remedy}")
    good = math.isfinite(low) and math.isfinite(high) and low >= least and high < below
    above = "and finite" if below == math.inf else f"and below {below:g}"
    got = low if low == high else f"numbers from {low} to {high}"
    require(
        good, name, f"be at least {least:g} {above}", got, "choose another lam, or another function"
    )
