"""Work that is done once for a problem, and is therefore no part of what a run costs."""

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
