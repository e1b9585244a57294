"""What torch imports at the first derivative by torch.func, imported a quarter faster."""

import gc
from contextlib import suppress
from functools import cache
from importlib import import_module

_LATE = ("torch._decomp.decompositions_for_jvp", "torch._dynamo")
"""Imported by torch itself: the first by forward mode, the second by `torch.func.grad`."""


@cache
def import_what_is_late() -> None:
    """Import them without garbage collection: a second of imports leaves nothing to collect.

    Each collection on the way goes through everything that was imported so far.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        for name in _LATE:
            with suppress(ImportError):  # another version of torch: it imports what it needs itself
                import_module(name)
    finally:
        if collects:
            gc.enable()
