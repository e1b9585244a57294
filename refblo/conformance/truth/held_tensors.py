"""Which tensors of a small dtype a caller's functions hold, by the caller's own names."""

import torch
from torch import Tensor

from refblo.conformance.truth.program import Program
from refblo.conformance.truth.referred import held

_SHOWN = 5


def small_tensors(program: Program, dtype: torch.dtype) -> str:
    """The names of tensors of a dtype that the functions of a program refer to, for a message; or ""."""
    functions = [program.transition, program.outer]
    if program.losses is not None:
        functions = [program.losses.inner, program.losses.outer]
    names: dict[str, None] = {}
    for function in functions:
        for name, value in held(function):
            if name and isinstance(value, Tensor) and value.dtype is dtype:
                names[name] = None
    shown = list(names)[:_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
