"""The right entries in the wrong places: transposed, reversed, parts interchanged, or in any other order."""

from collections.abc import Iterator

import numpy as np

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Setting

Array = np.ndarray

_SAME = 1e-6
"""The relative distance within which two sorted vectors have the same entries."""


def candidates(setting: Setting) -> Iterator[Candidate]:
    """The truth in the order of what was observed, where the entries are the same."""
    subject = setting.subject
    truth = subject.reference.value if subject.reference.exhaustive else subject.truth
    yield from permuted(truth, setting.observed)


def permuted(truth: Array, observed: Array) -> Iterator[Candidate]:
    """The truth with its entries in the order of the observed ones.

    Nothing is yielded unless the two have the same entries: any two vectors can be sorted alike.
    """
    ordered, seen = np.sort(truth), np.sort(observed)
    if np.linalg.norm(ordered - seen) > _SAME * np.linalg.norm(ordered):
        return
    moved = np.empty_like(truth)
    moved[np.argsort(observed, kind="stable")] = ordered
    changed = int(np.count_nonzero(np.abs(moved - truth) > _SAME * np.abs(truth).max(initial=0.0)))
    if changed >= 2:
        yield Candidate(Mistake.PERMUTED, moved, f"{changed} of {truth.size} entries are elsewhere")
