"""The time that a diagnosis may take: a deadline that every loop over steps and candidates looks at."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import final

from refblo.errors import RefbloError

_DEADLINE: ContextVar[float] = ContextVar("deadline", default=math.inf)


@final
class OutOfTime(RefbloError):  # noqa: N818  (it ends a family, and is no error of anybody's)
    """The time for the diagnosis is used up."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Let `check_time` raise once so many seconds have passed."""
    token = _DEADLINE.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def check_time(needed: float = 0.0) -> None:
    """Raise if the time is used up.

    Args:
        needed: the seconds that what comes next takes.

    Raises:
        OutOfTime: if it is, or would be by then.
    """
    if time.monotonic() + needed > _DEADLINE.get():
        raise OutOfTime("the time limit was reached")
