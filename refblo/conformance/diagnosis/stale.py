"""Evaluated at an old point: θ that is not the run's current one, λ of an earlier call."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float64

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Setting, Subject
from refblo.conformance.diagnosis.trace import Trace, numpy_of, sweep
from refblo.conformance.truth.program import Program
from refblo.conformance.truth.stationary import linearise
from refblo.errors import OracleError

Array = np.ndarray


def candidates(setting: Setting) -> Iterator[Candidate]:
    """Everything, or one part of it, at the λ of an earlier call."""
    subject = setting.subject
    seen: list[Array] = []
    here = numpy_of(subject.program.lam)
    for lam, _ in setting.earlier:
        if np.array_equal(lam, here) or any(np.array_equal(lam, other) for other in seen):
            continue
        seen.append(lam)
        yield from _lam(subject, lam)


def theta_candidates(subject: Subject) -> Iterator[Candidate]:
    """The products and gradients at θ⁰ or θ^T throughout."""
    if subject.implicit:
        return
    trace, direct = subject.trace, subject.direct
    first, last = trace.states[0], trace.states[-1]
    count = len(trace.states)
    for state, where in ((first, "θ⁰"), (last, "θ^T")):
        fixed = Trace(trace.program, [state] * count)
        yield Candidate(
            Mistake.STALE_THETA,
            direct + sweep(trace, fixed.pull).total,
            f"every second-order product is taken at {where}",
        )
    at_first = {m: trace.outer_at(m, first) for m in trace.sampled()}
    old_direct = np.sum([trace.weight(m) * d for m, (d, _) in at_first.items()], axis=0)
    slopes = sweep(trace, slopes=lambda m: at_first[m][1]).total
    yield Candidate(Mistake.STALE_THETA, direct + slopes, "∂_θ f is taken at θ⁰")
    yield Candidate(Mistake.STALE_THETA, old_direct + subject.indirect, "∂_λ f is taken at θ⁰")
    yield Candidate(Mistake.STALE_THETA, old_direct + slopes, "∂_λ f and ∂_θ f are taken at θ⁰")


def _lam(subject: Subject, lam: Float64[Array, " p"]) -> Iterator[Candidate]:
    other = subject.program.at(torch.as_tensor(lam, device="cpu").to(subject.program.lam))
    parts = _parts(subject, other)
    if parts is None:
        return
    direct, indirect = parts
    name, text = Mistake.STALE_LAMBDA, "at the lam of an earlier call"
    yield Candidate(name, direct + indirect, f"everything is evaluated {text}")
    yield Candidate(name, direct + subject.indirect, f"∂_λ f is evaluated {text}")
    yield Candidate(name, subject.direct + indirect, f"the indirect term is evaluated {text}")
    if not subject.implicit:
        mixed = Trace(subject.program, Trace.of(other).states)
        yield Candidate(name, mixed.direct() + sweep(mixed).total, f"the inner run was made {text}")
        outer_old = Trace(other, subject.trace.states)
        yield Candidate(
            name,
            outer_old.direct() + sweep(subject.trace, slopes=lambda m: outer_old.outer(m)[1]).total,
            f"the outer loss is evaluated {text}",
        )
        yield Candidate(
            name,
            subject.direct + sweep(subject.trace, Trace(other, subject.trace.states).pull).total,
            f"the second-order products are evaluated {text}",
        )


def _parts(subject: Subject, other: Program) -> tuple[Array, Array] | None:
    if not subject.implicit:
        trace = Trace.of(other)
        return trace.direct(), sweep(trace).total
    try:
        root = linearise(other)
    except OracleError:
        return None
    return numpy_of(root.direct), numpy_of(root.indirect())
