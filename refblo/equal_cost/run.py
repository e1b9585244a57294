"""All methods on one problem at equal cost: error against evaluations, and against bytes.

Each method is run at growing settings from the same cold start, without noise of its own. Every run is a
point (derivative evaluations, peak live bytes, relative error), the error being the distance from the truth
that is asked about: the bilevel one where the problem has it. A method whose estimand is another is
compared all the same, and the table says so: it is what a user who wants that truth gets from it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import final

import torch

from refblo.chain import Langevin
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.cost import LiveBytes
from refblo.equal_cost.methods import METHODS, Method
from refblo.equal_cost.targets import Target
from refblo.errors import ArgumentError, OracleError, RefbloError, require
from refblo.noise import SEED_ZERO, Draws
from refblo.oracles import truths
from refblo.problem import FixedInitial
from refblo.problems.case import Case
from refblo.types import DIVERGED, Estimand, Truth

MIN_BUDGET = 8
"""Derivative evaluations: the fewest that every method can make a run of."""

MAX_DENSE_ENTRIES = 2**16
"""Numbers that a dense method may hold."""


@final
@dataclass(frozen=True)
class Point:
    """One run of one method.

    Attributes:
        method: the method's name.
        steps: T.
        evaluations: of derivatives, counted.
        bytes: most bytes of storages alive at once, made during the run.
        error: distance from the truth over the truth's norm; None after a divergence.
        remark: why there is no error.
    """

    method: str
    steps: int
    evaluations: int
    bytes: int
    error: float | None
    remark: str = ""


@final
@dataclass(frozen=True)
class MethodComparison:
    """The result of a comparison: every run, and the truth that it was measured against.

    Attributes:
        case: the problem's name.
        estimand: the truth that was asked about.
        oracle: whose answer it is measured against.
        floor: relative error of the truth used: no figure below it means anything.
        points: every run.
        rounding: what rounding of the longest run allows, relative to the answer.
    """

    case: str
    estimand: Estimand
    oracle: str
    floor: float
    points: tuple[Point, ...]
    rounding: float = 0.0

    def best(self, method: str, budget: int) -> Point | None:
        """The run of a method with the smallest error among those that cost at most `budget`."""
        within = [
            point
            for point in self.points
            if point.method == method and point.evaluations <= budget and point.error is not None
        ]
        return min(within, key=_error_of, default=None)

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of what ran beside the methods of this package."""
        ours = {method.name for method in METHODS}
        return tuple(dict.fromkeys(p.method for p in self.points if p.method not in ours))

    def front(self, cost: Callable[[Point], int]) -> frozenset[str]:
        """The methods with a run that no other method's run beats in both cost and error.

        Errors that the truth's own error or rounding explains are equal.
        """
        least = max(self.floor, self.rounding)
        runs = [
            replace(point, error=max(point.error, least))
            for point in self.points
            if point.error is not None
        ]
        return frozenset(
            point.method for point in runs if not any(_beats(o, point, cost) for o in runs)
        )


def _error_of(point: Point) -> float:
    return float("inf") if point.error is None else point.error


def _beats(one: Point, other: Point, cost: Callable[[Point], int]) -> bool:
    """At most the cost and the error, and less in one of them."""
    costs, errors = (cost(one), cost(other)), (_error_of(one), _error_of(other))
    no_worse = costs[0] <= costs[1] and errors[0] <= errors[1]
    return no_worse and (costs[0] < costs[1] or errors[0] < errors[1])


def truth_of(case: Case, estimand: Estimand | None, draws: Draws) -> Truth:
    """The answer with the smallest error; the bilevel one unless asked otherwise or there is none.

    The methods run without noise of their own, and so does a program that they are compared with.

    Raises:
        ArgumentError: if no oracle knows the answer.
    """
    quiet = replace(case, dynamics=Langevin(case.dynamics.step_size, case.dynamics.temperature))
    if estimand is None and isinstance(case.problem.initial, FixedInitial):
        try:
            return _smallest(case, Estimand.IMPLICIT, draws)
        except (ArgumentError, OracleError):
            pass  # no minimiser, no batches to do without: the program is what is left to ask about
    wanted = estimand or Estimand.UNROLLED
    programs = (Estimand.UNROLLED, Estimand.PATHWISE)
    return _smallest(quiet if wanted in programs else case, wanted, draws)


def _smallest(case: Case, estimand: Estimand, draws: Draws) -> Truth:
    return min(truths(case, estimand, draws), key=lambda truth: truth.error)


def compare_methods(
    case: Case,
    budget: int,
    estimand: Estimand | None = None,
    draws: Draws = SEED_ZERO,
    methods: tuple[Method, ...] = METHODS,
    targets: tuple[Target, ...] = (),
) -> Iterator[Point | MethodComparison]:
    """Run every method at doubling settings up to a budget.

    Args:
        case: the problem.
        budget: the most derivative evaluations of one run.
        estimand: the truth to compare with; by default `truth_of` chooses.
        draws: of the batches, and of the methods that draw.
        methods: which.
        targets: other implementations to run beside them.

    Yields:
        Each point as it is finished, and the comparison at the end.

    Raises:
        ArgumentError: for a budget below `MIN_BUDGET`, or a truth that no oracle knows.
    """
    require(
        budget >= MIN_BUDGET,
        "budget",
        f"be at least {MIN_BUDGET}",
        budget,
        "allow a few evaluations",
    )
    truth = truth_of(case, estimand, draws)
    size = float(truth.value.norm())
    points: list[Point] = []
    for run in _runs(case, truth, draws, methods, targets):
        steps = 1 if truth.estimand is not Estimand.UNROLLED else case.schedule.steps
        spent = -1
        while True:
            point = run(steps)
            # A method whose cost does not grow with T has no other setting to try.
            if point.evaluations > budget or point.evaluations == spent:
                break
            points.append(point)
            yield point
            # The unrolled truth is one of T steps: there is no other setting to try either.
            if point.error is None or truth.estimand is Estimand.UNROLLED:
                break
            steps, spent = 2 * steps, point.evaluations
    floor = truth.error / size if size > 0 else truth.error
    longest = max((point.steps for point in points), default=1)
    rounding = ROUNDINGS_A_STEP * longest * unit_roundoff(case.lam.dtype)
    yield MethodComparison(case.name, truth.estimand, truth.oracle, floor, tuple(points), rounding)


def _fits(method: Method, case: Case) -> bool:
    n, p = case.problem.initial(case.lam).numel(), case.lam.numel()
    if method.dense and n * max(n, p) > MAX_DENSE_ENTRIES:
        return False
    return method.any_start or isinstance(case.problem.initial, FixedInitial)


def _runs(
    case: Case,
    truth: Truth,
    draws: Draws,
    methods: tuple[Method, ...],
    targets: tuple[Target, ...],
) -> Iterator[Callable[[int], Point]]:
    """What makes a point from a number of inner steps, for each method and target that fits."""
    for method in methods:
        if _fits(method, case):
            yield partial(_run, method, case, truth, draws)
    for target in targets:
        if target.applies(case):
            yield partial(_run_target, target, case, truth, draws)


def _run(method: Method, case: Case, truth: Truth, draws: Draws, steps: int) -> Point:
    """One run, counted."""
    estimator = method.make(case.dynamics.step_size, steps)
    try:
        with LiveBytes() as live:
            result = estimator.estimate(case.problem, case.lam, draws)
    except RefbloError as error:
        return Point(method.name, steps, 0, 0, None, str(error))
    if result.status in DIVERGED or result.estimate is None:
        return Point(method.name, steps, result.cost.total, live.peak, None, result.status.value)
    away = _distance(result.estimate, truth)
    return Point(method.name, steps, result.cost.total, live.peak, away)


def _run_target(target: Target, case: Case, truth: Truth, draws: Draws, steps: int) -> Point:
    """One run of somebody else's implementation, counted from outside."""
    try:
        with LiveBytes() as live:
            value, cost = target.run(case, steps, draws)
    except (Exception, SystemExit) as error:  # the others' points are not to be lost
        return Point(target.name, steps, 0, 0, None, f"{type(error).__name__}: {error}")
    if value.shape != truth.value.shape or not bool(torch.isfinite(value).all()):
        return Point(target.name, steps, cost.total, live.peak, None, "not a finite vector")
    return Point(target.name, steps, cost.total, live.peak, _distance(value, truth))


def _distance(value: torch.Tensor, truth: Truth) -> float:
    """From the truth, over its norm."""
    value = value.detach().cpu().to(torch.float64)
    known = truth.value.detach().cpu().to(torch.float64)
    size = float(known.norm())
    return float((value - known).norm()) / (size if size > 0 else 1.0)
