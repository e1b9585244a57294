"""Where an error sits: in the direct or the indirect term, in a block of λ, in single entries.

Where the adjoint sweep agrees with the reference it gives the truth in every entry, for any number of
hyperparameters. Where it does not, the entries are searched by halves, each half asked by a directional
truth along random signs on it.
"""

from collections.abc import Callable

import numpy as np

from refblo.conformance.diagnosis.budget import check_time
from refblo.conformance.diagnosis.setting import Setting, Subject
from refblo.conformance.truth.reference import reference
from refblo.noise import Draws, Stream

Array = np.ndarray
_SHOWN = 5
_QUESTIONS = 64
"""Directional truths that a search by halves may ask for."""

_SEEN = 1e-6
"""The share of the largest error at which an entry counts as wrong."""


def components(setting: Setting) -> tuple[str, ...]:
    """Where the error sits, in words."""
    lines = [*_terms(setting)]
    subject = setting.subject
    if subject.reference.exhaustive or subject.agrees:
        truth = subject.reference.value if subject.reference.exhaustive else subject.truth
        return (*lines, *_blocks(setting, truth), *_entries(setting, truth))
    wrong = by_halves(setting.observed.size, _asked(setting))
    if wrong:
        lines.append(f"the error sits in {listed(wrong, setting.observed.size)}")
    return tuple(lines)


def by_halves(size: int, off: Callable[[Array], bool]) -> list[int]:
    """The indices at which `off` holds, none where there are too many to be told.

    Args:
        size: how many indices there are.
        off: whether anything is wrong among the given indices.
    """
    found: list[int] = []
    open_parts = [np.arange(size)]
    for _ in range(_QUESTIONS):
        if not open_parts:
            return sorted(found)
        part = open_parts.pop()
        check_time()
        if not off(part):
            continue
        if part.size == 1:
            found.append(int(part[0]))
        else:
            open_parts += [part[: part.size // 2], part[part.size // 2 :]]
    return []


def _asked(setting: Setting) -> Callable[[Array], bool]:
    """Whether the observed vector is off along random signs on some entries."""
    subject, questions = setting.subject, 0
    per_entry = setting.noise / np.sqrt(max(setting.seen.size, 1))

    def off(part: Array) -> bool:
        nonlocal questions
        questions += 1
        signs = Draws(0).normal(
            Stream.DIRECTIONS, 5000 + questions, subject.program.lam[: part.size]
        )
        direction = np.zeros((setting.observed.size, 1))
        direction[part, 0] = np.sign(signs.double().cpu().numpy()) / np.sqrt(part.size)
        gap = abs(float(setting.observed @ direction[:, 0]) - _directional(subject, direction))
        return bool(gap > max(10 * per_entry, 1e-6 * setting.error / np.sqrt(part.size)))

    return off


def _directional(subject: Subject, direction: Array) -> float:
    """The truth along one direction, by the forward oracle."""
    found = reference(
        subject.program,
        subject.estimand,
        direction,
        exhaustive=False,
        draws=Draws(0),
        ulp=float(np.finfo(np.float64).eps),
        runs=1,
        confirm=0,
        first=subject.reference.rung,
    )
    return float(found.value[0])


def _terms(setting: Setting) -> list[str]:
    """The combination of direct and indirect term that is nearest."""
    reference_of = setting.subject.reference
    direct, indirect = reference_of.direct, reference_of.indirect
    seen = reference_of.of(setting.observed)
    if seen.size < 3 or not (np.linalg.norm(direct) > 0 and np.linalg.norm(indirect) > 0):
        return []
    error = float(np.linalg.norm(seen - reference_of.value))
    matrix = np.stack([direct, indirect], axis=1)
    weights, *_ = np.linalg.lstsq(matrix, seen, rcond=None)
    rest = float(np.linalg.norm(seen - matrix @ weights))
    return [
        f"observed ≈ {weights[0]:.6g} · direct term {weights[1]:+.6g} · indirect term, which leaves "
        f"{rest / error:.1%} of the error"
    ]


def _blocks(setting: Setting, truth: Array) -> list[str]:
    difference = setting.observed - truth
    error = float(np.linalg.norm(difference))
    lines = []
    for name, part in setting.blocks.items():
        off, size = float(np.linalg.norm(difference[part])), float(np.linalg.norm(truth[part]))
        ratio = off / size if size > 0 else np.inf
        share = off / error if error > 0 else 0.0
        lines.append(f"block {name}: {share:.1%} of the error, {ratio:.1e} of the block's truth")
    return lines


def _entries(setting: Setting, truth: Array) -> list[str]:
    if truth.size < 2:
        return []
    difference = np.abs(setting.observed - truth)
    noise = 10 * setting.noise / np.sqrt(setting.seen.size)
    wrong = np.flatnonzero(difference > max(_SEEN * float(difference.max()), noise)).tolist()
    lines = []
    if 0 < len(wrong) <= truth.size // 2:
        lines.append(f"the error sits in {listed(wrong, truth.size)}")
    worst = int(np.argmax(difference))
    lines.append(
        f"largest at entry {worst} of lam: observed {setting.observed[worst]:.10g}, should be "
        f"{truth[worst]:.10g}"
    )
    return lines


def listed(wrong: list[int], size: int) -> str:
    """Entries by number, or by range where they are many."""
    if len(wrong) <= _SHOWN:
        return f"entries {', '.join(map(str, wrong))} of lam ({len(wrong)} of {size})"
    return f"{len(wrong)} of {size} entries of lam, from {wrong[0]} to {wrong[-1]}"
