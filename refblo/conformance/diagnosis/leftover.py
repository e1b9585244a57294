"""Backward passes of the inner loss whose gradient by λ stays in the buffer of the hypergradient."""

from collections.abc import Iterator

import torch

from refblo.chain import Schedule
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, numpy_of, sweep
from refblo.conformance.program import leaf, rebuilt


def candidates(subject: Subject) -> Iterator[Candidate]:
    """Σ_{t<k} ∂_λ L_T(λ, θ^t) added to the truth, or to the hypergradient of a run k steps shorter."""
    losses, trace = subject.program.losses, subject.trace
    if subject.implicit or losses is None or losses.frozen.anything:
        return
    size, steps, lam = subject.program.size, trace.steps, subject.program.lam
    added = torch.zeros_like(lam)
    for count in range(1, steps):
        at = leaf(lam)
        value = losses.inner(at, trace.states[count - 1][:size].detach(), None)
        (gradient,) = torch.autograd.grad(value, at, allow_unused=True, materialize_grads=True)
        added = added + gradient
        name = "inner loss's gradient left in the buffer"
        text = f"∂_λ L_T of the first {count} iterates is added"
        yield Candidate(name, subject.truth + numpy_of(added), text)
        shorter = rebuilt(subject.program, schedule=Schedule.last(steps - count))
        if shorter is not None and subject.program.schedule.samples == 1:
            other = Trace.of(shorter)
            yield Candidate(
                name,
                other.direct() + sweep(other).total + numpy_of(added),
                f"{text}, and the run is {count} steps shorter than asked for",
            )
