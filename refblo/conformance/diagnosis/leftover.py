"""Backward passes of the inner loss whose gradient by λ stays in the buffer of the hypergradient."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from refblo.chain import Schedule
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, numpy_of, sweep
from refblo.conformance.truth.program import Losses, Program, leaf, rebuilt

NAME = Mistake.GRADIENT_LEFT_IN_BUFFER


def candidates(subject: Subject) -> Iterator[Candidate]:
    """∂_λ L_T of the first k iterates added: to the truth, or to that of a truncated or shorter run."""
    losses, trace, program = subject.program.losses, subject.trace, subject.program
    if subject.implicit or losses is None or losses.frozen.anything or not losses.rule.plain:
        return
    steps, lam = trace.steps, program.lam
    added = torch.zeros_like(lam)
    first = _gradients(losses, lam, trace.states[0])
    for count in range(1, steps):
        added = added + _gradients(losses, lam, trace.states[count - 1])[0]
        text = f"∂_λ L_T of the first {count} iterates is added"
        yield Candidate(NAME, subject.truth + numpy_of(added), text)
        shorter = rebuilt(program, schedule=Schedule.last(steps - count))
        if shorter is None or program.schedule.samples > 1:
            continue
        jump = trace.states[0] - count * losses.rule.constant("step_size") * first[1]
        for start, more, where in (
            (trace.states[count], added, "the rest of the run alone is differentiated"),
            (jump, count * first[0], f"{count} steps along the first gradient come before the run"),
        ):
            other = Trace.of(_from(shorter, start))
            total = other.direct() + sweep(other).total + numpy_of(more)
            yield Candidate(NAME, total, f"{text}, and {where}")


def _gradients(losses: Losses, lam: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """(∂_λ, ∂_θ) of the inner loss."""
    at = (leaf(lam), leaf(theta))
    by_lam, by_theta = torch.autograd.grad(
        losses.inner(*at, None), at, allow_unused=True, materialize_grads=True
    )
    return by_lam, by_theta


def _from(program: Program, state: Tensor) -> Program:
    """The program from a state that does not depend on λ."""
    fixed = state.detach()
    return replace(program, start=lambda lam: fixed + 0 * lam.sum(), losses=None)
