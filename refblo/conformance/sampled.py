"""The report of a stochastic estimate of the Gibbs hypergradient: its mean over seeds, by Student's t."""

import math

import numpy as np

from refblo.conformance.answers import Subjected, vector_of
from refblo.conformance.margins import is_zero
from refblo.conformance.report import Report, Verdict
from refblo.conformance.truth.expectation import ERROR_RATE, POWER, estimates, judge_mean
from refblo.conformance.truths import Truths
from refblo.errors import ArgumentError
from refblo.types import Estimand


def sampled_report(
    truths: Truths, hypergradient: Subjected, seeds: int, floor: float, tolerance: float
) -> Report:
    """Judge the mean of hypergradient(lam, seed) over seeds, coordinate by coordinate.

    Raises:
        ArgumentError: if it is no function of (lam, seed).
        OracleError: if there is no truth.
    """
    if not callable(hypergradient):
        raise ArgumentError(
            "hypergradient must be a function (lam, seed) beside seeds, got a hypergradient; give a "
            "function"
        )
    problem, reference = truths.problem, truths.here.reference
    should = reference.value
    scale = reference.scale
    slack = float(np.linalg.norm(reference.error)) + max(floor, tolerance) * scale
    sample = estimates(
        hypergradient,
        lambda: problem.form.unflatten(problem.lam.clone()),
        seeds,
        lambda result: vector_of(result, problem),
    )
    judged = judge_mean(sample, should, slack)
    along = np.eye(should.size)[judged.worst]
    seen = judged.detectable / scale if scale > 0 else math.inf
    finite = bool(np.isfinite(sample).all())
    verdict = Verdict.RIGHT if judged.right else Verdict.WRONG
    reason = "" if finite else "it is not finite"
    zero = judge_mean(sample - judged.mean, should, slack) if finite else judged
    if judged.right and zero.right and not is_zero(reference):
        verdict = Verdict.UNDECIDED
        reason = (
            "it cannot tell your answer from zero: the spread over seeds is as large as the truth; take "
            "more seeds"
        )
    return Report(
        verdict=verdict,
        estimand=Estimand.GIBBS,
        error=judged.off if finite else math.inf,
        bound=judged.bound,
        relative_error=judged.off / scale if finite and scale > 0 else math.inf,
        floor=seen,
        floor_wanted=floor,
        directions=should.size,
        exhaustive=True,
        miss_rate=0.0,
        direction=along,
        observed_slope=float(judged.mean @ along),
        true_slope=float(should @ along),
        confirmed=reference.confirmed,
        findings=(
            f"mean of {len(sample)} seeds: an unbiased estimate is accused with chance {ERROR_RATE:.0e}, a "
            f"relative bias of {seen:.1e} is seen with chance {POWER:g}; the error above is that of the "
            "worst coordinate",
            *problem.findings,
        ),
        reason=reason,
        zero=is_zero(reference),
    )
