"""Which tensors of a small dtype a caller's functions hold, by the caller's own names."""

import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from refblo.conformance.truth.guard import Guarded
from refblo.conformance.truth.program import Program

_DEPTH = 8  # functions within functions
_SHOWN = 5


def small_tensors(program: Program, dtype: torch.dtype) -> str:
    """The names of tensors of a dtype that the functions of a program refer to, for a message; or ""."""
    functions = [program.transition, program.outer]
    if program.losses is not None:
        functions = [program.losses.inner, program.losses.outer]
    names: dict[str, None] = {}
    for function in functions:
        names.update(dict.fromkeys(_held(function, dtype, _DEPTH)))
    shown = list(names)[:_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _held(function: Any, dtype: torch.dtype, depth: int) -> Iterator[str]:
    if isinstance(function, Guarded):
        function = function.function
    if depth == 0 or not isinstance(function, types.FunctionType):
        return
    code = function.__code__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    referred = {
        name: function.__globals__[name] for name in code.co_names if name in function.__globals__
    }
    for name, cell in cells:
        try:
            referred[name] = cell.cell_contents
        except ValueError:  # a variable that was never set
            continue
    for name, value in referred.items():
        if isinstance(value, Tensor):
            if value.dtype is dtype:
                yield name
        else:
            yield from _held(value, dtype, depth - 1)
