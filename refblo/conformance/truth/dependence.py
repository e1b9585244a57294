"""Whether anything of a program depends on λ, as far as autograd sees."""

from collections.abc import Iterator

import torch
from torch import Tensor

from refblo.conformance.truth.program import Program, leaf

_MOST_STEPS = 64


def depends_on_lam(program: Program) -> bool:
    """Whether λ enters the start, a transition or the outer loss; True where that cannot be told.

    Of a long run the first steps and the last one are asked.
    """
    try:
        return any(_reaches(value, lam) for value, lam in _values(program))
    except Exception:  # of the caller's functions, which the oracles have answered for
        return True


def _values(program: Program) -> Iterator[tuple[Tensor, Tensor]]:
    """What is computed with λ, each with its own λ."""
    lam = leaf(program.lam)
    yield program.start(lam), lam
    steps = program.schedule.steps
    for step, state in enumerate(program.states(program.lam)):
        if _MOST_STEPS <= step < steps - 1:
            continue
        if step < steps:
            lam = leaf(program.lam)
            yield program.transition(lam, leaf(state), step), lam
        if step > 0 and program.schedule.sampled(step):
            lam = leaf(program.lam)
            yield program.outer(lam, leaf(state), step), lam


def _reaches(value: Tensor, lam: Tensor) -> bool:
    if not value.requires_grad:
        return False
    (found,) = torch.autograd.grad(value.sum(), lam, allow_unused=True)
    return found is not None
