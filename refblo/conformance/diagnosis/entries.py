"""What is wrong in some entries of the hypergradient alone, or the same in all of them."""

from collections.abc import Iterator

import numpy as np

from refblo.conformance.diagnosis.locate import listed
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Setting, Subject

Array = np.ndarray


def ones(subject: Subject) -> Iterator[Candidate]:
    """The derivative along the vector of ones in every entry."""
    truth = subject.truth
    if truth.size < 2:
        return
    for total, text in ((truth.sum(), "the sum"), (truth.mean(), "the mean")):
        yield Candidate(
            Mistake.ONES_IN_EVERY_ENTRY,
            np.full_like(truth, total),
            f"every entry is {text} of the right entries",
        )


def one_part(setting: Setting) -> Iterator[Candidate]:
    """The truth but for one entry, or for one named part, which may be anything."""
    subject = setting.subject
    truth = subject.reference.value if subject.reference.exhaustive else subject.truth
    difference = setting.observed - truth
    worst = int(np.argmax(np.abs(difference)))
    for name, part in setting.blocks.items():
        size = truth[part].size
        if 0 < size <= truth.size - 2:
            how = _how(setting.observed[part], truth[part], subject.direct[part])
            vector = _patched(setting, truth, part)
            # Where vectors are compared in directions, every entry outside is still one that agrees.
            fitted = min(size, setting.seen.size - 2)
            yield Candidate(Mistake.ONE_BLOCK, vector, f"block {name} of lam {how}", fitted)
    if truth.size >= 3:
        text = f"entry {worst} of lam is {setting.observed[worst]:.10g} and should be {truth[worst]:.10g}"
        yield Candidate(
            Mistake.ONE_ENTRY, _patched(setting, truth, slice(worst, worst + 1)), text, 1
        )


def zeros(setting: Setting) -> Iterator[Candidate]:
    """The truth with zeros where the observed vector has them."""
    subject = setting.subject
    truth = subject.reference.value if subject.reference.exhaustive else subject.truth
    yield from some_zero(setting.observed, truth, setting.seen.size)


def some_zero(observed: Array, truth: Array, compared: int) -> Iterator[Candidate]:
    """The truth with zeros where the observed vector has them, compared along so many directions."""
    cut = (observed == 0) & (truth != 0)
    count = int(cut.sum())
    if 2 <= count < truth.size:
        where = listed([int(entry) for entry in np.flatnonzero(cut)], truth.size)
        text = f"{where} are zero, the others are right"
        vector = np.where(cut, 0.0, truth)
        yield Candidate(Mistake.SOME_ZERO, vector, text, min(count, compared - 2))


def _patched(setting: Setting, truth: Array, part: slice) -> Array:
    """The truth with one part as observed."""
    vector = truth.copy()
    vector[part] = setting.observed[part]
    return vector


def _how(observed: Array, truth: Array, direct: Array) -> str:
    """What a wrong part is, as far as a sign or a factor tells."""
    if not observed.any():
        return "is zero"
    size = float(np.linalg.norm(truth))
    for vector, text in (
        (-truth, "has the wrong sign"),
        (direct, "is the direct term alone"),
        (truth - direct, "lacks the direct term"),
        (2 * truth, "is doubled"),
        (truth / 2, "is halved"),
    ):
        if np.linalg.norm(observed - vector) <= 1e-6 * size:
            return text
    factor = float(observed @ truth) / size**2 if size > 0 else 0.0
    if truth.size >= 2 and np.linalg.norm(observed - factor * truth) <= 1e-6 * size:
        return f"is {factor:.6g} times what it should be"
    return "is wrong, the others are right"
