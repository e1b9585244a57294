"""The package's own exceptions.

Each derives from the built-in exception a caller would expect, and each message names the argument,
says what it must be, what it got, and what to do.
"""

import math
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
