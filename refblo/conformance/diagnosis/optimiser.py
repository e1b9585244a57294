"""The optimiser's own part forgotten: its buffers, its weight decay, its form of momentum."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, numpy_of, sweep
from refblo.conformance.truth.program import Losses, Program, gradient_by_theta, rebuilt
from refblo.conformance.truth.stationary import linearise
from refblo.errors import OracleError
from refblo.rules.rule import Rule

Array = np.ndarray


def candidates(subject: Subject) -> Iterator[Candidate]:
    """Sweeps that see only θ, and sweeps through another rule along the run's own states."""
    losses = subject.program.losses
    trace, direct, size = subject.trace, subject.direct, subject.program.size
    if not subject.implicit and trace.states[0].numel() > size:

        def theta_only(t: int, v: Array) -> tuple[Array, Array]:
            through, mixed = trace.pull(t, v)
            through = through.copy()
            through[size:] = 0
            return through, mixed

        yield Candidate(
            Mistake.OPTIMISER_DETACHED,
            direct + sweep(trace, theta_only).total,
            "the optimiser's buffers are treated as constants",
        )
    if losses is None:
        return
    rule = losses.rule
    if subject.implicit:
        if subject.weight_decay > 0:
            bare = rebuilt(
                subject.program, rule=replace(rule, weight_decay=0.0, decoupled_decay=False)
            )
            if bare is not None:
                yield from _implicit_without_decay(subject, bare, subject.weight_decay)
        return
    if rule.has("weight_decay"):
        yield _decayed_before(subject, losses)
        yield from _decay(subject, losses)
    if rule.has("momentum") and rule.square_decay is None:
        for mistake, changed, text in (
            (Mistake.MOMENTUM_IGNORED, replace(rule, momentum=0.0, nesterov=False), ""),
            (
                Mistake.NESTEROV,
                replace(rule, nesterov=not rule.nesterov),
                "the plain momentum in place of Nesterov's"
                if rule.nesterov
                else "Nesterov's momentum, θ ← θ − γ(g + μv), in place of the plain one",
            ),
        ):
            yield from _by_rule(subject, mistake, changed, text)


def _by_rule(subject: Subject, mistake: Mistake, rule: Rule, text: str) -> Iterator[Candidate]:
    """The run under another rule."""
    program = rebuilt(subject.program, rule=rule)
    if program is not None:
        other = Trace.of(program)
        yield Candidate(mistake, other.direct() + sweep(other).total, text)


Advance = Callable[[Tensor, Tensor, int, Tensor | None, Tensor], Tensor]
"""(state, gradient, step, noise, λ) ↦ the next state."""


def stepping(program: Program, losses: Losses, advance: Advance) -> Program:
    """The program with another update of the same gradients."""
    frozen, size = losses.frozen, program.size

    def transition(at: Tensor, state: Tensor, step: int) -> Tensor:
        batch = frozen.inner(step)
        gradient = gradient_by_theta(losses.inner, at, state[:size], batch)
        noise = None if frozen.noise is None else frozen.noise[step]
        return advance(state, gradient, step, noise, at)

    return replace(program, transition=transition, losses=None)


def _decay_held(
    rule: Rule, state: Tensor, gradient: Tensor, step: int, noise: Tensor | None, lam: Tensor
) -> Tensor:
    """The right step whose decay is not differentiated."""
    n = gradient.numel()
    bare = replace(rule, weight_decay=0.0, decoupled_decay=False)
    numbers = rule.numbers(lam, step)
    held = numbers.weight_decay * state[:n].detach()
    if not rule.decoupled_decay:
        return bare.advance(state, gradient + held, step, noise, lam)
    moved = bare.advance(state, gradient, step, noise, lam)
    return torch.cat([moved[:n] - numbers.step_size * held, moved[n:]])


def _decay(subject: Subject, losses: Losses) -> Iterator[Candidate]:
    """Weight decay left out of the run or of its derivative, or decoupled from the gradient."""
    rule, program, trace = losses.rule, subject.program, subject.trace
    held = Trace(stepping(program, losses, partial(_decay_held, rule)), trace.states)
    yield Candidate(
        Mistake.DECAY_NOT_DIFFERENTIATED,
        subject.direct + sweep(trace, held.pull).total,
        "the run decays the weights, what is differentiated does not",
    )
    yield from _by_rule(
        subject,
        Mistake.DECAY_FORGOTTEN,
        replace(rule, weight_decay=0.0, decoupled_decay=False),
        "the optimiser's weight decay is missing from the run",
    )
    if rule.decoupled_decay:
        yield from _misplaced(subject, losses)
    if rule.buffers > 0:
        text = "θ ← (1 − γw) θ beside the step, where the decay belongs to the gradient"
        if rule.decoupled_decay:
            text = "w θ is added to the gradient, where the decay is θ ← (1 − γw) θ beside the step"
        other = replace(rule, decoupled_decay=not rule.decoupled_decay)
        yield from _by_rule(subject, Mistake.DECOUPLED_DECAY, other, text)


def _misplaced(subject: Subject, losses: Losses) -> Iterator[Candidate]:
    """Decoupled decay that follows the step, or leaves the learning rate out."""
    rule, size = losses.rule, subject.program.size
    bare = replace(rule, weight_decay=0.0, decoupled_decay=False)

    def after(
        state: Tensor, gradient: Tensor, step: int, noise: Tensor | None, lam: Tensor
    ) -> Tensor:
        numbers = rule.numbers(lam, step)
        moved = bare.advance(state, gradient, step, noise, lam)
        decayed = (1 - numbers.step_size * numbers.weight_decay) * moved[:size]
        return torch.cat([decayed, moved[size:]])

    def without_rate(
        state: Tensor, gradient: Tensor, step: int, noise: Tensor | None, lam: Tensor
    ) -> Tensor:
        decayed = (1 - rule.numbers(lam, step).weight_decay) * state[:size]
        return bare.advance(torch.cat([decayed, state[size:]]), gradient, step, noise, lam)

    for advance, text in (
        (after, "θ is multiplied by 1 − γw after the step, in place of before it"),
        (without_rate, "θ is multiplied by 1 − w, in place of 1 − γw"),
    ):
        other = Trace.of(stepping(subject.program, losses, advance))
        vector = other.direct() + sweep(other).total
        yield Candidate(Mistake.DECOUPLED_DECAY_MISPLACED, vector, text)


def _decayed_before(subject: Subject, losses: Losses) -> Candidate:
    """The run after one step with a zero gradient, as a careless way to fill the buffers makes it."""
    program, size = subject.program, subject.program.size

    def start(lam: Tensor) -> Tensor:
        state = program.start(lam)
        return losses.rule.advance(state, torch.zeros_like(state[:size]), 0, None, lam)

    other = Trace.of(replace(program, start=start, losses=None))
    return Candidate(
        Mistake.DECAY_BEFORE_RUN,
        other.direct() + sweep(other).total,
        "one step with a zero gradient comes before the run: the weights decay once too often",
    )


def _implicit_without_decay(subject: Subject, bare: Program, decay: float) -> Iterator[Candidate]:
    root = subject.root
    if root is not None:
        hessian = numpy_of(root.hessian)
        lighter = hessian - decay * np.eye(len(hessian))
        solved = np.linalg.solve(lighter.T, numpy_of(root.slope))
        yield Candidate(
            Mistake.DECAY_NOT_DIFFERENTIATED,
            subject.direct - solved @ numpy_of(root.mixed),
            "the solution is with weight decay, the Hessian in the solve without",
        )
    try:
        other = linearise(bare)
    except OracleError:
        return
    yield Candidate(
        Mistake.DECAY_FORGOTTEN,
        numpy_of(other.direct + other.indirect()),
        "the optimiser's weight decay is missing from the inner problem",
    )
