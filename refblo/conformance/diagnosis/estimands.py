"""Right, but for another estimand: the disagreement that is no bug."""

from collections.abc import Iterator

from refblo.chain import Schedule
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, numpy_of, sweep
from refblo.conformance.truth.program import rebuilt
from refblo.types import Estimand


def solution(subject: Subject) -> Iterator[Candidate]:
    """The implicit hypergradient in another's place; its minimiser has to be found."""
    if not subject.implicit and subject.root is not None:
        # the limit τ → 0 of the Gibbs hypergradient, too
        yield Candidate(
            Mistake.ANOTHER_ESTIMAND,
            numpy_of(subject.root.direct + subject.root.indirect()),
            "it is the implicit hypergradient, not that of the run",
        )


def candidates(subject: Subject) -> Iterator[Candidate]:
    """The other estimands of the same problem that the run itself gives."""
    steps = subject.program.schedule.steps
    if subject.implicit:
        trace = subject.trace
        yield Candidate(
            Mistake.ANOTHER_ESTIMAND,
            trace.direct() + sweep(trace).total,
            f"it is the unrolled hypergradient after {steps} steps, not the implicit one",
        )
        return
    if subject.estimand is Estimand.PATHWISE and subject.program.schedule.samples > 1:
        program = rebuilt(subject.program, schedule=Schedule.last(steps))
        if program is not None:
            other = Trace(program, subject.trace.states)
            yield Candidate(
                Mistake.ANOTHER_ESTIMAND,
                other.direct() + sweep(other).total,
                "it is the unrolled hypergradient of the last iterate, not the mean over the samples",
            )
