"""A Neumann series cut short, with one term more or less than declared, or not scaled."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Setting, Subject
from refblo.conformance.diagnosis.trace import numpy_of

Array = np.ndarray

_LONGEST = 400
_LONGEST_WITHOUT_DECAY = 50

_LONGEST_FITTED = 40
"""Terms up to which α is fitted: longer series that converge hardly depend on it."""

_LARGEST_FITTED = 256
"""Entries of θ up to which the Hessian is diagonalised for that."""

_GRID = 64
"""Values of α among which the fit begins, from a thousandth of 2/λ_max to 2/λ_max itself."""


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


def fitted(setting: Setting) -> Iterator[Candidate]:
    """Both series of every length K with the α that fits what was observed best.

    With H = U·diag(h)·Uᵀ, K terms are U·diag((1 − (1 − αh)^K) / h)·Uᵀ f_θ: in every α a sum of n vectors.
    """
    from scipy import optimize  # not needed where nothing is diagnosed, and slow to import

    subject = setting.subject
    root = subject.root if subject.implicit else None
    if root is None or len(root.hessian) > _LARGEST_FITTED:
        return
    hessian, mixed = numpy_of(root.hessian), numpy_of(root.mixed)
    if not np.isfinite(hessian).all() or np.abs(hessian - hessian.T).max() > 1e-8 * np.abs(
        hessian
    ).max(initial=0.0):
        return
    values, vectors = np.linalg.eigh(hessian)
    parts = (numpy_of(root.slope) @ vectors)[:, None] * (vectors.T @ mixed)
    largest = float(np.abs(values).max())
    if largest == 0:
        return
    direct = subject.direct
    along = np.stack([setting.along(part) for part in parts])
    wanted = setting.along(direct) - setting.seen
    grid = np.geomspace(2e-3, 2.0, _GRID) / largest
    lengths = dict.fromkeys([*range(1, _LONGEST_FITTED + 1), *_declared(subject)])
    for count in lengths:
        for scaled in (True, False):

            def weights(scale: float, count: int = count, scaled: bool = scaled) -> Array:
                return _weights(values, scale, count, scaled=scaled)

            def off(scale: float) -> float:
                return float(np.linalg.norm(weights(scale) @ along - wanted))

            first = int(np.argmin([off(scale) for scale in grid]))
            low, high = grid[max(first - 1, 0)], grid[min(first + 1, _GRID - 1)]
            found = optimize.minimize_scalar(
                off, bounds=(low, high), method="bounded", options={"xatol": 1e-12 * high}
            )
            scale = float(found.x)
            text = f"the Neumann series with {count} terms and α = {scale:.6g}"
            mistake = _name(subject, count) if scaled else Mistake.SERIES_NOT_SCALED
            yield Candidate(
                mistake,
                direct - weights(scale) @ parts,
                text if scaled else f"{text}, its factor α left out",
                1,
            )


def _weights(
    values: Float64[Array, " n"], scale: float, count: int, *, scaled: bool
) -> Float64[Array, " n"]:
    """α Σ_{j<K} (1 − αh)^j for each h, or without the factor α."""
    kept = 1 - scale * values
    flat = np.abs(scale * values) < 1e-12
    total: Array = np.where(flat, count, (1 - kept**count) / np.where(flat, 1, scale * values))
    return scale * total if scaled else total


def _declared(subject: Subject) -> tuple[int, ...]:
    """The lengths beside what the implementation declares."""
    if subject.terms is None:
        return ()
    return tuple(count for count in (subject.terms + d for d in (-1, 0, 1)) if count > 0)


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
