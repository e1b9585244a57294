"""Mistakes in the transition Jacobian: identity in its place, transposed, once too often, too rarely."""

from collections.abc import Iterator

import numpy as np
import torch

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.rewritten import detached_gradients
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, numpy_of, sweep
from refblo.conformance.truth.program import leaf

Array = np.ndarray


def candidates(subject: Subject) -> Iterator[Candidate]:
    """Sweeps with another Jacobian."""
    trace, direct = subject.trace, subject.direct
    if subject.implicit:
        yield from _implicit(subject)
        return

    def identity(t: int, v: Array) -> tuple[Array, Array]:
        return v, trace.pull(t, v)[1]

    def transposed(t: int, v: Array) -> tuple[Array, Array]:
        return trace.pull_transposed(t, v)

    def reflected(t: int, v: Array) -> tuple[Array, Array]:
        through, mixed = trace.pull(t, v)
        return 2 * v - through, mixed

    for vector, text in _first_order(subject):
        yield Candidate(Mistake.FIRST_ORDER, vector, text)
    yield Candidate(
        Mistake.IDENTITY_FOR_JACOBIAN,
        direct + sweep(trace, identity).total,
        "every ∂θ^{t+1}/∂θ^t is replaced by the identity",
    )
    yield Candidate(
        Mistake.HPO_SGLD,
        _hpo_sgld(trace),
        "the recursion of HPO-SGLD: the identity for every ∂θ^{t+1}/∂θ^t, slopes taken along the way",
    )
    yield Candidate(Mistake.TRANSPOSED_JACOBIAN, direct + sweep(trace, transposed).total)
    yield Candidate(
        Mistake.HESSIAN_SIGN,
        direct + sweep(trace, reflected).total,
        "I + γH stands where I − γH belongs",
    )
    yield Candidate(
        Mistake.JACOBIAN_TOO_MANY,
        direct + _shifted(trace, extra=True),
        "each term carries one ∂θ^{t+1}/∂θ^t more than it should",
    )
    yield Candidate(
        Mistake.JACOBIAN_TOO_FEW,
        direct + _shifted(trace, extra=False),
        "each term lacks one ∂θ^{t+1}/∂θ^t",
    )


def _implicit(subject: Subject) -> Iterator[Candidate]:
    root = subject.root
    if root is None:
        return
    solved = torch.linalg.solve(root.hessian, root.slope)
    yield Candidate(Mistake.TRANSPOSED_JACOBIAN, subject.direct - numpy_of(solved @ root.mixed))
    yield Candidate(
        Mistake.IDENTITY_FOR_INVERSE,
        subject.direct - numpy_of(root.slope @ root.mixed),
        "the inverse Hessian is replaced by the identity (T1-T2 without its step size)",
    )
    if subject.step_size is not None:
        one = subject.step_size * numpy_of(root.slope @ root.mixed)
        yield Candidate(Mistake.ONE_STEP, subject.direct - one, "T1-T2: γ for H⁻¹")


def _first_order(subject: Subject) -> Iterator[tuple[Array, str]]:
    """Inner gradients without a graph; where λ enters by θ⁰ alone, MAML's own first-order form too."""
    trace = subject.trace
    held = Trace(detached_gradients(subject.program), trace.states)
    text = "no second-order product at all: the inner gradients are treated as constants"
    yield subject.direct + sweep(trace, held.pull).total, text
    slope = np.sum([trace.weight(m) * trace.outer(m)[1] for m in trace.sampled()], axis=0)
    start = trace.pull_start(slope)
    if start.any():
        yield subject.direct + start, "∂_θ f at the end, pulled back to λ through θ⁰ alone"


def _shifted(trace: Trace, *, extra: bool) -> Array:
    """Σ_t α·G_t with α pulled through one Jacobian more, or one less, than belongs to t."""
    alpha = np.zeros(trace.states[0].numel())
    held = np.zeros_like(alpha)
    total = np.zeros(trace.program.lam.numel())
    for t in range(trace.steps, 0, -1):
        if trace.weight(t) > 0:
            alpha = alpha + trace.weight(t) * trace.outer(t)[1]
            if not extra:
                held = held + trace.weight(t) * trace.outer(t)[1]
        through = trace.pull(t - 1, alpha)[0]
        total = total + trace.pull(t - 1, through if extra else held)[1]
        # One behind: what belonged to the transition after this one.
        held, alpha = alpha, through
    summed: Array = total + trace.pull_start(alpha)
    return summed


def _hpo_sgld(trace: Trace) -> Array:
    """(22) and (25) of Kim and Hospedales along the run, with γA = J − I and γB = G."""
    program = trace.program
    lam = leaf(program.lam)
    g = trace.pull_start(trace.outer_at(0, trace.states[0])[1]) if _has_outer_0(trace) else None
    moving = bool(np.any(trace.pull_start(np.ones(trace.states[0].numel()))))
    h = np.zeros(program.lam.numel())
    total = np.zeros_like(h) if g is None or not moving else g
    for m in range(1, trace.steps + 1):
        direct, slope = trace.outer(m)
        through, mixed = trace.pull(m - 1, slope)
        total = total + mixed
        if moving:
            change = trace.states[m] - trace.states[m - 1]
            z = leaf(trace.states[m - 1])
            value = program.outer(lam, z, max(m - 1, 0)) if _has_outer_0(trace) or m > 1 else None
            curved = np.zeros_like(slope) if value is None else _hessian_product(value, z, change)
            total = total + trace.pull_start(curved + through - slope)
        h = h + trace.weight(m) * (direct + total)
    return h


def _has_outer_0(trace: Trace) -> bool:
    """Whether the outer loss can be evaluated at the initial point."""
    losses = trace.program.losses
    batches = None if losses is None else losses.frozen.outer_batches
    return batches is None or len(batches) > trace.steps


def _hessian_product(value: torch.Tensor, z: torch.Tensor, v: torch.Tensor) -> Array:
    (slope,) = torch.autograd.grad(
        value, z, create_graph=True, materialize_grads=True, allow_unused=True
    )
    if not slope.requires_grad:
        return numpy_of(torch.zeros_like(z))
    (product,) = torch.autograd.grad(slope, z, v, allow_unused=True, materialize_grads=True)
    return numpy_of(product)
