"""How often work is counted: not at all if it is done once for a problem, or several times at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_paused: ContextVar[bool] = ContextVar("refblo_paused", default=False)


@contextmanager
def uncounted() -> Iterator[None]:
    """Nothing inside the block is counted, so that a first run costs what every later one does."""
    token = _paused.set(True)
    try:
        yield
    finally:
        _paused.reset(token)


def paused() -> bool:
    """Whether counting is paused here."""
    return _paused.get()


_times: ContextVar[int] = ContextVar("refblo_times", default=1)


@contextmanager
def repeated(times: int) -> Iterator[None]:
    """Every kernel inside the block counts so many times: for equal parts of which one alone is run.

    On tensors without numbers a kernel call takes far longer than it stands for.
    """
    token = _times.set(times * _times.get())
    try:
        yield
    finally:
        _times.reset(token)


def times() -> int:
    """How many times a kernel counts here."""
    return _times.get()
