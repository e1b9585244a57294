"""`hypergradcheck`: gradcheck for bilevel problems."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Unpack, final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.conformance.arguments import Given, Loss, Run, Start, estimand_of, given
from refblo.conformance.diagnosis import Setting, Subject, diagnose
from refblo.conformance.margins import Margin, margin
from refblo.conformance.report import (
    HypergradientMismatch,
    Report,
    Verdict,
    miss_rate,
    worst_direction,
)
from refblo.conformance.truth.expectation import (
    ERROR_RATE,
    POWER,
    estimates,
    gibbs_truth,
    judge_mean,
)
from refblo.conformance.truth.reference import LARGE, Reference, reference
from refblo.errors import ArgumentError, OracleError, require
from refblo.noise import Draws, Stream
from refblo.ravel import Tree, ravel_tree
from refblo.types import Estimand

Array = np.ndarray
Subjected = Callable[[Any], Any] | Tree
"""A function lam ↦ hypergradient of lam's shape, or a hypergradient that was computed before."""

_ALL_COORDINATES = 32
"""Up to how many hyperparameters every coordinate is checked unless directions are asked for."""

_DIRECTIONS = 3


@final
class Options(Run, total=False):
    """All options of `hypergradcheck`; the run's are those of `Run`.

    Attributes:
        estimand: "unrolled", "pathwise", "implicit" or "gibbs".
        directions: how many random directions; None for all coordinates of a small λ, three
            directions of a large one.
        floor: the smallest relative error that must be seen.
        tolerance: the relative error that the method itself declares, such as that of its solver.
        terms: how many terms or iterations the method declares for its solve, for the diagnosis.
        seed: of the directions.
        seeds: for the Gibbs estimand by sampling: how many estimates hypergradient(lam, seed) to average.
            Without it hypergradient(lam) is judged as a number.
    """

    estimand: str | Estimand
    directions: int | None
    floor: float | None
    tolerance: float
    terms: int | None
    seed: int
    seeds: int


def hypergradcheck(
    inner: Loss | None,
    outer: Loss,
    lam: Tree,
    theta0: Start,
    hypergradient: Subjected,
    **options: Unpack[Options],
) -> Report:
    """Check a hypergradient against the truth; raise with a diagnosis if it is wrong.

    The truth is computed twice, by a forward tangent along the run (or a dense solve, for the implicit
    estimand) and by differences of the outer objective; where the two disagree there is no verdict.
    What is allowed is their error, a measured estimate of what rounding does to the result, and the
    declared `tolerance`; below `floor` nothing is accused.

    Args:
        inner: L_T, a function (lam, theta) or (lam, theta, batch) ↦ scalar; None if `step` is given.
        outer: f, likewise.
        lam: λ, a tensor or a tree of tensors.
        theta0: θ⁰, a tensor or a tree of tensors, or a function lam ↦ θ⁰. With `step`, the initial state.
        hypergradient: a function lam ↦ hypergradient, of lam's shape, or the hypergradient itself. A function
            is called at lam, at a point near by and at lam again, so that what it keeps between calls shows.
        options: see `Options` and `Run`.

    Returns:
        The report of a hypergradient that is right.

    Raises:
        HypergradientMismatch: if it is wrong; carries the error, the bound, the direction and the diagnosis.
        OracleError: if no verdict is possible.
        ArgumentError, ArgumentTypeError: for arguments that do not fit together.

    Example:
        >>> import torch
        >>> lam, theta0 = torch.ones(2).double(), torch.zeros(3).double()
        >>> inner = lambda lam, theta: (theta - lam.sum()).square().sum() / 2
        >>> outer = lambda lam, theta: theta.square().sum()
        >>> right = lambda lam: 3 * 2 * 0.1**2 * lam.sum().expand(2)
        >>> report = hypergradcheck(inner, outer, lam, theta0, right, steps=1, step_size=0.1)
        >>> report.verdict.value
        'right'
    """
    report = hypergradient_report(inner, outer, lam, theta0, hypergradient, **options)
    if report.verdict is Verdict.WRONG:
        raise HypergradientMismatch(report)
    if report.verdict is Verdict.UNDECIDED:
        raise OracleError(report.describe())
    return report


def hypergradient_is_right(
    inner: Loss | None,
    outer: Loss,
    lam: Tree,
    theta0: Start,
    hypergradient: Subjected,
    **options: Unpack[Options],
) -> bool:
    """`hypergradcheck` as a yes or no; the arguments are the same.

    Raises:
        OracleError: if no verdict is possible.
        ArgumentError, ArgumentTypeError: for arguments that do not fit together.
    """
    try:
        return hypergradcheck(inner, outer, lam, theta0, hypergradient, **options).right
    except HypergradientMismatch:
        return False


def hypergradient_report(
    inner: Loss | None,
    outer: Loss,
    lam: Tree,
    theta0: Start,
    hypergradient: Subjected,
    **options: Unpack[Options],
) -> Report:
    """`hypergradcheck` as a report, whatever the verdict; the arguments are the same.

    Raises:
        OracleError: if the oracles cannot answer.
        ArgumentError, ArgumentTypeError: for arguments that do not fit together.
    """
    estimand = estimand_of(options.get("estimand", "unrolled"))
    problem = given(inner, outer, lam, theta0, estimand, options)
    single = problem.ulp > 1e-10
    floor = options.get("floor")
    wanted = (1e-4 if single else 1e-9) if floor is None else floor
    require(wanted >= 0, "floor", "be non-negative", wanted, "use a relative error such as 1e-6")
    tolerance = options.get("tolerance", 0.0)
    if estimand is Estimand.GIBBS:
        return _gibbs(problem, hypergradient, wanted, tolerance, options)
    seed = options.get("seed", 0)
    directions, exhaustive = _directions(problem, options.get("directions"), Draws(seed))
    calls, findings = _call(hypergradient, problem)
    truth = reference(
        problem.program,
        estimand,
        directions,
        exhaustive=exhaustive,
        draws=Draws(seed),
        ulp=problem.ulp,
        runs=4 if exhaustive else 2,
    )
    subject = Subject(problem.program, estimand, truth, options.get("terms"))
    again = _caller(hypergradient, problem)
    position, subject, found = _judge(calls, subject, problem, wanted, tolerance)
    observed = calls[position][1]
    verdict = Verdict.RIGHT if found.right else Verdict.WRONG
    if found.right and floor is not None and found.noise > floor * found.scale:
        verdict = Verdict.UNDECIDED
    direction, seen, should = worst_direction(observed, subject.reference)
    report = Report(
        verdict=verdict,
        estimand=estimand,
        error=found.distance,
        bound=found.allowed,
        relative_error=found.relative,
        floor=found.floor,
        floor_wanted=wanted,
        directions=directions.shape[1],
        exhaustive=exhaustive,
        miss_rate=miss_rate(truth),
        direction=direction,
        observed_slope=seen,
        true_slope=should,
        confirmed=truth.confirmed,
        findings=(*findings, *_between_calls(calls, found)),
    )
    if verdict is not Verdict.WRONG or not np.isfinite(observed).all():
        return report
    setting = Setting(subject, observed, tuple(calls[:position]), again, found.noise)
    return replace(report, diagnosis=diagnose(setting, problem.blocks))


def _directions(problem: Given, asked: int | None, draws: Draws) -> tuple[Array, bool]:
    """The directions as columns, and whether they are all coordinates."""
    p = problem.lam.numel()
    if asked is None and p <= _ALL_COORDINATES:
        return np.eye(p), True
    count = _DIRECTIONS if asked is None else asked
    require(count >= 1, "directions", "be at least 1", count, "take at least one")
    columns = [
        draws.normal(Stream.DIRECTIONS, 10 + j, problem.lam).double().cpu().numpy()
        for j in range(count)
    ]
    return np.stack([column / np.linalg.norm(column) for column in columns], axis=1), False


Calls = list[tuple[Float64[Array, " p"], Float64[Array, " p"]]]


def _caller(hypergradient: Subjected, problem: Given) -> Callable[[Array], Array] | None:
    """The caller's function on flat NumPy vectors; None for a hypergradient computed before."""
    if not callable(hypergradient):
        return None

    def call(lam: Array) -> Array:
        given_lam = problem.unravel(torch.as_tensor(lam).to(problem.lam))
        return _vector(hypergradient(given_lam), problem)

    return call


def _vector(result: object, problem: Given) -> Array:
    """What was returned, as a flat float64 vector.

    Raises:
        ArgumentError: if it has not λ's size, or is no tensor.
    """
    if not isinstance(result, Tensor | dict | list | tuple):
        raise ArgumentError(
            f"hypergradient must return what lam is made of, got {type(result).__name__}; return tensors"
        )
    flat = result.reshape(-1) if isinstance(result, Tensor) else ravel_tree(result)[0]
    require(
        flat.numel() == problem.lam.numel(),
        "hypergradient",
        f"have one entry for each of the {problem.lam.numel()} hyperparameters",
        f"{flat.numel()} entries",
        "return the derivative by lam, flat or in lam's own form",
    )
    array: Array = flat.detach().cpu().to(torch.float64).numpy().copy()
    return array


def _call(hypergradient: Subjected, problem: Given) -> tuple[Calls, list[str]]:
    """Call at λ, near λ, and at λ again, noticing what the calls leave behind."""
    here = problem.lam.double().cpu().numpy().copy()
    if not callable(hypergradient):
        return [(here, _vector(hypergradient, problem))], []
    points = [here, _near(here), here] if here.size <= LARGE else [here]
    calls: Calls = []
    findings: list[str] = []
    for point in points:
        # A copy of its own: the truth must not depend on what the caller does to it.
        tensor = torch.as_tensor(point).to(problem.lam).clone()
        before = tensor.clone()
        result = hypergradient(problem.unravel(tensor))
        if not torch.equal(tensor.detach(), before) and "changes" not in "".join(findings):
            findings.append("finding: it changes the lam that it is given in place")
        calls.append((point, _vector(result, problem)))
    if not all(np.isfinite(vector).all() for _, vector in calls):
        findings.append("finding: it returns entries that are not finite")
    return calls, findings


def _near(lam: Array) -> Array:
    """A point near λ, every entry moved by one per cent."""
    size = np.maximum(np.abs(lam), 0.1 * (np.abs(lam).max() or 1.0))
    signs = np.where(np.arange(lam.size) % 2 == 0, 1.0, -1.0)
    moved: Array = lam + 0.01 * size * signs
    return moved


def _judge(
    calls: Calls, subject: Subject, problem: Given, floor: float, tolerance: float
) -> tuple[int, Subject, Margin]:
    """The first call that is wrong, or the first of all; what it is judged by, and how far off it is."""
    here = margin(calls[0][1], subject.reference, floor, tolerance)
    if not here.right or len(calls) == 1:
        return 0, subject, here
    if len(calls) > 1:
        elsewhere = _subject_at(calls[1][0], subject, problem)
        if elsewhere is not None:
            near = margin(calls[1][1], elsewhere.reference, floor, tolerance)
            if not near.right:
                return 1, elsewhere, near
    again = margin(calls[-1][1], subject.reference, floor, tolerance)
    return (0, subject, here) if again.right else (len(calls) - 1, subject, again)


def _subject_at(lam: Array, subject: Subject, problem: Given) -> Subject | None:
    """The truth at another λ, unconfirmed; None where there is none."""
    program = subject.program.at(torch.as_tensor(lam).to(subject.program.lam))
    base: Reference = subject.reference
    try:
        truth = reference(
            program,
            subject.estimand,
            base.directions,
            exhaustive=base.exhaustive,
            draws=Draws(0),
            ulp=problem.ulp,
            runs=2,
            confirm=0,
        )
    except OracleError:
        return None
    return Subject(program, subject.estimand, truth, subject.terms)


def _between_calls(calls: Calls, found: Margin) -> list[str]:
    """Whether two calls at the same λ agree."""
    if len(calls) < 3:
        return []
    gap = float(np.linalg.norm(calls[0][1] - calls[-1][1]))
    if gap <= found.allowed:
        return []
    return [
        f"finding: two calls at the same lam differ by {gap:.1e}: it is not deterministic, or keeps "
        "state between calls"
    ]


def _gibbs(
    problem: Given, hypergradient: Subjected, floor: float, tolerance: float, options: Options
) -> Report:
    """The report for the Gibbs estimand."""
    truth, apart = gibbs_truth(problem.program, options.get("temperature", 1.0))
    should = truth.value.numpy()
    scale = float(np.linalg.norm(should))
    slack = truth.error + max(floor, tolerance) * scale
    findings: tuple[str, ...] = ()
    if "seeds" in options:
        if not callable(hypergradient):
            raise ArgumentError(
                "hypergradient must be a function (lam, seed) beside seeds; give one"
            )
        sample = estimates(
            hypergradient,
            lambda: problem.unravel(problem.lam.clone()),
            options["seeds"],
            lambda result: _vector(result, problem),
        )
        judged = judge_mean(sample, should, slack)
        observed, right = judged.mean, judged.right
        error, bound = judged.off, judged.bound
        along = np.eye(should.size)[judged.worst]
        seen = judged.detectable / scale if scale > 0 else math.inf
        findings = (
            f"mean of {len(sample)} seeds: an unbiased estimate is accused with chance "
            f"{ERROR_RATE:.0e}, a "
            f"relative bias of {seen:.1e} is seen with chance {POWER:g}; the error above is that of "
            "the worst "
            "coordinate",
        )
    else:
        observed = _call(hypergradient, problem)[0][0][1]
        bound, seen = slack, slack / scale if scale > 0 else math.inf
        error = float(np.linalg.norm(observed - should))
        right = error <= slack
        along = (observed - should) / error if error > 0 else np.eye(should.size)[0]
    return Report(
        verdict=Verdict.RIGHT if right else Verdict.WRONG,
        estimand=Estimand.GIBBS,
        error=error,
        bound=bound,
        relative_error=error / scale if scale > 0 else math.inf,
        floor=seen,
        floor_wanted=floor,
        directions=should.size,
        exhaustive=True,
        miss_rate=0.0,
        direction=along,
        observed_slope=float(observed @ along),
        true_slope=float(should @ along),
        confirmed=apart,
        findings=findings,
    )
