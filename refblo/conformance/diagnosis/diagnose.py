"""Which known mistake explains what was observed, how well, and where the error sits if none does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from refblo.conformance.diagnosis import (
    blocks,
    conjugate,
    damping,
    drawn,
    estimands,
    leftover,
    mixed,
    moments,
    optimiser,
    parts,
    precision,
    repeated,
    series,
    shift,
    stale,
    transition,
    truncation,
    unconverged,
)
from refblo.conformance.diagnosis.setting import Candidate, Setting

KEPT = (
    mixed.candidates,
    transition.candidates,
    truncation.candidates,
    shift.candidates,
    stale.theta_candidates,
    drawn.candidates,
    optimiser.candidates,
    moments.candidates,
    estimands.candidates,
    blocks.candidates,
    conjugate.candidates,
    series.candidates,
    unconverged.candidates,
)
"""Families that follow from the program alone, in the order in which names are preferred."""

LONG = (leftover.candidates,)
"""Families that take many runs, asked only where no other explains what was observed."""

FIRST = (parts.candidates, repeated.candidates, stale.candidates)
LAST = (damping.candidates,)
"""Families that look at what was observed; preferred before and after the others."""

EXPLAINED = 1e-2
"""The share of the error that a named mistake may leave unexplained. A random vector comes so close in d
directions with probability 10⁻²ᵈ for each of some hundreds of candidates, so one direction asks for more."""

_EXPLAINED_ALONE = 1e-5


@final
@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a hypergradient.

    Attributes:
        name: of the mistake that explains it, or None.
        text: what that means.
        unexplained: the share of the error that it leaves: ‖observed − candidate‖ / ‖observed − truth‖.
        runner_up: the name of the best other explanation, or "".
        runner_up_unexplained: what that one leaves.
        also: names of mistakes that give the same vector here.
        components: where the error sits, in words.
        tried: how many candidates were compared.
    """

    name: str | None
    text: str
    unexplained: float
    runner_up: str
    runner_up_unexplained: float
    also: tuple[str, ...]
    components: tuple[str, ...]
    tried: int

    @property
    def names(self) -> tuple[str, ...]:
        """All names that fit equally well, the preferred one first."""
        return () if self.name is None else (self.name, *self.also)

    def describe(self) -> str:
        """The diagnosis in a few lines."""
        where = "".join(f"\n  {line}" for line in self.components)
        if self.name is None:
            best = f" The nearest, {self.runner_up!r}, leaves {self.runner_up_unexplained:.1%} of the error."
            return f"none of {self.tried} known mistakes explains it.{best if self.runner_up else ''}{where}"
        same = f" (the same here: {', '.join(self.also)})" if self.also else ""
        second = f"; next best {self.runner_up!r} leaves {self.runner_up_unexplained:.1%}"
        return (
            f"{self.name}: {self.text}{same}. It explains all but {self.unexplained:.1e} of the error"
            f"{second if self.runner_up else ''}.{where}"
        )


@final
@dataclass(frozen=True, eq=False)
class _Scored:
    candidate: Candidate
    distance: float
    unexplained: float


def diagnose(setting: Setting, blocks: Mapping[str, slice] | None = None) -> Diagnosis:
    """Name the mistake.

    Args:
        setting: what was observed and what it should have been.
        blocks: named parts of λ, for saying where the error sits.
    """
    seen, truth = setting.along(setting.observed), setting.subject.reference.value
    error = float(np.linalg.norm(seen - truth))
    components = _components(setting, seen, error, blocks or {})
    limit = EXPLAINED if seen.size >= 2 else _EXPLAINED_ALONE
    resolution = setting.accuracy / error if error > 0 else 0.0

    def matches(s: _Scored) -> bool:
        freedom = seen.size - s.candidate.fitted
        allowed = limit if freedom >= 2 else min(limit, _EXPLAINED_ALONE)
        return freedom >= 1 and s.unexplained <= max(allowed, 3 * resolution)

    scored = _score(_candidates(setting), setting, seen, error)
    found = [s for s in scored if matches(s)]
    if not found:
        scored += _score(_long_candidates(setting), setting, seen, error)
        found = [s for s in scored if matches(s)]
    exact = [s for s in found if s.candidate.fitted == 0]
    chosen = exact or found
    single = None if chosen else precision.explains(setting, error)
    if single is not None:
        rest = min(scored, key=lambda s: s.unexplained, default=None)
        return Diagnosis(
            precision.NAME,
            single,
            0.0,
            rest.candidate.name if rest else "",
            rest.unexplained if rest else np.inf,
            (),
            components,
            len(scored),
        )
    if not chosen:
        rest = min(scored, key=lambda s: s.unexplained, default=None)
        return Diagnosis(
            None,
            "",
            1.0,
            rest.candidate.name if rest else "",
            rest.unexplained if rest else np.inf,
            (),
            components,
            len(scored),
        )
    best = min(chosen, key=lambda s: s.unexplained)
    # Within rounding of the best, the order of the families decides.
    near = [s for s in chosen if s.distance <= 3 * best.distance + setting.accuracy]
    first = near[0]
    same = tuple(
        dict.fromkeys(s.candidate.name for s in near if s.candidate.name != first.candidate.name)
    )
    others = [s for s in scored if s.candidate.name not in (first.candidate.name, *same)]
    second = min(others, key=lambda s: s.unexplained, default=None)
    return Diagnosis(
        first.candidate.name,
        first.candidate.text or first.candidate.name,
        first.unexplained,
        second.candidate.name if second else "",
        second.unexplained if second else np.inf,
        same,
        components,
        len(scored),
    )


def _score(
    candidates: Iterator[Candidate], setting: Setting, seen: np.ndarray, error: float
) -> list[_Scored]:
    scored = []
    with np.errstate(all="ignore"):
        for candidate in candidates:
            distance = float(np.linalg.norm(seen - setting.along(candidate.vector)))
            if np.isfinite(distance):
                scored.append(_Scored(candidate, distance, distance / error if error else np.inf))
    return scored


def _candidates(setting: Setting) -> Iterator[Candidate]:
    for family in FIRST:
        yield from family(setting)
    for kept in KEPT:
        yield from setting.subject.kept(kept)
    for family in LAST:
        yield from family(setting)


def _long_candidates(setting: Setting) -> Iterator[Candidate]:
    for kept in LONG:
        yield from setting.subject.kept(kept)


def _components(
    setting: Setting, seen: np.ndarray, error: float, blocks: Mapping[str, slice]
) -> tuple[str, ...]:
    """Where the error sits: in the direct or the indirect term, and in which block of λ."""
    lines = []
    direct, indirect = setting.subject.reference.direct, setting.subject.reference.indirect
    if seen.size >= 3 and np.linalg.norm(direct) > 0 and np.linalg.norm(indirect) > 0:
        matrix = np.stack([direct, indirect], axis=1)
        weights, *_ = np.linalg.lstsq(matrix, seen, rcond=None)
        rest = float(np.linalg.norm(seen - matrix @ weights))
        lines.append(
            f"observed ≈ {weights[0]:.6g} · direct term {weights[1]:+.6g} · indirect term, which leaves "
            f"{rest / error:.1%} of the error"
        )
    difference = setting.along(setting.observed) - setting.subject.reference.value
    if setting.subject.reference.exhaustive:
        for name, part in blocks.items():
            share = float(np.linalg.norm(difference[part])) / error
            size = float(np.linalg.norm(setting.subject.reference.value[part]))
            ratio = float(np.linalg.norm(difference[part])) / size if size > 0 else np.inf
            lines.append(
                f"block {name}: {share:.1%} of the error, {ratio:.1e} of the block's truth"
            )
        if not blocks and seen.size > 1:
            worst = int(np.argmax(np.abs(difference)))
            lines.append(
                f"largest at entry {worst} of lam: observed {seen[worst]:.10g}, should be "
                f"{setting.subject.reference.value[worst]:.10g}"
            )
    return tuple(lines)
