"""Too few transitions differentiated: truncated back-propagation, with K found."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import Trace

Array = np.ndarray
_LONGEST = 400  # steps up to which the depth of every sample's path is told apart


def candidates(subject: Subject) -> Iterator[Candidate]:
    """The last K transitions of the run, the last K before each sample, and one sample alone."""
    if subject.implicit:
        return
    direct, sweep, steps = subject.direct, subject.sweep, subject.trace.steps
    kept = np.cumsum(sweep.terms[::-1], axis=0)
    for count in range(1, steps):
        yield Candidate(
            Mistake.TRUNCATED,
            direct + kept[count - 1],
            f"only the last K = {count} of {steps} transitions are differentiated",
        )
    yield Candidate(
        Mistake.LAST_TRANSITION,
        direct + sweep.total - sweep.terms[-1],
        "the step that leads to θ^T is missing from the sum",
    )
    sampled = subject.trace.sampled()
    if len(sampled) == 1 or steps > _LONGEST:
        return
    depths = np.cumsum(_by_depth(subject.trace), axis=0)
    for count in range(1, steps):
        yield Candidate(
            Mistake.DETACHED_SAMPLE if count == 1 else Mistake.TRUNCATED_AT_SAMPLE,
            direct + depths[count - 1],
            f"each sample's path is cut after K = {count} transitions",
        )


def _by_depth(trace: Trace) -> Float64[Array, "T p"]:
    """Entry k − 1: Σ_m w_m a_m·J_{m−1}…J_{m−k+1}·G_{m−k}."""
    found = np.zeros((trace.steps, trace.program.lam.numel()))
    for m in trace.sampled():
        alpha = trace.weight(m) * trace.outer(m)[1]
        for depth in range(m):
            alpha, term = trace.pull(m - 1 - depth, alpha)
            found[depth] += term
    return found
