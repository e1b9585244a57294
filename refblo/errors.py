"""The package's own exceptions.

Each derives from the built-in exception a caller would expect, and each message names the argument,
says what it must be, what it got, and what to do.
"""

import math
from collections.abc import Collection, Sequence
from enum import Enum
from numbers import Integral, Real


class RefbloError(Exception):
    """Base of every exception that refblo raises on purpose."""


class ArgumentError(RefbloError, ValueError):
    """An argument has a value, a shape or a device that the call cannot work with."""


class ArgumentTypeError(RefbloError, TypeError):
    """An argument has a type or a dtype that the call cannot work with."""


class LossError(RefbloError, ValueError):
    """A user's inner or outer loss is not a function that has a hypergradient."""


class MissingProductError(RefbloError, RuntimeError):
    """A second-order product that the estimator needs cannot be formed for this problem."""


class DivergenceError(RefbloError, ArithmeticError):
    """A chain or a series left the finite numbers; carries the step at which it did."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class MissingExtraError(RefbloError, ImportError):
    """An optional dependency is needed for what was asked."""


class OracleError(RefbloError, ArithmeticError):
    """An oracle cannot answer: what is asked for does not exist here, or it could not be certified."""


class ResumeError(RefbloError, RuntimeError):
    """A saved state cannot be gone on from: it belongs to another run, or it is damaged."""


def difference(missing: Sequence[str], unexpected: Sequence[str]) -> str:
    """What was got instead of the names that are wanted, for after "got": `["x"] but no ["y"]`.

    Args:
        missing: names that are wanted and were not given.
        unexpected: names that were given and are not wanted; one of the two has an entry.
    """
    if missing and unexpected:
        return f"{listed(unexpected)} but no {listed(missing)}"
    return f"no {listed(missing)}" if missing else f"{listed(unexpected)} as well"


def listed(names: Sequence[str]) -> str:
    """At most six names in a row, then how many more there are."""
    shown = names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
    return ", ".join(shown)


def require(condition: bool, argument: str, must: str, got: object, remedy: str) -> None:
    """Raise an `ArgumentError` in the house's one form unless the condition holds.

    Raises:
        ArgumentError: naming the argument, what it must be, what it got and what to do.
    """
    if not condition:
        raise ArgumentError(f"{argument} must {must}, got {got}; {remedy}")


def require_integer(argument: str, got: object, least: int, remedy: str) -> None:
    """Raise unless a number is an integer of at least `least`.

    Raises:
        ArgumentTypeError: if it is no integer.
        ArgumentError: if it is too small.
    """
    if isinstance(got, bool) or not isinstance(got, Integral):
        raise ArgumentTypeError(f"{argument} must be an integer, got {got!r}; {remedy}")
    require(int(got) >= least, argument, f"be at least {least}", got, remedy)


def require_one_of(argument: str, got: object, known: Collection[str]) -> None:
    """Raise unless a name is one of those that are known.

    Raises:
        ArgumentTypeError: if it is no string.
        ArgumentError: if it is none of them.
    """
    choices = ", ".join(repr(name) for name in known)
    if not isinstance(got, str):
        raise ArgumentTypeError(f"{argument} must be one of {choices}, got {got!r}; choose one")
    require(got in known, argument, f"be one of {choices}", repr(got), "choose one")


def require_member(argument: str, got: object, kind: type[Enum]) -> None:
    """Raise unless a choice is a member of its enum.

    Raises:
        ArgumentTypeError: if it is none; the message names them all.
    """
    if not isinstance(got, kind):
        choices = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
        raise ArgumentTypeError(f"{argument} must be one of {choices}, got {got!r}; choose one")


def require_real(argument: str, got: object, remedy: str, positive: bool = True) -> None:
    """Raise unless a number is real, finite and positive (or not negative).

    Raises:
        ArgumentTypeError: if it is no real number.
        ArgumentError: if it is out of range.
    """
    if isinstance(got, bool) or not isinstance(got, Real):
        raise ArgumentTypeError(f"{argument} must be a real number, got {got!r}; {remedy}")
    number = float(got)
    inside = math.isfinite(number) and (number > 0 if positive else number >= 0)
    sign = "positive" if positive else "non-negative"
    require(inside, argument, f"be {sign} and finite", got, remedy)


def require_target(text: str) -> tuple[str, str]:
    """The module or file, and the function, of a target's name.

    Raises:
        ArgumentError: unless it reads package.module:function or file.py:function.
    """
    where, _, name = text.rpartition(":")
    if not where or not name.isidentifier():
        raise ArgumentError(
            f"TARGET must read package.module:function or file.py:function, got {text!r}; "
            "name the function after a colon"
        )
    return where, name
