"""Off by one: in the number of steps, in the iterate, in the window, in the linearisation."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor

from refblo.chain import Schedule
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, sweep
from refblo.conformance.truth.program import Program, rebuilt

Array = np.ndarray
NAME = Mistake.OFF_BY_ONE


def candidates(subject: Subject) -> Iterator[Candidate]:
    """Every place where an index can be one too large or too small."""
    if subject.implicit:
        return
    trace, direct = subject.trace, subject.direct
    schedule = subject.program.schedule
    for text, changed in _schedules(schedule):
        if available(subject, changed.steps):
            program = rebuilt(subject.program, schedule=changed)
            if program is not None:
                other = Trace.of(program)
                yield Candidate(NAME, other.direct() + sweep(other).total, text)
    previous = [trace.outer_at(m, trace.states[m - 1]) for m in trace.sampled()]
    by_sample = dict(zip(trace.sampled(), previous, strict=True))
    late = np.sum([trace.weight(m) * d for m, (d, _) in by_sample.items()], axis=0)
    slopes = sweep(trace, slopes=lambda m: by_sample[m][1]).total
    yield Candidate(NAME, direct + slopes, "∂_θ f is taken one iterate early")
    yield Candidate(NAME, late + subject.indirect, "∂_λ f is taken one iterate early")
    yield Candidate(NAME, late + slopes, "∂_λ f and ∂_θ f are taken one iterate early")
    # What is late at the last transition sees θ^T or, where that is not at hand, θ^{T−1} once more.
    for text, offset, last in (("late", 1, 0), ("late", 1, 1), ("early", -1, 0)):
        moved = _moved(trace, offset, last)

        def pull(t: int, v: Array, at: Trace = moved) -> tuple[Array, Array]:
            return at.pull(t, v)

        def mixed_only(t: int, v: Array, at: Trace = moved) -> tuple[Array, Array]:
            return trace.pull(t, v)[0], at.pull(t, v)[1]

        def jacobian_only(t: int, v: Array, at: Trace = moved) -> tuple[Array, Array]:
            return at.pull(t, v)[0], trace.pull(t, v)[1]

        yield Candidate(
            NAME, direct + sweep(trace, pull).total, f"both products are taken one iterate {text}"
        )
        yield Candidate(
            NAME,
            direct + sweep(trace, mixed_only).total,
            f"the mixed product is taken one iterate {text}",
        )
        yield Candidate(
            NAME,
            direct + sweep(trace, jacobian_only).total,
            f"the Hessian product is taken one iterate {text}",
        )


def advanced(subject: Subject) -> Iterator[Candidate]:
    """The run from a state that was advanced before, and the outer loss at one that is advanced after."""
    if subject.implicit:
        return
    trace, program, last = subject.trace, subject.program, subject.trace.steps - 1
    held = program.transition(program.lam, trace.states[0], 0).detach()

    def fixed(lam: Tensor) -> Tensor:
        return held + 0 * lam.sum()

    other = Trace.of(replace(program, start=fixed))
    text = "the run starts from θ¹, which is not differentiated"
    yield Candidate(Mistake.STATE_TOO_FAR, other.direct() + sweep(other).total, text)
    after = {m: _advanced(program, trace.states[m], min(m, last)) for m in trace.sampled()}
    at = {m: trace.outer_at(m, state) for m, state in after.items()}
    direct = np.sum([trace.weight(m) * d for m, (d, _) in at.items()], axis=0)
    slopes = sweep(trace, slopes=lambda m: at[m][1]).total
    text = "the outer loss is taken one step further than what is differentiated"
    yield Candidate(Mistake.STATE_TOO_FAR, direct + slopes, text)


def _advanced(program: Program, state: Tensor, step: int) -> Tensor:
    return program.transition(program.lam, state, step).detach()


def _schedules(schedule: Schedule) -> list[tuple[str, Schedule]]:
    """Schedules that differ by one, and what that means."""
    burn, samples = schedule.burn_in, schedule.samples
    found = [("one step more than asked for", Schedule(burn + 1, samples))]
    if burn >= 1:
        found.append(("one step fewer than asked for", Schedule(burn - 1, samples)))
    if samples > 1:
        found.append(("the last sample is left out", Schedule(burn, samples - 1)))
        found.append(("the first sample is left out", Schedule(burn + 1, samples - 1)))
        found.append(("one sample too many at the end", Schedule(burn, samples + 1)))
    if samples > 1 and burn >= 1:
        found.append(("the last iterate of the burn-in counts", Schedule(burn - 1, samples + 1)))
    return found


def available(subject: Subject, steps: int) -> bool:
    """Whether there is frozen randomness for so many steps."""
    losses = subject.program.losses
    if losses is None:  # a step of the caller's own is defined for t = 0 … T − 1
        return steps <= subject.program.schedule.steps
    if not losses.frozen.anything:
        return True
    frozen = losses.frozen
    enough = frozen.outer_batches is None or len(frozen.outer_batches) > steps
    for drawn in (frozen.noise, frozen.inner_batches):
        enough = enough and (drawn is None or len(drawn) >= steps)
    return enough


def _moved(trace: Trace, offset: int, spared: int) -> Trace:
    """The linearisation at states one further, or one before, the last few of them left out."""
    count = len(trace.states)
    last = count - 1 - spared
    states = [trace.states[min(max(t + offset, 0), last)] for t in range(count)]
    return Trace(trace.program, states)
