"""The run-time checker that the import hook puts around refblo's functions."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import beartype
from beartype.roar import BeartypeDecorHintPep673Exception

P = ParamSpec("P")
R = TypeVar("R")

# The numeric tower lets an `int` stand where a `float` is annotated, as it may for mypy.
_CONFIGURATION = beartype.BeartypeConf(is_pep484_tower=True)


def check(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments and the result of a function against its annotations.

    A function that is defined inside another one goes unchecked: it would be decorated again at every
    call of the outer one, which costs more than a step of a small chain. What it is given reaches it
    through functions that are checked. So does a method annotated with `Self`, which has no meaning
    yet while the methods of its class are decorated one by one; mypy checks those.
    """
    if "<locals>" in function.__qualname__:
        return function
    try:
        return beartype.beartype(conf=_CONFIGURATION)(function)
    except BeartypeDecorHintPep673Exception:
        return function
