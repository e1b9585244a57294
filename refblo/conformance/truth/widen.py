"""A caller's program in float64, made from one that is written in float32 or a smaller dtype.

The truth is computed by the program in float64, so that it has more digits than the hypergradient that is
judged. `Program.plain` keeps the caller's own program beside it: `refblo.conformance.truth.reference`
compares the two, and takes the caller's own if they differ by more than rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from refblo.conformance.truth.narrowing import Narrowing
from refblo.conformance.truth.program import Program
from refblo.conformance.truth.promotion import Arithmetic
from refblo.errors import LossError, OracleError

_WIDE = torch.float64


@final
@dataclass(frozen=True, eq=False)
class WidenedProgram:
    """A caller's program in the widest dtype that it can be run in.

    Attributes:
        program: in float64, or in the caller's dtype.
        dtype: the narrowest one that the caller's functions compute in.
        finding: what they compute in a narrower dtype than λ's, or why they could not be promoted; "" where
            they were, or need not be.
    """

    program: Program
    dtype: torch.dtype
    finding: str = ""


def in_float64(
    make: Callable[[Tensor], Program], lam: Tensor, try_out: Callable[[Program], None]
) -> WidenedProgram:
    """The program in float64, with the caller's own beside it (`Program.plain`).

    Where the caller's functions cannot be run with promoted tensors, the program with a float64 λ as
    torch itself promotes, and where that fails too, the program in the caller's dtype.

    Args:
        make: λ ↦ the program in λ's dtype.
        lam: λ in the caller's dtype.
        try_out: raises where a program cannot be run.

    Raises:
        Exception: what `make` and `try_out` raise for the caller's own dtype.
    """
    if lam.dtype is _WIDE:
        return _in_places_narrower(make(lam), try_out)
    dtype, wide = lam.dtype, lam.to(_WIDE)  # read here: inside, every dtype reads as float64
    try:
        with Arithmetic(dtype):
            program = make(wide)
        program = program.promoted(dtype)
        try_out(program)
    except Exception as error:  # whatever torch raises where dtypes do not fit together
        return _unpromoted(make, lam, try_out, _first_line(error))
    plain = make(lam)
    try:
        try_out(plain)
    except (
        OracleError
    ):  # its functions keep state or are random: promotion hides that and does not cure it
        raise
    except Exception:  # a program that runs in float64 alone, such as one that holds float64 data
        return WidenedProgram(program, dtype)
    return WidenedProgram(replace(program, plain=plain), dtype)


def _in_places_narrower(program: Program, try_out: Callable[[Program], None]) -> WidenedProgram:
    """A program with a float64 λ, which may compute in float32 where it combines the two dtypes."""
    narrowing = Narrowing(_WIDE)
    with narrowing:
        try_out(program)
    if narrowing.to is None:
        return WidenedProgram(program, _WIDE)
    finding = f"finding: {narrowing.sentence}"
    try:
        promoted = program.promoted(narrowing.to)
        try_out(promoted)
    except Exception:  # whatever torch raises where dtypes do not fit together
        return WidenedProgram(program, narrowing.to, finding)
    return WidenedProgram(replace(promoted, plain=program), narrowing.to, finding)


def _unpromoted(
    make: Callable[[Tensor], Program], lam: Tensor, try_out: Callable[[Program], None], why: str
) -> WidenedProgram:
    name = str(lam.dtype).removeprefix("torch.")
    try:
        program = make(lam.to(_WIDE))
        try_out(program)
    except (RuntimeError, TypeError, LossError):
        program = make(lam)
        try_out(program)
        rest = f"so the verdict is that of {name}, and small errors are not seen"
    else:
        rest = f"so lam alone is float64, and what the losses hold in {name} is rounded to it"
    return WidenedProgram(
        program,
        lam.dtype,
        f"finding: the losses could not be promoted to float64, because {why}; {rest}: give lam, theta0 and "
        "all data in float64",
    )


def _first_line(error: Exception) -> str:
    """What an exception says, for a sentence."""
    said = (str(error).strip().partition("\n")[0] or "it says nothing more").rstrip(".;")
    return f"there they raise {type(error).__name__} ({said})"
