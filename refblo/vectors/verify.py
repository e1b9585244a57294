"""An implementation's results against the test vectors: a verdict for each, and the mistake's name."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import final

from refblo.errors import ArgumentError, require
from refblo.vectors.read import KnownAnswer, Vector

FLOOR = 1e-9
"""The relative deviation that passes as rounding: what `refblo check` takes in double precision."""


@final
@dataclass(frozen=True)
class VectorVerdict:
    """What one result is.

    Attributes:
        vector: what was asked.
        result: "valid", "acceptable", "invalid", or "unknown" for what no known answer explains.
        flags: of the answer that it is.
        digits: correct decimal digits, of the largest entry; 0 for a result that is not finite.
    """

    vector: Vector
    result: str
    flags: tuple[str, ...]
    digits: float

    @property
    def passed(self) -> bool:
        """Whether it is valid or acceptable."""
        return self.result in ("valid", "acceptable")


def verify(
    results: Mapping[str, Sequence[str]], vectors: Mapping[str, Vector], floor: float = FLOOR
) -> tuple[VectorVerdict, ...]:
    """Judge results.

    Args:
        results: id ↦ decimal strings, p of them.
        vectors: the vectors by id.
        floor: a deviation of this share of the valid answer's largest entry passes, beside the radius. 0 for
            exact arithmetic.

    Raises:
        ArgumentError: for an id that no vector has, or a result of another length.
    """
    # From 1 on, an answer of zero would pass.
    require(0 <= floor < 1, "floor", "be in [0, 1)", floor, "use 1e-9")
    unknown = sorted(set(results) - set(vectors))
    if unknown:
        raise ArgumentError(
            f"results must be for ids of these test vectors, got {', '.join(unknown[:5])}; a changed "
            "vector has a new id: compute the results for the files at hand"
        )
    return tuple(
        _judge(vector, results[key], Fraction(floor))
        for key, vector in vectors.items()
        if key in results
    )


def _judge(vector: Vector, given: Sequence[str], floor: Fraction) -> VectorVerdict:
    valid = vector.answers[0]
    if len(given) != len(valid.value):
        raise ArgumentError(
            f"results must have {len(valid.value)} entries for {vector.id}, got {len(given)}; give one for "
            "each hyperparameter"
        )
    try:
        numbers = tuple(Fraction(number) for number in given)
    except ValueError:  # a NaN or an infinity: the schema lets nothing else through
        return VectorVerdict(vector, "unknown", (), 0.0)
    digits = _digits(numbers, valid)
    slack = floor * max(abs(entry) for entry in valid.value)
    for result in ("valid", "acceptable", "invalid"):
        for answer in vector.answers:
            if answer.result == result and _matches(numbers, answer, slack):
                return VectorVerdict(vector, result, answer.flags, digits)
    return VectorVerdict(vector, "unknown", (), digits)


def _matches(numbers: Sequence[Fraction], answer: KnownAnswer, slack: Fraction) -> bool:
    return all(
        abs(number - entry) <= radius + slack
        for number, entry, radius in zip(numbers, answer.value, answer.radius, strict=True)
    )


def _digits(numbers: Sequence[Fraction], valid: KnownAnswer) -> float:
    off = max(abs(a - b) for a, b in zip(numbers, valid.value, strict=True))
    scale = max(abs(entry) for entry in valid.value)
    finest = max(valid.radius)
    relative = max(off, finest) / scale if scale else Fraction(max(off, finest))
    return max(0.0, -_log10(relative)) if relative else math.inf


def _log10(number: Fraction) -> float:
    return math.log10(number.numerator) - math.log10(number.denominator)
