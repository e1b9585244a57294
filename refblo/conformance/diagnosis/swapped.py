"""Another quantity in the hypergradient's place: another loss, a displacement, another adjoint."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, numpy_of, sweep

Array = np.ndarray


def inner_for_outer(subject: Subject) -> Iterator[Candidate]:
    """The inner loss at the iterates that count, differentiated in the outer loss's place."""
    program = subject.program
    losses = program.losses
    if losses is None:
        return
    frozen, size = losses.frozen, program.size
    last = program.schedule.steps - 1

    def outer(lam: Tensor, state: Tensor, m: int) -> Tensor:
        return losses.inner(lam, state[:size], frozen.inner(min(m, last)))

    if subject.implicit:
        root = subject.root
        if root is None:
            return
        lam, theta = (x.detach().clone().requires_grad_() for x in (program.lam, root.root))
        value = losses.inner(lam, theta, frozen.inner(last))
        by_lam, by_theta = torch.autograd.grad(
            value, (lam, theta), allow_unused=True, materialize_grads=True
        )
        solved = torch.linalg.solve(root.hessian.T, by_theta)
        yield Candidate(Mistake.INNER_FOR_OUTER, numpy_of(by_lam - solved @ root.mixed))
        yield Candidate(Mistake.INNER_FOR_OUTER, numpy_of(by_lam), "∂_λ of the inner loss alone")
        return
    other = Trace(replace(program, outer=outer), subject.trace.states)

    def pull(t: int, v: Array) -> tuple[Array, Array]:
        return subject.trace.pull(t, v)

    direct, indirect = other.direct(), sweep(other, pull).total
    yield Candidate(Mistake.INNER_FOR_OUTER, direct + indirect)
    yield Candidate(Mistake.INNER_FOR_OUTER, direct, "∂_λ of the inner loss alone, at the last θ")
    yield Candidate(Mistake.INNER_FOR_OUTER, indirect, "its indirect term alone")
    yield Candidate(
        Mistake.INNER_FOR_OUTER, subject.direct + indirect, "in the indirect term alone"
    )


def displacement(subject: Subject) -> Iterator[Candidate]:
    """Reptile's: θ⁰ − θ^T, as such, over γ, over γT or over T, pulled back to λ."""
    if subject.implicit:
        return
    trace, program = subject.trace, subject.program
    moved = numpy_of(trace.states[0] - trace.states[-1])
    moved[program.size :] = 0
    back = trace.pull_start(moved)
    if not back.any():
        return
    divisors = [(1.0, ""), (float(trace.steps), " over T")]
    if subject.step_size is not None:
        divisors.append((subject.step_size, " over γ"))
        divisors.append((subject.step_size * trace.steps, " over γT"))
    for divisor, text in divisors:
        for sign, order in ((1, "θ⁰ − θ^T"), (-1, "θ^T − θ⁰")):
            yield Candidate(Mistake.REPTILE, sign * back / divisor, f"({order}){text}")


def continuous(subject: Subject) -> Iterator[Candidate]:
    """The adjoint of the gradient flow, by steps of the run's size from θ^T backwards.

    dα/ds = Hα and dθ/ds = ∂_θ L_T, so that a step back takes the products at a state that is
    reconstructed from the later one, or from the run, at the end or at the start of the step.
    """
    losses = subject.program.losses
    if (
        subject.implicit
        or losses is None
        or not losses.rule.plain
        or losses.frozen.noise is not None
    ):
        return
    trace = subject.trace
    again = [trace.states[-1]]
    for t in range(trace.steps - 1, -1, -1):
        z = again[0]
        with torch.no_grad():
            forward = subject.program.transition(subject.program.lam, z, t)
        again.insert(0, (2 * z - forward).detach())
    for states, text in (
        ([*again[1:], again[-1]], "at later states, which are reconstructed backwards"),
        (again, "at states that are reconstructed backwards"),
    ):
        other = Trace(subject.program, states)
        total = subject.direct + sweep(trace, other.pull).total
        yield Candidate(Mistake.CONTINUOUS_ADJOINT, total, f"its products are taken {text}")


def tasks(subject: Subject) -> Iterator[Candidate]:
    """The outer loss's slope by one tensor of θ, or by one row of all of them, left out."""
    pieces = list(_pieces(subject.shapes, subject.program.size))
    if len(pieces) < 2:
        return
    for piece, text in pieces:
        lost = _through(subject, piece)
        if lost is None:
            return
        kept = subject.indirect - lost
        said = f"what goes through {text} is missing"
        yield Candidate(Mistake.TASK_DROPPED, subject.direct + kept, said)


def _pieces(shapes: tuple[tuple[int, ...], ...], size: int) -> Iterator[tuple[Array, str]]:
    """Indices of θ that belong together, and what they are called."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    if sum(sizes) != size:
        return
    first = 0
    rows: dict[int, list[Array]] = {}
    for number, (shape, count) in enumerate(zip(shapes, sizes, strict=True)):
        indices = np.arange(first, first + count)
        first += count
        if len(shapes) > 1:
            yield indices, f"tensor {number} of theta"
        if len(shape) >= 2:
            for row, part in enumerate(indices.reshape(shape[0], -1)):
                rows.setdefault(row, []).append(part)
    if 2 <= len(rows) <= _MOST_ROWS and len({len(parts) for parts in rows.values()}) == 1:
        for row, parts in rows.items():
            yield np.concatenate(parts), f"entry {row} along the first dimension of theta"


_MOST_ROWS = 32


def _through(subject: Subject, piece: Array) -> Array | None:
    """The part of the indirect term that the slope by some entries of θ makes."""
    if subject.implicit:
        root = subject.root
        if root is None or root.slope.numel() <= piece.max():
            return None
        slope = torch.zeros_like(root.slope)
        slope[piece] = root.slope[piece]
        return numpy_of(-torch.linalg.solve(root.hessian.T, slope) @ root.mixed)
    trace = subject.trace

    def slopes(m: int) -> Array:
        found = np.zeros(trace.states[0].numel())
        found[piece] = trace.outer(m)[1][piece]
        return found

    return sweep(trace, slopes=slopes).total
