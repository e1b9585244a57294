"""Accumulated: what earlier calls returned is still in the buffer that this call adds to."""

from collections.abc import Iterator

import numpy as np

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Setting


def candidates(setting: Setting) -> Iterator[Candidate]:
    """The truth plus what earlier calls returned, or plus the truth once more for each of them."""
    returned = [vector for _, vector in setting.earlier]
    name = Mistake.ACCUMULATED
    for count in range(1, len(returned) + 1):
        before = np.sum(returned[-count:], axis=0)
        yield Candidate(
            name, setting.subject.truth + before, f"what the last {count} calls returned is added"
        )
    for count in range(2, len(returned) + 2):
        yield Candidate(
            name,
            count * setting.subject.truth,
            f"{count} times the hypergradient at call {len(returned) + 1}",
        )
    if returned:
        share = (setting.subject.truth + returned[-1]) / 2
        yield Candidate(name, share, "the mean of this call's and the one before")
