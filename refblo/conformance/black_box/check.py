"""The verdict on a hypergradient of a function λ ↦ outer loss that nobody looks into.

The truth is the slopes of that function by differences, so what can be seen ends where the function's own
rounding, or its hidden randomness, begins: the floor of the report is measured, not chosen.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64

from refblo.conformance.answers import WHICH, called
from refblo.conformance.black_box.arrays import FlatArrays
from refblo.conformance.black_box.halves import widened
from refblo.conformance.black_box.names import name_mistake
from refblo.conformance.black_box.objective import (
    FINE,
    Objective,
    Repeatability,
    precision,
    repeatability,
)
from refblo.conformance.black_box.quantum import quantum
from refblo.conformance.black_box.slopes import Slope, slopes
from refblo.conformance.calls import Call, Judged, first_wrong, floor_of, gap, points
from refblo.conformance.entries import only
from refblo.conformance.margins import Judgement, columns, judge
from refblo.conformance.options import DIAGNOSIS_SECONDS, checked_black_box
from refblo.conformance.report import Report, Verdict, miss_rate, worst_direction
from refblo.conformance.truth.ladder import Rung
from refblo.conformance.truth.reference import Reference
from refblo.errors import ArgumentTypeError, OracleError
from refblo.noise import Draws, Stream

Array = np.ndarray

ALL_COORDINATES = 12
"""Up to how many hyperparameters every coordinate is checked unless directions are asked for."""

DIRECTIONS = 3

MOST_BLOCKS = 8
"""Up to how many tensors of λ are judged one by one."""

HOPELESS = 0.3
"""The relative error from which on differences say nothing: a wrong factor of 1.3 would not be seen."""


def black_box_report(
    objective: Any, lam: Any, hypergradient: Any, options: Mapping[str, object]
) -> Report:
    """Judge a hypergradient of `objective` by differences of it.

    Args:
        objective: λ ↦ outer loss after the training, a real number; in any framework, on any device. It must
            give the same value whenever it is called at the same λ.
        lam: λ: a torch tensor, a NumPy or JAX array, a number, or a dict, list or tuple of these.
        hypergradient: a function of λ, or the hypergradient itself, of λ's form.
        options: see `BlackBoxOptions`.

    Raises:
        OracleError: if no verdict is possible: a kink or a jump at λ, hidden randomness, too much rounding.
        ArgumentError, ArgumentTypeError: for arguments that do not fit together.
    """
    given = checked_black_box(options)
    if not callable(objective):
        raise ArgumentTypeError(
            f"objective must be a function of lam, got {type(objective).__name__}; give the function that "
            "trains and returns the outer loss"
        )
    arrays = FlatArrays.of(lam, "lam")
    if not callable(hypergradient):
        arrays.vector_of(hypergradient, "hypergradient")  # before the slopes, which may take long
    function = Objective(objective, arrays)
    repeated = repeatability(function)
    unit = precision(function)
    rounded = 0.0
    if repeated.deterministic and not function.coarse:
        rounded, share = quantum(function, precision=unit)
        unit = max(unit, share)
    draws = Draws(given.get("seed", 0))
    directions = _directions(arrays, given.get("directions"), draws)
    floor, tolerance = given.get("floor"), given.get("tolerance", 0.0)
    wide = widened(function, directions.columns, draws) if repeated.deterministic else None
    if wide is not None and floor is not None and floor < wide.floor:
        wide = None
    if wide is not None:
        truths = _Truths(wide.objective, directions, wide.precision, draws)
    else:
        truths = _Truths(function, directions, unit, draws)
    _refuse_what_hides(truths.here, repeated)
    calls, findings = _calls(hypergradient, arrays)
    bar = floor_of(unit) if floor is None else floor
    if wide is not None:
        bar = max(bar, wide.floor)
    judged = first_wrong(
        calls,
        truths.at,
        lambda call, truth: judge(
            call.answer,
            truth,
            bar,
            tolerance,
            directions.blocks,
            unit if wide is None else wide.precision,
        ),
    )
    report = _report(calls, judged, directions, bar, floor is not None)
    count = function.total + (0 if wide is None else wide.objective.total)
    findings += _findings(function, count, repeated, _of_values(rounded, unit, function))
    findings += _between(calls, judged)
    if wide is not None:
        findings.append(
            f"lam is in half precision: the truth is that of the same objective at a lam in "
            f"{wide.dtype}, and nothing below {wide.floor} is accused, as what rounding did to the answer "
            "cannot be seen from outside"
        )
    report = replace(report, findings=tuple(findings))
    call = calls[judged.position]
    if report.verdict is not Verdict.WRONG or not call.finite:
        return report
    seconds = given.get("diagnosis_seconds", DIAGNOSIS_SECONDS)
    if seconds == 0:
        return report
    slope = truths.slope_at(call.lam)
    earlier = [one.answer for one in calls[: judged.position]]
    named = name_mistake(
        call.answer, earlier, arrays.blocks, slope, seconds, lam=call.lam, spread=gap(calls)
    )
    report = replace(report, diagnosis=named)
    if named.name is None and report.relative_error <= _OF_A_SOLVER and not named.cut_off:
        report = replace(report, findings=(*report.findings, _UNCONVERGED))
    return report


_OF_A_SOLVER = 1e-2
"""The relative error up to which the tolerance of a training may be what explains it."""

_UNCONVERGED = (
    "if the training stops at a tolerance and this is the hypergradient of its exact solution, an error of "
    "this size is what the tolerance leaves: tighten it, or declare tolerance="
)


@final
@dataclass(frozen=True, eq=False)
class _Directions:
    """Along what the slopes are taken: `whole` columns over all of λ, then one inside each judged block."""

    columns: Float64[Array, "p k"]
    whole: int
    exhaustive: bool
    blocks: Mapping[str, slice]


def _directions(arrays: FlatArrays, asked: int | None, draws: Draws) -> _Directions:
    p = arrays.vector.size
    blocks = arrays.blocks if 1 < len(arrays.blocks) <= MOST_BLOCKS else {}
    if asked is None and p <= ALL_COORDINATES:
        return _Directions(np.eye(p), p, True, blocks)
    count = DIRECTIONS if asked is None else asked
    like = torch.empty(p, dtype=torch.float64, device="cpu")
    drawn = [draws.normal(Stream.DIRECTIONS, 10 + j, like).numpy() for j in range(count)]
    for part in blocks.values():
        inside = np.zeros(p)
        inside[part] = drawn[0][part]
        drawn.append(inside)
    scaled = np.stack([column / np.linalg.norm(column) for column in drawn], axis=1)
    return _Directions(scaled, count, False, blocks)


@final
@dataclass(eq=False)
class _Truths:
    """Slopes of the caller's function at λ and at other points."""

    objective: Objective
    directions: _Directions
    unit: float
    draws: Draws

    @cached_property
    def here(self) -> Reference:
        """At λ itself."""
        return self._reference(self.objective)

    def at(self, call: Call) -> Reference | None:
        """Where a call was made; None where there are no slopes."""
        if np.array_equal(call.lam, self.objective.arrays.vector):
            return self.here
        try:
            return self._reference(self.objective.moved_to(call.lam))
        except OracleError:
            return None

    def slope_at(self, lam: Array) -> Slope:
        """The slope along any direction at a point, and its error."""
        moved = self.objective.moved_to(lam)

        def slope(direction: Array) -> tuple[float, float]:
            found = slopes(moved, direction[:, None], self.unit, self.draws)
            return float(found.values[0]), float(found.errors[0])

        return slope

    def _reference(self, objective: Objective) -> Reference:
        taken = slopes(objective, self.directions.columns, self.unit, self.draws)
        none = np.zeros_like(taken.values)
        return Reference(
            directions=self.directions.columns,
            exhaustive=self.directions.exhaustive,
            direct=none,
            indirect=taken.values,
            rounding=none,
            error=taken.errors,
            confirmed=math.nan,
            rung=Rung.OBJECTIVE,
            dust=taken.errors,
        )


def _refuse_what_hides(here: Reference, repeated: Repeatability) -> None:
    """Raise where the function's noise leaves nothing to see."""
    error = float(np.linalg.norm(here.error))
    size = float(np.linalg.norm(here.value))
    if error <= HOPELESS * size or (repeated.deterministic and size <= error and error < 1e-8):
        return
    if not repeated.deterministic:
        why = (
            "its values move in one direction from call to call, as those of a function that goes on from "
            "where its last call ended do: start the training anew in every call"
            if repeated.drifts
            else "hidden randomness: fix the seeds of the initial point, the order of the data and dropout "
            "inside it"
        )
        raise OracleError(
            "objective must be a function of lam alone, got values at the same lam that differ by "
            f"{repeated.spread:.1e}: no verdict is possible ({why})"
        )
    raise OracleError(
        f"objective must be resolvable by differences, got slopes of size {size:.1e} with an error of "
        f"{error:.1e}: no verdict is possible; train in float64, take a large constant out of the outer "
        "loss, or look for values that jump as lam moves (a sort, an early stop, a number rounded inside)"
    )


def _calls(hypergradient: Any, arrays: FlatArrays) -> tuple[list[Call], list[str]]:
    """The answers at λ, near λ and at λ again; one for a hypergradient that was computed before."""
    here = arrays.vector
    if not callable(hypergradient):
        return [Call(here, arrays.vector_of(hypergradient, "hypergradient"))], []
    calls: list[Call] = []
    findings: list[str] = []
    for which, point in zip(WHICH, points(here), strict=True):
        # What is handed out is a copy: the slopes must not depend on what the caller does to it.
        given = arrays.at(point)
        before = FlatArrays.of(given, "lam").vector
        answer = arrays.vector_of(called(hypergradient, (given,), which), "hypergradient")
        if not np.array_equal(FlatArrays.of(given, "lam").vector, before) and not findings:
            findings.append("finding: it changes the lam that it is given in place")
        calls.append(Call(before, answer))
    return calls, findings


def _report(
    calls: list[Call],
    judged: Judged[Reference, Judgement],
    directions: _Directions,
    bar: float,
    asked: bool,
) -> Report:
    """The verdict with its figures."""
    call, found, reference = calls[judged.position], judged.judgement, judged.truth
    verdict, reason = _verdict(call, found, bar, asked)
    block = found.wrong_block
    shown = found.shown
    whole = reference if reference.exhaustive else columns(reference, slice(0, directions.whole))
    observed, along = call.answer, whole
    if found.wrong_entry is not None:
        observed, along = only(found.wrong_entry, observed, reference)
    direction, seen, should = worst_direction(observed, along)
    return Report(
        verdict=verdict,
        estimand=None,
        error=shown.distance if call.finite else np.inf,
        bound=shown.allowed,
        relative_error=shown.relative if call.finite else np.inf,
        floor=shown.floor,
        floor_wanted=bar,
        directions=whole.directions.shape[1],
        exhaustive=reference.exhaustive,
        miss_rate=miss_rate(whole),
        direction=direction,
        observed_slope=seen,
        true_slope=should,
        confirmed=math.nan,
        reason=reason,
        zero=found.zero,
        entry=found.wrong_entry,
        blocks=found.blocks,
        block=None if block is None else block.name,
        truth=reference.rung.sentence,
    )


def _verdict(call: Call, found: Judgement, bar: float, asked: bool) -> tuple[Verdict, str]:
    if not call.finite:
        return Verdict.WRONG, "it is not finite"
    if not found.right:
        return Verdict.WRONG, found.where_wrong
    if found.blind and not found.zero:
        return Verdict.UNDECIDED, (
            "it cannot tell your answer from zero: rounding, the floor and the declared tolerance allow an "
            "error as large as the truth"
        )
    if asked and found.whole.noise > bar * found.whole.scale and not found.zero:
        return Verdict.UNDECIDED, (
            f"no error is seen, but one of {bar:.1e}, the floor asked for, would not be: differences of this "
            f"objective see {found.whole.floor:.1e}; train in float64"
        )
    unseen = [block.name for block in found.blocks if not block.seen]
    reason = f"but block {', '.join(unseen)} of lam was not seen" if unseen else ""
    if not reason and found.entries is not None and found.entries.unseen:
        reason = f"but {found.entries.describe_unseen()}"
    if found.zero:
        reason = "the truth is zero within its own error, and so is the answer"
    return Verdict.RIGHT, reason


def _of_values(rounded: float, unit: float, function: Objective) -> str:
    """What the values of the objective say of its accuracy; "" where it is that of float64."""
    if rounded > 0:
        return (
            f"finding: the objective's values are multiples of {rounded:.3g}, as of a number that was "
            "rounded or printed, which sets the floor; return the loss as it is"
        )
    if unit > FINE:
        return (
            "the objective computes in single precision, or coarser, which sets the floor; in float64 more "
            "would be seen" + _x64(function)
        )
    return ""


def _findings(
    function: Objective, count: int, repeated: Repeatability, of_values: str
) -> list[str]:
    """What was noticed of the objective."""
    said = [f"the objective was called {count} times"]
    if not repeated.deterministic:
        said.append(
            f"finding: values of the objective at the same lam differ by {repeated.spread:.1e}; the floor "
            "allows for it"
        )
    if function.seen.writes:
        said.append(
            "finding: objective changes the lam that it is given in place; let it work on a copy"
        )
    return said + ([of_values] if of_values else [])


def _between(calls: list[Call], judged: Judged[Reference, Judgement]) -> list[str]:
    """What was noticed between the calls of the hypergradient."""
    apart = gap(calls)
    if apart <= judged.judgement.whole.allowed:
        return []
    return [
        f"finding: two calls at the same lam differ by {apart:.1e}: it is not deterministic, or keeps "
        "state between calls"
    ]


def _x64(function: Objective) -> str:
    """A hint for JAX, where float64 is off unless asked for."""
    if not function.of_jax:
        return ""
    return ' (JAX: jax.config.update("jax_enable_x64", True) before anything else)'
