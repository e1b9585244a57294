"""Runs with other numbers or lengths, with dampened momentum, and with θ cut off beside live buffers."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor

from refblo.chain import Schedule
from refblo.conformance.diagnosis.budget import check_time
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.optimiser import stepping
from refblo.conformance.diagnosis.setting import Candidate, Setting, Subject
from refblo.conformance.diagnosis.shift import available
from refblo.conformance.diagnosis.trace import Trace, sweep
from refblo.conformance.truth.program import Losses, Program, rebuilt
from refblo.rules.rule import Rule
from refblo.types import Estimand

Array = np.ndarray

_MOMENTA = (0.5, 0.8, 0.9, 0.95, 0.99)
_FIRST = (0.0, 0.5, 0.8, 0.9, 0.95)
_SECOND = (0.9, 0.95, 0.98, 0.99, 0.999, 0.9999)
_EPSILONS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12)
"""Defaults of common libraries and recipes."""

_STEPS = (2, 3, 4, 5, 10)
"""By how many steps a run may be longer or shorter; by one, it is off by one."""

_MOST_STEPS = 200
"""Steps up to which runs of another length or with a fitted step size are made."""

_NEWTON_STEPS = 6
_NUDGE = 1e-4
_FARTHEST = 4.0
"""The factor up to which a step size is fitted."""


def detached(subject: Subject) -> Iterator[Candidate]:
    """θ is cut off from the step before; gradients or buffers keep their graph."""
    if subject.implicit:
        return
    trace, size = subject.trace, subject.program.size
    if trace.states[0].numel() > size:

        def buffers_only(t: int, v: Array) -> tuple[Array, Array]:
            through, mixed = trace.pull(t, v)
            through = through.copy()
            through[:size] = 0
            return through, mixed

        total = subject.direct + sweep(trace, buffers_only).total
        text = "θ is detached at each step, the optimiser's buffers are not"
        yield Candidate(Mistake.THETA_DETACHED, total, text)

    def update_only(t: int, v: Array) -> tuple[Array, Array]:
        through, mixed = trace.pull(t, v)
        through = through.copy()
        through[:size] -= v[:size]
        return through, mixed

    total = subject.direct + sweep(trace, update_only).total
    text = "θ_t is detached in θ_{t+1} = θ_t - update, and not in the update"
    yield Candidate(Mistake.THETA_DETACHED, total, text)


def candidates(subject: Subject) -> Iterator[Candidate]:
    """Runs of the rule with dampened momentum, and with other numbers."""
    losses = subject.program.losses
    if losses is None or subject.implicit:
        return
    rule = losses.rule
    plain = not (rule.nesterov or rule.clips or rule.has("weight_decay"))
    if rule.has("momentum") and rule.square_decay is None and plain:
        for first in (0, 1):
            text = "v ← μv + (1 − μ)g stands where v ← μv + g belongs"
            text += "" if first == 0 else ", from the second step on"
            program = _dampened(subject.program, losses, first)
            yield from _of(program, Mistake.DAMPENED, text)
    for text, other in _others(rule):
        changed = rebuilt(subject.program, rule=other)
        if changed is not None:
            yield from _of(changed, Mistake.OTHER_NUMBERS, text)


def _of(program: Program, mistake: Mistake, text: str) -> Iterator[Candidate]:
    """The right hypergradient of another run."""
    other = Trace.of(program)
    yield Candidate(mistake, other.direct() + sweep(other).total, text)


def _dampened(program: Program, losses: Losses, first: int) -> Program:
    """The run whose gradients from step `first` on are multiplied by 1 − μ before momentum takes them."""
    rule = losses.rule

    def advance(
        state: Tensor, gradient: Tensor, step: int, noise: Tensor | None, lam: Tensor
    ) -> Tensor:
        share = 1 - rule.numbers(lam, step).momentum if step >= first else 1.0
        return rule.advance(state, share * gradient, step, noise, lam)

    return stepping(program, losses, advance)


def _others(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """The rule with one of its numbers replaced by another that is in use."""
    if rule.betas is not None:
        one, two = rule.betas
        for other in _SECOND:
            yield f"β₂ is {other:g}", replace(rule, betas=(one, other))
        for other in _FIRST:
            yield f"β₁ is {other:g}", replace(rule, betas=(other, two))
    if rule.square_decay is not None:
        for other in _SECOND:
            yield f"α is {other:g}", replace(rule, square_decay=other)
    if rule.has("momentum"):
        for other in _MOMENTA:
            yield f"the momentum is {other:g}", replace(rule, momentum=other)
    if rule.has("adam_epsilon") and (rule.betas is not None or rule.square_decay is not None):
        for other in _EPSILONS:
            yield f"ε is {other:g}", replace(rule, adam_epsilon=other)


def lengths(subject: Subject) -> Iterator[Candidate]:
    """Runs of other lengths: of some steps more or fewer, of half and of twice as many."""
    losses, schedule = subject.program.losses, subject.program.schedule
    if losses is None or subject.estimand is not Estimand.UNROLLED or schedule.steps > _MOST_STEPS:
        return
    steps = schedule.steps
    others = {steps + sign * k for k in _STEPS for sign in (1, -1)} | {steps // 2, 2 * steps}
    for count in sorted(others):
        if abs(count - steps) < 2 or count < 1 or not available(subject, count):
            continue
        changed = rebuilt(subject.program, schedule=Schedule.last(count))
        if changed is not None:
            text = f"the run has {count} steps and not {steps}"
            yield from _of(changed, Mistake.OTHER_NUMBERS, text)


def step_size(setting: Setting) -> Iterator[Candidate]:
    """A run with the step size that fits what was observed best, by Newton's method from the right one."""
    subject = setting.subject
    losses = subject.program.losses
    gamma = subject.step_size
    if losses is None or gamma is None or subject.estimand is not Estimand.UNROLLED:
        return
    if subject.program.schedule.steps > _MOST_STEPS:
        return

    def run(size: float) -> Array | None:
        check_time()
        changed = rebuilt(subject.program, rule=replace(losses.rule, step_size=size))
        if changed is None:
            return None
        other = Trace.of(changed)
        total: Array = other.direct() + sweep(other).total
        return total

    size = gamma
    vector = subject.truth
    for _ in range(_NEWTON_STEPS):
        moved = run(size * (1 + _NUDGE))
        if moved is None:
            return
        slope = setting.along((moved - vector) / (_NUDGE * size))
        square = float(slope @ slope)
        if not square > 0:
            return
        size += float(slope @ (setting.seen - setting.along(vector))) / square
        if not gamma / _FARTHEST <= size <= gamma * _FARTHEST:
            return
        found = run(size)
        if found is None or not np.isfinite(found).all():
            return
        vector = found
    text = f"the step size is {size:.6g} and not {gamma:.6g}"
    yield Candidate(Mistake.OTHER_NUMBERS, vector, text, 1)
