"""The second oracle: differences of the outer objective, and what they say of derivatives."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from refblo.conformance.truth.held_tensors import small_tensors
from refblo.conformance.truth.ladder import Ladder, Rung
from refblo.conformance.truth.program import leaf
from refblo.conformance.truth.reference import LARGE, Question, Reference, dust_of, is_dust
from refblo.conformance.truth.refusal import kink
from refblo.derivatives.differences import Differences, Frugal, directional_derivatives
from refblo.derivatives.rounding import SAFETY
from refblo.errors import OracleError
from refblo.noise import Draws, Stream

Array = np.ndarray

_ENOUGH = 1e-4
"""The relative error of the differences with which a large problem is content."""

_RESOLUTION = 1e-3
"""The relative error of the differences above which they confirm nothing."""

_BLUNT = 0.5
"""The relative error above which even an answer of zero would hardly be told from the truth."""

_DOUBLE = 1e-10
"""The spacing of numbers below which an oracle's dtype is float64."""


@final
class Confirmation:
    """Differences of the outer objective, taken once, and what they say of derivatives."""

    def __init__(self, asked: Question, objective: Callable[[Tensor], float]) -> None:
        self._asked = asked
        self._objective = objective
        self._weights = np.zeros((asked.columns.shape[1], 0))
        self._differences: Differences | None = None

    def of(self, found: Reference, count: int) -> Reference:
        """The derivatives with what the differences say of them.

        Raises:
            OracleError: if the gap exceeds the two errors, or the differences are too coarse to tell.
        """
        asked = self._asked
        if self._differences is None:
            directions = asked.columns.shape[1]
            self._weights = _combinations(directions, count, asked.draws, asked.exhaustive)
            expected = found.value @ self._weights
            self._differences = _differences(asked, self._objective, self._along(), expected)
        weights, differences = self._weights, self._differences
        expected = found.value @ weights
        gaps = np.abs(differences.values - expected)
        allowed = SAFETY * differences.errors + np.abs(weights.T) @ found.error
        lam_size = max(1.0, float(asked.program.lam.abs().max()))
        widening = asked.ulp / float(torch.finfo(asked.program.lam.dtype).eps)
        visible = widening * differences.noise / lam_size
        dust = found.dust
        # Dust is what a truth of zero is compared with: elsewhere it need not be known.
        near_zero = float(np.linalg.norm(found.value)) <= max(
            visible * math.sqrt(dust.size), float(np.linalg.norm(found.error))
        )
        if near_zero and is_dust(asked, visible):
            dust = np.maximum(dust, visible)
        found = replace(found, dust=dust)
        # Of a truth of zero, what is left is compared with what rounding leaves.
        dusty = float(np.linalg.norm(dust)) if found.scale == 0 else 0.0
        scale = max(found.scale, dusty, float(np.finfo(np.float64).tiny))
        worst = int(np.argmax(gaps - allowed))
        if not bool((gaps <= allowed).all()):
            raise OracleError(
                "inner and outer must be smooth functions whose derivatives torch knows, got "
                f"{expected[worst]:.10g} by differentiation and {differences.values[worst]:.10g} ± "
                f"{differences.errors[worst]:.1e} by differences of the outer objective along the same "
                "direction: no verdict is possible; look for .detach(), .item() or torch.no_grad inside "
                "the losses or the step, for rounding on purpose (.half(), round()), for a kink at this "
                "lam, or for hidden randomness"
            )
        broken = self.kink() if asked.program.lam.numel() <= LARGE else None
        if broken is not None:
            # Central differences and the derivative that torch gives to a kink may agree on its mean.
            raise broken
        coarse = float(np.max(differences.errors))
        single = float(torch.finfo(asked.program.lam.dtype).eps) > _DOUBLE
        if single:
            # As many digits as there are: a verdict is still possible on an error that is larger.
            spread = SAFETY * coarse / math.sqrt(len(found.error))
            if SAFETY * coarse > _BLUNT * scale and found.scale > 0:
                raise _too_coarse(asked, coarse / scale)
            found = replace(found, error=found.error + spread)
        elif coarse > _RESOLUTION * scale and found.scale > 0:
            dust = dust_of(asked, found, self._objective)
            if float(np.linalg.norm(found.value)) <= float(np.linalg.norm(dust)):
                # Terms that cancel: zero, as far as anybody can compute it.
                left = np.maximum(dust, coarse)
                zero = replace(found, dust=left, error=np.maximum(found.error, left))
                return replace(zero, confirmed=float(np.max(gaps)) / float(np.linalg.norm(left)))
            raise self.kink(across=False) or OracleError(
                f"the outer objective must be resolvable by differences, got an error of "
                f"{coarse / scale:.1e} relative to the hypergradient (the objective's own noise is "
                f"{differences.noise:.1e}): no verdict is possible; rescale the outer loss, take a "
                "large constant out of it, or look for values that jump near this lam (a tie, a sort, an "
                "argmax, rounding on purpose)"
            )
        return replace(found, confirmed=float(np.max(gaps)) / scale)

    def kink(self, *, across: bool = True) -> OracleError | None:
        """The error for a kink at λ, if there is one along a direction of the differences.

        Args:
            across: whether the objective's noise is what was measured on both sides of λ together.
        """
        if self._differences is None:
            return None
        lam = self._asked.program.lam
        for direction in self._along().unbind(1):
            noise = self._differences.noise if across else None
            error = kink(self._objective, lam, direction.to(lam), noise)
            if error is not None:
                return error
        return None

    def _along(self) -> Tensor:
        columns = self._asked.columns
        return columns @ torch.as_tensor(self._weights).to(columns)


def _too_coarse(asked: Question, relative: float) -> OracleError:
    dtype = asked.program.lam.dtype
    names = small_tensors(asked.program, dtype)
    small = str(dtype).removeprefix("torch.")
    held = f" ({names}: {small})" if names else ""
    return OracleError(
        f"inner and outer must be known to more digits than {small} leaves, got differences with an error of "
        f"{relative:.1e} relative to the hypergradient, and a float64 run of the same code that differs by "
        f"more than rounding or fails: no verdict is possible; give the losses float64 data{held}"
    )


def _differences(
    asked: Question, objective: Callable[[Tensor], float], along: Tensor, expected: Array | None
) -> Differences:
    """Differences of the objective along the columns of `along`."""
    lam = asked.program.lam
    frugal = None
    if lam.numel() > LARGE and expected is not None:
        frugal = Frugal(_ENOUGH, expected)
    return directional_derivatives(
        lambda at: objective(at.to(lam)),
        lam.detach().cpu().double(),
        along.cpu().double(),
        asked.draws,
        float(torch.finfo(lam.dtype).eps),
        frugal,
    )


def by_differences(
    asked: Question, objective: Callable[[Tensor], float], ladder: Ladder | None
) -> Reference:
    """The derivatives by differences alone."""
    program = asked.program
    states = program.states(program.lam)

    def direct_objective(lam: Tensor) -> float:
        total = 0.0
        for step in range(1, program.schedule.steps + 1):
            if program.schedule.sampled(step):
                total += float(program.outer(leaf(lam), leaf(states[step]), step).detach())
        return total / program.schedule.samples

    total = _differences(asked, objective, asked.columns, None)
    direct = _differences(asked, direct_objective, asked.columns, None)
    error = SAFETY * total.errors
    scale = float(np.linalg.norm(total.values))
    if float(np.linalg.norm(error)) > _RESOLUTION * scale * SAFETY and scale > 0:
        reasons = "" if ladder is None else f" ({ladder.reason})"
        raise OracleError(
            "inner and outer must be differentiable twice by torch, or smooth enough for differences, got "
            f"differences with an error of {float(np.linalg.norm(error)) / scale:.1e} relative to the "
            f"hypergradient and no derivative{reasons}; use operations that torch can differentiate twice"
        )
    widening = asked.ulp / float(torch.finfo(program.lam.dtype).eps)
    return Reference(
        asked.directions,
        asked.exhaustive,
        direct.values,
        total.values - direct.values,
        error + asked.ulp * np.abs(total.values),
        error,
        float(np.linalg.norm(total.errors)) / scale if scale > 0 else 0.0,
        Rung.DIFFERENCES,
        np.full(len(error), widening * total.noise),
    )


def _combinations(count: int, confirm: int, draws: Draws, exhaustive: bool) -> Array:
    """Weights of the directions, shape (k, c): random ones of norm one, or the first directions."""
    if not exhaustive:
        return np.eye(count)[:, : min(confirm, count)]
    weights = draws.normal(Stream.DIRECTIONS, 1, torch.empty(count, confirm)).double().numpy()
    normed: Array = weights / np.linalg.norm(weights, axis=0)
    return normed
