"""A Neumann series cut short, with one term more or less than declared, or not scaled."""

from collections.abc import Iterator

import numpy as np

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import numpy_of

_LONGEST = 400
_LONGEST_WITHOUT_DECAY = 50


def candidates(subject: Subject) -> Iterator[Candidate]:
    """−q·C with q = α Σ_{j<K} (I − αH)^j f_θ, and without the factor α, for every K and likely α."""
    root = subject.root if subject.implicit else None
    if root is None:
        return
    hessian, mixed = numpy_of(root.hessian), numpy_of(root.mixed)
    slope, direct = numpy_of(root.slope), subject.direct
    decay = subject.weight_decay
    if decay > 0 and subject.step_size is not None:
        lighter, scale = hessian - decay * np.eye(len(hessian)), subject.step_size
        term, total = slope, np.zeros_like(slope)
        for count in range(1, _LONGEST_WITHOUT_DECAY + 1):
            total, term = total + term, term - scale * (term @ lighter)
            yield Candidate(
                Mistake.DECAY_NOT_DIFFERENTIATED,
                direct - scale * (total @ mixed),
                f"the Neumann series with {count} terms, on the Hessian without weight decay",
            )
    for scale, meaning in _scales(subject, hessian):
        term, total = slope, np.zeros_like(slope)
        for count in range(1, _LONGEST + 1):
            total = total + term
            term = term - scale * (term @ hessian)
            text = f"the Neumann series with {count} terms and α = {scale:.6g} ({meaning})"
            yield Candidate(_name(subject, count), direct - scale * (total @ mixed), text)
            yield Candidate(
                Mistake.SERIES_NOT_SCALED,
                direct - total @ mixed,
                f"{text}, its factor α left out",
            )
            size = float(np.linalg.norm(term))
            if size <= 1e-15 * float(np.linalg.norm(slope)) or not size < 1e12 * (
                1 + float(np.linalg.norm(slope))
            ):
                break


def _name(subject: Subject, count: int) -> Mistake:
    """What K terms are called, given what the implementation declares."""
    if subject.terms is not None:
        if count == subject.terms + 1:
            return Mistake.SERIES_ONE_MORE
        if count == subject.terms - 1:
            return Mistake.SERIES_ONE_FEWER
    return Mistake.SERIES_SHORT


def _scales(subject: Subject, hessian: np.ndarray) -> list[tuple[float, str]]:
    """The step sizes that a Neumann series is likely to use."""
    found = []
    if subject.step_size is not None:
        found.append((subject.step_size, "the inner step size"))
    largest = float(np.linalg.norm(hessian, 2))
    if largest > 0:
        found.append((1 / largest, "1/λ_max"))
    fixed = ((1.0, "no step size"), (0.1, "a default"), (0.01, "a default"))
    found.extend((scale, text) for scale, text in fixed if scale * largest < 2)
    return found
