"""One lock for what torch keeps once for the whole process.

Forward-mode levels, the choice of the attention kernel and the recording of operations are global to the
process: two threads that use them at the same time change each other's derivatives.
"""

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

PROCESS_LOCK = RLock()
"""Held while a forward-mode level, or another setting of torch's that all threads share, is in use."""


def exclusive(function: Callable[P, T]) -> Callable[P, T]:
    """The function, run by one thread at a time; it may call others that are."""

    @wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> T:
        with PROCESS_LOCK:
            return function(*args, **kwargs)

    return locked
