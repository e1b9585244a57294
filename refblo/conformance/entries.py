"""Each entry of a small λ judged by itself: one that is small may be wrong unseen in the norm.

Only gross errors are accused, such as a sign, a zero or a factor 2: a solver that has converged to 10⁻¹⁰ of
the whole leaves as much in every entry, also in one that is 10⁻⁸ of the whole. An entry may also be off by
what rounding does to the whole vector, as how it spreads over the entries depends on the code. Where zero
would be allowed as well the entry is not seen, which a report says.
"""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.conformance.truth.reference import Reference

Array = np.ndarray

GROSS = 0.1
"""The relative error of one entry from which on it is accused although the whole is not."""

_LIKELY = 3.0
"""How many times what rounding may do to the whole vector an entry may be off."""

_UNITS = 64.0
"""Units in the last place of the largest numbers by which an entry may be off besides."""

_AGREED = 10.0
"""How many times the disagreement of the two oracles an error must be to count."""

SHOWN = 5
"""Entries that a report lists."""


@final
@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of λ, each judged by itself.

    Attributes:
        distance: |observed − truth| of each.
        allowed: what is not accused of each.
        truth: |truth| of each.
        error: a bound on the error of each entry's truth.
    """

    distance: Float64[Array, " p"]
    allowed: Float64[Array, " p"]
    truth: Float64[Array, " p"]
    error: Float64[Array, " p"]

    @staticmethod
    @np.errstate(invalid="ignore", over="ignore")  # an answer may be infinite
    def of(
        observed: Float64[Array, " p"],
        reference: Reference,
        floor: float,
        tolerance: float,
        ulp: float,
    ) -> "Entries":
        """Judge each entry.

        Args:
            observed: the hypergradient, shape (p,).
            reference: the truth, of all coordinates.
            floor: the relative error below which no entry is accused.
            tolerance: the relative error that the method declares for the whole; it may sit in one entry.
            ulp: the relative spacing of the numbers that the hypergradient was computed with.
        """
        truth = np.abs(reference.value)
        agreed = 0.0 if np.isnan(reference.confirmed) else reference.confirmed
        rounding = _LIKELY * (float(np.linalg.norm(reference.rounding)) + reference.error)
        largest = float(np.linalg.norm(reference.direct) + np.linalg.norm(reference.indirect))
        common = tolerance * reference.scale + _AGREED * agreed * reference.scale
        allowed = np.maximum(rounding + common + _UNITS * ulp * largest, max(floor, GROSS) * truth)
        return Entries(np.abs(observed - reference.value), allowed, truth, reference.error)

    @property
    def wrong(self) -> list[int]:
        """The entries that are accused, the one that is furthest off first."""
        found = np.flatnonzero(~(self.distance <= self.allowed))
        order = np.argsort(-self.distance[found] / np.maximum(self.allowed[found], 1e-300))
        return [int(entry) for entry in found[order]]

    @property
    def unseen(self) -> list[int]:
        """The entries of which an answer of zero would not be accused although zero is not their truth."""
        hidden = (self.truth <= self.allowed) & (self.truth > self.error)
        return [int(entry) for entry in np.flatnonzero(hidden)]

    def describe_wrong(self) -> str:
        """The entries that are accused, for a report's first line."""
        found = self.wrong
        listed = ", ".join(map(str, found[:SHOWN])) + (", …" if len(found) > SHOWN else "")
        which = f"entry {listed} of lam is" if len(found) == 1 else f"entries {listed} of lam are"
        off, allowed = self.distance[found[0]], self.allowed[found[0]]
        return (
            f"{which} wrong, beside larger ones (entry {found[0]} by {off:.1e}, its truth is "
            f"{self.truth[found[0]]:.1e}, allowed {allowed:.1e})"
        )

    def describe_unseen(self) -> str:
        """The unseen entries, for a report; "" where there are none."""
        found = self.unseen
        if not found:
            return ""
        listed = ", ".join(map(str, found[:SHOWN])) + (", …" if len(found) > SHOWN else "")
        largest = float(self.truth[found].max())
        allowed = float(self.allowed[found].max())
        return (
            f"entries [{listed}] of lam were not seen: their truth is {largest:.1e} at most, and an error of "
            f"{allowed:.1e} is allowed in each by rounding and the declared tolerance"
        )


def only(
    entry: int, observed: Float64[Array, " p"], reference: Reference
) -> tuple[Float64[Array, " p"], Reference]:
    """The hypergradient and the truth with all other entries left out."""
    inside = np.zeros_like(observed)
    inside[entry] = 1
    direct, indirect = reference.direct * inside, reference.indirect * inside
    return np.where(inside > 0, observed, 0.0), replace(reference, direct=direct, indirect=indirect)
