"""The mixed derivative transposed, which only p = n lets pass."""

from collections.abc import Iterator

import numpy as np

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import numpy_of, sweep

Array = np.ndarray
NAME = Mistake.TRANSPOSED_MIXED


def candidates(subject: Subject) -> Iterator[Candidate]:
    """C·v for v·C."""
    trace = subject.trace
    size, p = subject.program.size, subject.program.lam.numel()
    if size != p:
        return
    if subject.implicit:
        if subject.root is not None and subject.root.hessian.shape[0] == p:
            solved = np.linalg.solve(numpy_of(subject.root.hessian).T, numpy_of(subject.root.slope))
            yield Candidate(NAME, subject.direct - numpy_of(subject.root.mixed) @ solved)
        return
    if trace.states[0].numel() != p:
        return

    def transposed(t: int, v: Array) -> tuple[Array, Array]:
        return trace.pull(t, v)[0], trace.pushed(t, v, np.zeros_like(v))

    yield Candidate(NAME, subject.direct + sweep(trace, transposed).total)
