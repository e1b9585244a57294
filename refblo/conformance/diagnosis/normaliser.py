"""A normaliser that is not differentiated: a softmax's sum, a norm, a batch's statistics."""

from collections.abc import Iterator

import numpy as np

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.rewritten import KINDS, constant_normalisers
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace, sweep

Array = np.ndarray
NAME = Mistake.NORMALISER_CONSTANT


def candidates(subject: Subject) -> Iterator[Candidate]:
    """The run's own states with other derivatives in the steps, in the outer loss, or in both."""
    if subject.implicit:
        return
    trace = subject.trace
    for kind, text in KINDS.items():
        program = constant_normalisers(subject.program, kind)
        if program is None:
            continue
        replayed = Trace(program, trace.states)

        def slopes(m: int, at: Trace = replayed) -> Array:
            return at.outer(m)[1]

        direct = replayed.direct()
        said = f"{text} is treated as constant"
        for vector, where in (
            (subject.direct + sweep(trace, replayed.pull).total, " in the steps"),
            (direct + sweep(trace, slopes=slopes).total, " in the outer loss"),
            (direct + sweep(trace, replayed.pull, slopes).total, ""),
        ):
            yield Candidate(NAME, vector, said + where)
        other = Trace.of(program)
        yield Candidate(NAME, other.direct() + sweep(other).total, f"{said} in the run itself")
