"""The caller's function λ ↦ outer loss, called on flat vectors, with what its own values tell of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.conformance.black_box.arrays import SPACING, FlatArrays, is_jax
from refblo.conformance.truth.growth import LARGEST_BOUND
from refblo.errors import (
    ArgumentError,
    ArgumentTypeError,
    LossError,
    OracleError,
    RefbloError,
)

Array = np.ndarray

REPEATS = 5
"""How often the function is called at the same λ before anything else."""

SINGLE = SPACING["float32"]

FINE = 1e-10
"""The relative spacing of an objective's numbers up to which they are those of float64."""

_POINTS = 9
"""Values along a line from which roughness is measured."""

_APART = math.pi * 2.0**-12
"""Between points at which values are looked at for being rounded: no value of float32 by itself."""

_FEW_BITS = 16
"""Up to how many significant bits a value does not tell whether it was rounded to the 24 of float32."""

_ORDERS = (4, 5, 6)
"""Orders of the differences that count as roughness: high enough that curvature is gone at 2^-22."""


@final
@dataclass(eq=False)
class Seen:
    """What the calls of a function have shown.

    Attributes:
        calls: how many there were.
        dtype: the name of the coarsest dtype that was returned.
        writes: whether one of the first calls changed the λ that it was given.
    """

    calls: int = 0
    dtype: str = "float64"
    writes: bool = False


@final
@dataclass(frozen=True, eq=False)
class Objective:
    """A caller's function of λ as a function of flat vectors.

    Attributes:
        function: λ, in the form it was given, ↦ a real number.
        arrays: the form of λ.
        seen: what its calls have shown, shared by the same function at other λ.
    """

    function: Callable[[Any], Any]
    arrays: FlatArrays
    seen: Seen = field(default_factory=Seen)

    @property
    def total(self) -> int:
        """How often the function was called."""
        return self.seen.calls

    @property
    def coarse(self) -> bool:
        """Whether λ, or what was returned so far, is coarser than float64."""
        return max(self.arrays.spacing, SPACING[self.seen.dtype]) > SPACING["float64"]

    @property
    def of_jax(self) -> bool:
        """Whether λ is made of arrays of JAX."""
        return any(leaf.framework == "jax" for leaf in self.arrays.leaves)

    def moved_to(self, lam: Float64[Array, " p"]) -> "Objective":
        """The same function around another λ."""
        return Objective(self.function, replace(self.arrays, vector=lam), self.seen)

    def __call__(self, vector: Float64[Array, " p"]) -> float:
        """The value at a point.

        Raises:
            ArgumentTypeError: if the function returns no real number.
            ArgumentError: if it returns more than one.
        """
        self.seen.calls += 1
        given = self.arrays.at(vector)
        before = FlatArrays.of(given, "lam").vector if self.seen.calls <= REPEATS else None
        try:
            returned = self.function(given)
        except RefbloError:
            raise
        except Exception as error:
            said = (
                f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0] or 'no text'}"
            )
            raise LossError(
                f"objective must be a function of lam that returns the outer loss, got {said} in call "
                f"{self.seen.calls}; the traceback above this one shows where"
            ) from error
        if before is not None and _differs(given, before):
            self.seen.writes = True
        value, dtype = _number(returned)
        if SPACING[dtype] > SPACING[self.seen.dtype]:
            self.seen.dtype = dtype
        return value


def _differs(given: object, before: Float64[Array, " p"]) -> bool:
    """Whether a λ no longer holds the entries that it had."""
    try:
        return not np.array_equal(FlatArrays.of(given, "lam").vector, before, equal_nan=True)
    except RefbloError:
        return True


def _number(value: object) -> tuple[float, str]:
    """A returned value as a number, and the name of its dtype."""
    if isinstance(value, Tensor):
        value, dtype = value.detach(), str(value.dtype).removeprefix("torch.")
    elif isinstance(value, np.ndarray | np.generic) or is_jax(value):
        dtype = str(np.asarray(value).dtype)
    elif isinstance(value, float | int) and not isinstance(value, bool):
        return float(value), "float64"
    else:
        raise ArgumentTypeError(
            f"objective must return a real number, got {type(value).__name__}; return the outer loss after "
            "training"
        )
    if dtype not in SPACING:
        raise ArgumentTypeError(
            f"objective must return a real floating-point number, got {dtype}; return the outer loss"
        )
    if isinstance(value, Tensor) and value.is_meta:
        raise ArgumentTypeError(
            "objective must return a number, got a tensor on the device meta; look for a meta tensor in its "
            "data"
        )
    flat = (
        value.double().cpu().reshape(-1)
        if isinstance(value, Tensor)
        else np.ravel(np.asarray(value))
    )
    if len(flat) != 1:
        raise ArgumentError(
            f"objective must return one number, got {len(flat)}; reduce the outer loss, for instance with "
            ".mean()"
        )
    return float(flat[0]), dtype


@final
@dataclass(frozen=True)
class Repeatability:
    """What several calls at the same λ tell.

    Attributes:
        spread: largest minus smallest value.
        drifts: whether the values move in one direction only, as those of a function that goes on
            training from where its last call ended do.
    """

    spread: float
    drifts: bool

    @property
    def deterministic(self) -> bool:
        """Whether all values agree bit by bit."""
        return self.spread == 0


def repeatability(objective: Objective) -> Repeatability:
    """Call the function at the same λ several times.

    A function with independent noise drifts by chance in 2 of REPEATS! = 120 cases.

    Raises:
        ArgumentError: if a value is not finite.
        OracleError: if a value is so large that its slopes have no finite squares.
    """
    values = [objective(objective.arrays.vector) for _ in range(REPEATS)]
    if not all(math.isfinite(value) for value in values):
        raise ArgumentError(
            f"objective must be finite at lam, got {values[0]}; lower the step size of the training, or "
            "choose another lam"
        )
    if max(abs(value) for value in values) > LARGEST_BOUND:
        raise OracleError(
            f"objective must be at most {LARGEST_BOUND:.0e} at lam, got {values[0]:.1e}, as from a training "
            "that diverges: no verdict is possible; lower its step size"
        )
    steps = np.diff(values)
    drifts = bool((steps > 0).all() or (steps < 0).all())
    return Repeatability(max(values) - min(values), drifts)


def precision(objective: Objective) -> float:
    """The relative spacing of the numbers that the function computes with.

    That of λ's dtype or of the returned one where these are coarse. Otherwise that of float32 if values
    beside λ are numbers of float32 (one of float64 is so by chance in 2^-29 of all cases), or if values at
    points a few units of float32 apart are rough: their differences of order 4 to 6 (Moré and Wild 2011)
    are then far above those of values that are some units of float64 apart.
    """
    if objective.coarse:
        return max(objective.arrays.spacing, SPACING[objective.seen.dtype])
    if _rounded(objective):
        return SINGLE
    fine, single = (roughness(objective, spacing) for spacing in (2.0**-46, 2.0**-21))
    scale = abs(objective(objective.arrays.vector))
    rough = single > 100 * max(fine, SPACING["float64"] * scale)
    return SINGLE if rough else SPACING["float64"]


def _rounded(objective: Objective) -> bool:
    """Whether the values beside λ differ, and are all numbers of float32.

    What is left where terms of float64 cancel has few bits, and so is a number of float32 as well: it tells
    nothing.
    """
    values = np.array([objective(point) for point in _beside(objective, _APART)])
    fractions, _ = np.frexp(values[np.isfinite(values)])
    few = np.ldexp(fractions, _FEW_BITS)
    if np.unique(values).size < 2 or np.array_equal(few, np.round(few)):
        return False
    with np.errstate(over="ignore"):
        return np.array_equal(values, values.astype(np.float32).astype(np.float64))


def _beside(objective: Objective, spacing: float) -> list[Array]:
    """Points along a line from λ, so many relative units of each entry apart."""
    at = line_from(objective)
    return [at(index * spacing) for index in range(_POINTS)]


def line_from(objective: Objective) -> Callable[[float], Array]:
    """So many relative units of each entry ↦ the point of a line from λ.

    The entries move by unequal shares of it, so that the terms of a λ that is symmetric about 0 do not cancel
    at every point.
    """
    lam = objective.arrays.vector
    signs = np.where(np.arange(lam.size) % 2 == 0, 1.0, -1.0)
    sizes = np.where(lam == 0, np.abs(lam).max(initial=0.0) or 1.0, np.abs(lam))
    shares = 1 - 0.5 * np.modf(np.arange(lam.size) * math.sqrt(2))[0]
    step: Array = sizes * shares * signs

    def at(distance: float) -> Array:
        moved: Array = lam + distance * step
        return moved

    return at


def roughness(objective: Objective, spacing: float) -> float:
    """The standard deviation of the function's noise between points so many relative units apart."""
    values = np.array([objective(point) for point in _beside(objective, spacing)])
    if not np.isfinite(values).all():
        return 0.0
    deviations = []
    for order in _ORDERS:
        share = math.factorial(order) ** 2 / math.factorial(2 * order)
        deviations.append(math.sqrt(share * float(np.mean(np.diff(values, order) ** 2))))
    return max(deviations)


def as_batch(objective: Objective) -> Callable[[torch.Tensor], Array]:
    """The function on points in rows, one after another."""

    def batch(points: torch.Tensor) -> Array:
        return np.array([objective(point) for point in points.numpy()])

    return batch
