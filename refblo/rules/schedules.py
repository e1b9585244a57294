"""Schedules: numbers of an inner optimiser that change from step to step, such as a decaying learning rate.

    SGD(lr=schedules.cosine(start=lambda lam: lam[0].exp(), steps=100))

A schedule is a function (lam, t), t counting from 0; `refblo.rules` takes one wherever it takes a number.
Each number of a schedule may itself be a function of λ: so the hypergradient by an initial learning rate, or
by its decay, is that of an ordinary rule.

The formulas equal those of the torch and optax schedules that the docstrings name.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from refblo.errors import require, require_integer
from refblo.rules.numbers import Number, check_number, value_of

Scheduled: TypeAlias = Callable[[Any, int], Any]
"""A function (λ, t) ↦ the number at step t."""


def exponential(start: Number, factor: Number) -> Scheduled:
    """start·factor^t: torch.optim.lr_scheduler.ExponentialLR, optax.exponential_decay.

    Raises:
        ArgumentError, ArgumentTypeError: if a number is negative.
    """
    _check(start=start, factor=factor)
    return lambda lam, t: value_of("start", start, lam, t) * value_of("factor", factor, lam, t) ** t


def linear(start: Number, end: Number, steps: int) -> Scheduled:
    """From start at step 0 along a line to end at step `steps`, and end from there on.

    torch.optim.lr_scheduler.LinearLR (of factors), optax.linear_schedule; with start = 0, a warm-up.

    Raises:
        ArgumentError, ArgumentTypeError: if a number is negative, or `steps` is less than 1.
    """
    _check(start=start, end=end)
    require_integer("steps", steps, 1, "give the number of steps")

    def at(lam: Any, t: int) -> Any:
        share = min(t, steps) / steps
        first, last = value_of("start", start, lam, t), value_of("end", end, lam, t)
        return (1 - share) * first + share * last

    return at


def cosine(start: Number, steps: int, end: Number = 0.0) -> Scheduled:
    """end + (start − end)(1 + cos(π t / steps)) / 2, and end from step `steps` on.

    torch.optim.lr_scheduler.CosineAnnealingLR up to its first minimum, optax.cosine_decay_schedule.

    Raises:
        ArgumentError, ArgumentTypeError: if a number is negative, or `steps` is less than 1.
    """
    _check(start=start, end=end)
    require_integer("steps", steps, 1, "give the number of steps")

    def at(lam: Any, t: int) -> Any:
        share = (1 + math.cos(math.pi * min(t, steps) / steps)) / 2
        first, last = value_of("start", start, lam, t), value_of("end", end, lam, t)
        return share * first + (1 - share) * last

    return at


def staircase(start: Number, factor: Number, every: int) -> Scheduled:
    """start·factor^⌊t / every⌋: torch.optim.lr_scheduler.StepLR.

    Raises:
        ArgumentError, ArgumentTypeError: if a number is negative, or `every` is less than 1.
    """
    _check(start=start, factor=factor)
    require_integer("every", every, 1, "give the number of steps between two changes")
    return lambda lam, t: (
        value_of("start", start, lam, t) * value_of("factor", factor, lam, t) ** (t // every)
    )


def joined(first: Scheduled, second: Scheduled, at: int) -> Scheduled:
    """`first` before step `at`; from there on `second`, which is called with t − `at`.

    torch.optim.lr_scheduler.SequentialLR, optax.join_schedules.

    Raises:
        ArgumentError: if a schedule is no function.
        ArgumentTypeError: if `at` is no integer.
    """
    for name, schedule in (("first", first), ("second", second)):
        given: object = schedule  # a caller may give anything
        require(
            callable(given), name, "be a function (lam, t)", given, "give one, such as linear(...)"
        )
    require_integer("at", at, 1, "give the step at which the second schedule begins")
    return lambda lam, t: first(lam, t) if t < at else second(lam, t - at)


def _check(**numbers: Number) -> None:
    for name, number in numbers.items():
        check_number(name, number, "give a number that is not negative", positive=False)
