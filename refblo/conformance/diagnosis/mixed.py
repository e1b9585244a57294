"""The mixed derivative transposed, which only p = n lets pass."""

from collections.abc import Iterator

import numpy as np

from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import numpy_of, sweep

Array = np.ndarray
NAME = "transposed mixed product"


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
    if not trace.dense or trace.states[0].numel() != p:
        return

    def transposed(t: int, v: Array) -> tuple[Array, Array]:
        jacobian, mixed = trace.matrices(t)
        return v @ jacobian, mixed @ v

    yield Candidate(NAME, subject.direct + sweep(trace, transposed).total)
