"""Which of many candidates explains what was observed, if one does.

With k numbers fitted in d directions, d − k are left to speak for a candidate. A random vector comes
within a share s of the error of one of N candidates with probability of about N·s^(d−k), so the share
that a candidate may leave is bounded by (chance / N)^(1/(d−k)).
"""

import math
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Float64

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate

EXPLAINED = 3e-3
"""The share of the error that a named mistake may leave although rounding is smaller."""

_CHANCE = 1e-3
"""The chance that a random vector is given a name."""

_PENALTY = 30.0
"""How many times more of the error a candidate without fitted numbers may leave than one with."""

_ALIKE = 3.0

_DUST = 1e-9
"""The share of the error up to which a vector counts as zero, however little is known of the truth."""


@runtime_checkable
class Observation(Protocol):
    """What was observed, compared with candidates along some directions."""

    @property
    def seen(self) -> Float64[np.ndarray, " k"]:
        """What was observed, along the directions."""
        ...

    @property
    def error(self) -> float:
        """‖observed − truth‖ along them."""
        ...

    @property
    def noise(self) -> float:
        """What rounding does to a vector along them."""
        ...

    def along(self, vector: Float64[np.ndarray, " p"]) -> Float64[np.ndarray, " k"]:
        """A vector's components along them."""
        ...


@final
@dataclass(frozen=True, eq=False)
class Scored:
    """A candidate beside what was observed.

    Attributes:
        mistake: which one.
        name: as a report prints it.
        text: what it means.
        fitted: how many numbers were chosen to fit.
        distance: ‖observed − candidate‖.
        unexplained: `distance` / ‖observed − truth‖.
    """

    mistake: Mistake
    name: str
    text: str
    fitted: int
    distance: float
    unexplained: float


@final
@dataclass(frozen=True, eq=False)
class Choice:
    """The candidates that explain what was observed equally well, and the best other.

    Attributes:
        best: the preferred one; None if none explains it.
        same: names of others that cannot be told from it.
        second: the best one under another name.
    """

    best: Scored | None
    same: tuple[str, ...]
    second: Scored | None


NOTHING = Choice(None, (), None)
"""The choice where nothing was compared."""


def factor_text(factor: float) -> str:
    """A factor with at least three digits of its distance from 1, so that no factor but 1 is printed as 1."""
    distance = abs(factor - 1)
    if not 0 < distance < 0.1:
        return f"{factor:.4g}"
    return f"{factor:.{3 - math.floor(math.log10(distance))}g}"


def score(candidate: Candidate, setting: Observation) -> Scored | None:
    """How far a candidate is from what was observed; None where that says nothing."""
    size = setting.seen.size
    if candidate.fitted >= size:
        return None
    with np.errstate(all="ignore"):
        distance = float(np.linalg.norm(setting.seen - setting.along(candidate.vector)))
    if not math.isfinite(distance):
        return None
    if candidate.mistake is Mistake.ZERO and distance > min(setting.noise, _DUST * setting.error):
        return None
    share = distance / setting.error if setting.error > 0 else math.inf
    text = candidate.text or candidate.mistake.what.rstrip(".")
    return Scored(candidate.mistake, candidate.name, text, candidate.fitted, distance, share)


def explains(scored: Scored, setting: Observation, tried: int) -> bool:
    """Whether a candidate leaves no more than rounding, or chance, allows."""
    freedom = setting.seen.size - scored.fitted
    by_chance: float = (_CHANCE / max(tried, 1)) ** (1 / freedom)
    rounding = _ALIKE * setting.noise / setting.error if setting.error > 0 else 0.0
    return scored.unexplained <= min(max(EXPLAINED, rounding), by_chance)


def exactly(scored: Scored, setting: Observation, tried: int) -> bool:
    """Whether it explains all but rounding, with nothing fitted."""
    near = scored.distance <= _ALIKE * setting.noise
    return near and scored.fitted == 0 and explains(scored, setting, tried)


def choose(scored: list[Scored], setting: Observation) -> Choice:
    """The one that leaves least, fitted numbers penalised; within rounding of it, the first."""

    def cost(one: Scored) -> float:
        return max(one.distance, setting.noise) * (_PENALTY if one.fitted else 1.0)

    found = [one for one in scored if explains(one, setting, len(scored))]
    if not found:
        return Choice(None, (), min(scored, key=lambda one: one.unexplained, default=None))
    least = min(cost(one) for one in found)
    alike = [one for one in found if cost(one) <= _ALIKE * least]
    best = min(alike, key=lambda one: one.fitted)  # the first of those with the fewest
    same = tuple(dict.fromkeys(one.name for one in alike if one.name != best.name))
    others = [one for one in scored if one.name not in (best.name, *same)]
    return Choice(best, same, min(others, key=lambda one: one.unexplained, default=None))
