"""The second oracle of a verdict: differences of the outer objective, which must confirm the first oracle.

`Confirmation.of` takes the derivatives by the first oracle (a `Reference`). It returns them confirmed, with
larger errors where the differences are less accurate, or raises OracleError: then there is no verdict. The
rules, in this order:

1. If the two oracles differ by more than their two errors, there is no verdict.
2. If the objective has a kink at λ, there is no verdict: there both oracles can give the mean of two slopes.
3. In float32, the error of the differences is added to the error of the derivatives.
4. In float64, differences with a relative error above `_RESOLUTION` confirm nothing, and there is no verdict;
   except for derivatives that are zero up to rounding (`reference.dust_of`).

`by_differences` serves a program that torch cannot differentiate.

The constants are the thresholds of these rules. tests/conformance holds them from both sides:
test_specificity and test_single_precision (right answers are not called wrong), test_sensitivity (planted
mistakes are found), test_kinks.
"""

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
from refblo.conformance.truth.refusal import LOOK_FOR, kink
from refblo.derivatives.differences import Differences, Frugal, directional_derivatives
from refblo.derivatives.rounding import SAFETY
from refblo.errors import OracleError
from refblo.noise import Draws, Stream

Array = np.ndarray

_ENOUGH = 1e-4
"""The relative error from which on no more evaluations are spent, with more than `LARGE` hyperparameters."""

_RESOLUTION = 1e-3
"""The relative error of the differences above which they confirm nothing, in float64."""

_RESOLUTION_SINGLE = 0.5
"""The same in float32. Above it, even an answer of zero could hardly be told from the truth."""

_DOUBLE = 1e-10
"""Machine epsilon below which the dtype of a program counts as float64."""


@final
class Confirmation:
    """Confirms derivatives by differences of the outer objective, which are taken once, at the first call.

    Args:
        question: what the truth is asked for.
        objective: λ ↦ the outer objective.
    """

    def __init__(self, question: Question, objective: Callable[[Tensor], float]) -> None:
        self._question = question
        self._objective = objective
        self._weights = np.zeros((question.columns.shape[1], 0))
        self._differences: Differences | None = None

    def of(self, derivatives: Reference, count: int) -> Reference:
        """The derivatives, confirmed: with `confirmed` set, and `error` and `dust` enlarged where needed.

        Args:
            derivatives: the derivatives by the first oracle.
            count: along how many combinations of the directions differences are taken.

        Raises:
            OracleError: if the oracles disagree, the objective has a kink, or the differences are too coarse.
        """
        question = self._question
        if self._differences is None:
            directions = question.columns.shape[1]
            self._weights = _combinations(directions, count, question.draws, question.exhaustive)
            expected = derivatives.value @ self._weights
            self._differences = _differences(question, self._objective, self._along(), expected)
        weights, differences = self._weights, self._differences
        expected = derivatives.value @ weights
        gaps = np.abs(differences.values - expected)
        allowed = SAFETY * differences.errors + np.abs(weights.T) @ derivatives.error
        lam_size = max(1.0, float(question.program.lam.abs().max()))
        widening = question.ulp / float(torch.finfo(question.program.lam.dtype).eps)
        visible = widening * differences.noise / lam_size
        dust = derivatives.dust
        # Dust is needed only if the truth may be zero.
        near_zero = float(np.linalg.norm(derivatives.value)) <= max(
            visible * math.sqrt(dust.size), float(np.linalg.norm(derivatives.error))
        )
        if near_zero and is_dust(question, visible):
            dust = np.maximum(dust, visible)
        derivatives = replace(derivatives, dust=dust)
        # A truth of zero has no size to compare an error with: take the size of its rounding.
        dusty = float(np.linalg.norm(dust)) if derivatives.scale == 0 else 0.0
        scale = max(derivatives.scale, dusty, float(np.finfo(np.float64).tiny))
        worst = int(np.argmax(gaps - allowed))
        if not bool((gaps <= allowed).all()):
            raise OracleError(
                "inner and outer must be smooth functions whose derivatives torch knows, got "
                f"{expected[worst]:.10g} by differentiation and {differences.values[worst]:.10g} ± "
                f"{differences.errors[worst]:.1e} by differences of the outer objective along the same "
                f"direction: no verdict is possible; {LOOK_FOR}"
            )
        at_a_kink = self.kink() if question.program.lam.numel() <= LARGE else None
        if at_a_kink is not None:
            # Central differences give the mean of the two slopes, and torch's derivative may be that mean.
            raise at_a_kink
        coarse = float(np.max(differences.errors))
        single = float(torch.finfo(question.program.lam.dtype).eps) > _DOUBLE
        if single:
            # Differences in float32 have few digits: add their error; larger errors can still be judged.
            spread = SAFETY * coarse / math.sqrt(len(derivatives.error))
            if SAFETY * coarse > _RESOLUTION_SINGLE * scale and derivatives.scale > 0:
                raise _too_coarse(question, coarse / scale)
            derivatives = replace(derivatives, error=derivatives.error + spread)
        elif coarse > _RESOLUTION * scale and derivatives.scale > 0:
            dust = dust_of(question, derivatives, self._objective)
            if float(np.linalg.norm(derivatives.value)) <= float(np.linalg.norm(dust)):
                # The terms cancel: the truth is zero up to rounding.
                left = np.maximum(dust, coarse)
                zero = replace(derivatives, dust=left, error=np.maximum(derivatives.error, left))
                return replace(zero, confirmed=float(np.max(gaps)) / float(np.linalg.norm(left)))
            raise self.kink(across=False) or OracleError(
                f"the outer objective must be resolvable by differences, got an error of "
                f"{coarse / scale:.1e} relative to the hypergradient (the objective's own noise is "
                f"{differences.noise:.1e}): no verdict is possible; rescale the outer loss, take a "
                "large constant out of it, or look for values that jump near this lam (a tie, a sort, an "
                "argmax, rounding on purpose)"
            )
        return replace(derivatives, confirmed=float(np.max(gaps)) / scale)

    def kink(self, *, across: bool = True) -> OracleError | None:
        """The error for a kink at λ, if there is one along a direction of the differences.

        Args:
            across: whether to use the noise that was measured on both sides of λ together.
        """
        if self._differences is None:
            return None
        lam = self._question.program.lam
        for direction in self._along().unbind(1):
            noise = self._differences.noise if across else None
            values = self._differences.here
            error = kink(self._objective, lam, direction.to(lam), noise, values)
            if error is not None:
                return error
        return None

    def _along(self) -> Tensor:
        columns = self._question.columns
        return columns @ torch.as_tensor(self._weights, device="cpu").to(columns)


def _too_coarse(question: Question, relative: float) -> OracleError:
    dtype = question.program.lam.dtype
    names = small_tensors(question.program, dtype)
    small = str(dtype).removeprefix("torch.")
    held = f" ({names}: {small})" if names else ""
    return OracleError(
        f"inner and outer must be known to more digits than {small} leaves, got differences with an error of "
        f"{relative:.1e} relative to the hypergradient, and a float64 run of the same code that differs by "
        f"more than rounding or fails: no verdict is possible; give the losses float64 data{held}"
    )


def _differences(
    question: Question, objective: Callable[[Tensor], float], along: Tensor, expected: Array | None
) -> Differences:
    """Differences of the objective along the columns of `along`."""
    lam = question.program.lam
    frugal = None
    if lam.numel() > LARGE and expected is not None:
        frugal = Frugal(_ENOUGH, expected)
    return directional_derivatives(
        lambda at: objective(at.to(lam)),
        lam.detach().cpu().double(),
        along.cpu().double(),
        question.draws,
        float(torch.finfo(lam.dtype).eps),
        frugal,
    )


def by_differences(
    question: Question, objective: Callable[[Tensor], float], ladder: Ladder | None
) -> Reference:
    """The derivatives by differences of the outer objective alone, with nothing that confirms them.

    Raises:
        OracleError: if the differences are too coarse.
    """
    program = question.program
    states = program.states(program.lam)

    def direct_objective(lam: Tensor) -> float:
        total = 0.0
        for step in range(1, program.schedule.steps + 1):
            if program.schedule.sampled(step):
                total += float(program.outer(leaf(lam), leaf(states[step]), step).detach())
        return total / program.schedule.samples

    total = _differences(question, objective, question.columns, None)
    direct = _differences(question, direct_objective, question.columns, None)
    error = SAFETY * total.errors
    scale = float(np.linalg.norm(total.values))
    if float(np.linalg.norm(error)) > _RESOLUTION * scale * SAFETY and scale > 0:
        reasons = "" if ladder is None else f" ({ladder.reason})"
        raise OracleError(
            "inner and outer must be differentiable twice by torch, or smooth enough for differences, got "
            f"differences with an error of {float(np.linalg.norm(error)) / scale:.1e} relative to the "
            f"hypergradient and no derivative{reasons}; use operations that torch can differentiate twice"
        )
    widening = question.ulp / float(torch.finfo(program.lam.dtype).eps)
    return Reference(
        question.directions,
        question.exhaustive,
        direct.values,
        total.values - direct.values,
        error + question.ulp * np.abs(total.values),
        error,
        float(np.linalg.norm(total.errors)) / scale if scale > 0 else 0.0,
        Rung.DIFFERENCES,
        np.full(len(error), widening * total.noise),
    )


def _combinations(count: int, confirm: int, draws: Draws, exhaustive: bool) -> Array:
    """Weights of the directions along which differences are taken, shape (k, c).

    Random combinations of norm one if the directions are all coordinates; else the first `confirm`
    directions.
    """
    if not exhaustive:
        return np.eye(count)[:, : min(confirm, count)]
    weights = (
        draws.normal(Stream.DIRECTIONS, 1, torch.empty(count, confirm, device="cpu"))
        .double()
        .numpy()
    )
    normed: Array = weights / np.linalg.norm(weights, axis=0)
    return normed
