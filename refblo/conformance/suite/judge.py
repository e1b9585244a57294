"""One row: what the target returned, against the truth."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64

from refblo.conformance.calls import FLOORS, Call, Judged, first_wrong, gap, points
from refblo.conformance.catalogue import Entry
from refblo.conformance.diagnosis import Diagnosis, Setting, Subject, diagnose
from refblo.conformance.margins import Margin, margin
from refblo.conformance.suite.process import Answer, Process
from refblo.conformance.suite.rows import Finding, Kind, Outcome, Row, Statistics
from refblo.conformance.suite.series import TERMS, conventions
from refblo.conformance.suite.target import Declared
from refblo.conformance.truth.expectation import ERROR_RATE, POWER, judge_mean
from refblo.conformance.truth.reference import Reference, reference
from refblo.errors import OracleError
from refblo.noise import Draws
from refblo.types import Estimand

Array = np.ndarray
Vector = Float64[Array, " p"]

_STATUSES = {
    "raised": Kind.RAISES,
    "refused": Kind.RAISES,
    "exits": Kind.EXITS,
    "memory": Kind.MEMORY,
    "type": Kind.TYPE,
    "hangs": Kind.HANGS,
    "dies": Kind.DIES,
    "garbled": Kind.CHANNEL,
}


@final
@dataclass(frozen=True)
class Plan:
    """How thoroughly to judge.

    Attributes:
        confirm: along how many directions each truth is confirmed by differences.
        points: how many further λ are tried.
        seeds: estimates of a stochastic target that are averaged.
        seed: of the run.
    """

    confirm: int
    points: int
    seeds: int
    seed: int


def truth(entry: Entry, estimand: Estimand, dtype: str, plan: Plan) -> Reference:
    """The truth of one row at the entry's λ.

    Raises:
        OracleError: if there is none.
    """
    return _truth_at(entry.lam, entry, estimand, dtype, plan.confirm)


def _truth_at(lam: Vector, entry: Entry, estimand: Estimand, dtype: str, confirm: int) -> Reference:
    program = entry.program(estimand).at(torch.as_tensor(lam))
    return reference(
        program,
        estimand,
        np.eye(lam.size),
        exhaustive=True,
        draws=Draws(0),
        ulp=float(np.finfo(dtype).eps),
        runs=4,
        confirm=confirm,
    )


def deterministic_row(
    name: str,
    entry: Entry,
    estimand: Estimand,
    process: Process,
    declared: Declared,
    plan: Plan,
) -> Row:
    """Call at λ, near it, and at λ again; judge each call; diagnose the first that is wrong."""
    calls: list[Call] = []
    findings: list[Finding] = []
    seconds = 0.0
    traits = tuple(sorted(entry.traits))
    here, undecided = None, ""
    for lam in points(entry.lam, _further(entry, plan)):
        failed = process.ask(entry.name, estimand, lam, plan.seed, own_noise=False)
        if here is None and not undecided:
            # While the target is at work.
            try:
                here = truth(entry, estimand, declared.dtype, plan)
            except OracleError as error:
                undecided = str(error)
        answer = process.answer() if failed is None else failed
        seconds = max(seconds, answer.seconds)
        noticed, vector = noticed_in(answer, lam.size, declared.dtype)
        findings += [found for found in noticed if found not in findings]
        if vector is None:
            return Row(name, traits, Outcome.FAILED, seconds=seconds, findings=tuple(findings))
        calls.append(Call(lam, vector))
    if here is None:
        return Row(name, traits, Outcome.UNDECIDED, seconds=seconds, reason=undecided)
    judged = _first_wrong(calls, here, entry, estimand, declared)
    found, subject = judged.judgement, judged.truth
    if gap(calls) > found.allowed:
        difference = f"two calls at the same lam differ by {gap(calls):.1e}"
        findings.append(Finding(Kind.STATE, difference))
    observed = calls[judged.position].answer
    diagnosis, convention = None, ""
    if declared.solver == "neumann" and estimand is Estimand.IMPLICIT:
        found, convention = _as_series(calls, entry, declared, subject, found)
    if not found.right:
        again = _again(process, entry, estimand, plan.seed)
        pairs = tuple((call.lam, call.answer) for call in calls)
        setting = Setting(
            subject,
            observed,
            earlier=pairs[: judged.position],
            later=pairs[judged.position + 1 :],
            again=again,
            seconds=seconds,
            accuracy=found.noise,
        )
        diagnosis = diagnose(setting)
    return Row(
        name=name,
        traits=traits,
        outcome=Outcome.RIGHT if found.right else Outcome.WRONG,
        error=found.relative,
        floor=found.floor,
        digits=_digits(found.relative),
        seconds=seconds,
        diagnosis=diagnosis,
        findings=tuple(findings),
        convention=convention,
    )


def _as_series(
    calls: list[Call],
    entry: Entry,
    declared: Declared,
    subject: Subject,
    found: Margin,
) -> tuple[Margin, str]:
    """Judge all calls as truncated series, by the meaning of K that fits all of them, if one does."""
    program, terms = entry.program(Estimand.IMPLICIT), declared.terms or TERMS
    expected = [
        conventions(
            Subject(program.at(torch.as_tensor(call.lam)), Estimand.IMPLICIT, subject.reference),
            terms,
        )
        for call in calls
    ]
    for meanings in zip(*expected, strict=True):
        margins = []
        for call, meant in zip(calls, meanings, strict=True):
            scale = float(np.linalg.norm(meant.vector))
            allowed = max(found.noise, (FLOORS[declared.dtype] + declared.tolerance) * scale)
            distance = float(np.linalg.norm(call.answer - meant.vector))
            margins.append(Margin(distance, found.noise, allowed, scale))
        if all(judged.right for judged in margins):
            return max(margins, key=lambda judged: judged.distance), meanings[0].text
    return found, ""


def _further(entry: Entry, plan: Plan) -> list[Vector]:
    """More λ, for the thorough profile."""
    draw = np.random.Generator(np.random.Philox(key=plan.seed))
    return [entry.lam + 0.1 * draw.standard_normal(entry.lam.size) for _ in range(plan.points)]


def _first_wrong(
    calls: list[Call], here: Reference, entry: Entry, estimand: Estimand, declared: Declared
) -> Judged[Subject, Margin]:
    """The first wrong call, or the first of all, with what it is judged by."""

    def subject_at(call: Call) -> Subject | None:
        found = here
        if not np.array_equal(call.lam, entry.lam):
            try:
                found = _truth_at(call.lam, entry, estimand, declared.dtype, 0)
            except OracleError:
                return None
        program = entry.program(estimand).at(torch.as_tensor(call.lam))
        return Subject(program, estimand, found, declared.terms, entry.shapes, whole=True)

    def judge(call: Call, subject: Subject) -> Margin:
        return margin(call.answer, subject.reference, FLOORS[declared.dtype], declared.tolerance)

    return first_wrong(calls, subject_at, judge)


def _again(
    process: Process, entry: Entry, estimand: Estimand, seed: int
) -> Callable[[Vector], Vector]:
    def call(lam: Vector) -> Vector:
        answer = process.call(entry.name, estimand, lam, seed, own_noise=False)
        if answer.value is None or answer.value.size != lam.size:
            return np.full(lam.size, np.nan)
        return answer.value

    return call


def _digits(relative: float) -> float:
    if not relative > 1e-16:
        return 16.0
    return max(0.0, -math.log10(relative)) if math.isfinite(relative) else 0.0


def noticed_in(answer: Answer, size: int, dtype: str) -> tuple[list[Finding], Vector | None]:
    """What an answer shows beside its numbers, and the vector if there is one to judge."""
    findings = []
    if answer.printed:
        findings.append(Finding(Kind.PRINTS, repr(answer.printed[:60])))
    if answer.mutated:
        findings.append(Finding(Kind.MUTATES, ", ".join(answer.mutated)))
    if answer.status in _STATUSES:
        findings.append(Finding(_STATUSES[answer.status], answer.message))
        return findings, None
    if answer.value is None or answer.shape != (size,):
        wanted = f"{answer.shape}, should be ({size},)"
        findings.append(Finding(Kind.SHAPE, wanted))
        return findings, None
    if not np.isfinite(answer.value).all():
        positions = np.flatnonzero(~np.isfinite(answer.value)).tolist()
        findings.append(Finding(Kind.NOT_FINITE, f"entries {positions} of {size}"))
        return findings, None
    if answer.dtype != dtype:
        findings.append(Finding(Kind.DTYPE, f"{answer.dtype} for {dtype}"))
    return findings, answer.value


def stochastic_row(
    name: str,
    entry: Entry,
    estimand: Estimand,
    expected: Callable[[], Vector],
    process: Process,
    declared: Declared,
    plan: Plan,
) -> Row:
    """The mean over seeds against the truth, coordinate by coordinate, by Student's t with Bonferroni."""
    traits = tuple(sorted(entry.traits))
    findings: list[Finding] = []
    values = []
    seconds = 0.0
    for seed in range(plan.seed, plan.seed + plan.seeds):
        answer = process.call(entry.name, estimand, entry.lam, seed, own_noise=True)
        seconds = max(seconds, answer.seconds)
        noticed, vector = noticed_in(answer, entry.lam.size, declared.dtype)
        findings += [found for found in noticed if found not in findings]
        if vector is None:
            return Row(name, traits, Outcome.FAILED, seconds=seconds, findings=tuple(findings))
        values.append(vector)
    repeated = process.call(entry.name, estimand, entry.lam, plan.seed, own_noise=True)
    if repeated.value is not None and not np.array_equal(repeated.value, values[0]):
        findings.append(Finding(Kind.STATE, "two calls with the same seed differ"))
    try:
        target = expected()
    except OracleError as error:
        return Row(name, traits, Outcome.UNDECIDED, seconds=seconds, reason=str(error))
    scale = float(np.linalg.norm(target))
    slack = (declared.tolerance + FLOORS[declared.dtype]) * scale
    judged = judge_mean(np.stack(values), target, slack)
    off = float(np.linalg.norm(judged.mean - target)) / scale if scale > 0 else math.inf
    seen = judged.detectable / scale if scale > 0 else math.inf
    return Row(
        name=name,
        traits=traits,
        outcome=Outcome.RIGHT if judged.right else Outcome.WRONG,
        error=off,
        floor=seen,
        digits=_digits(off),
        seconds=seconds,
        diagnosis=None if judged.right else _of_mean(entry, estimand, np.stack(values), plan),
        findings=tuple(findings),
        statistics=Statistics(len(values), ERROR_RATE, seen, POWER),
    )


def _of_mean(
    entry: Entry, estimand: Estimand, sample: Float64[Array, "N p"], plan: Plan
) -> Diagnosis | None:
    """What is wrong with a mean, where the run itself is not random; to within its standard error."""
    if entry.noise is not None:
        return None
    try:
        found = truth(entry, estimand, "float64", plan)
    except OracleError:
        return None
    subject = Subject(entry.program(estimand), estimand, found, None, entry.shapes, whole=True)
    spread = sample.std(axis=0, ddof=1) / math.sqrt(len(sample))
    accuracy = float(np.linalg.norm(spread))
    return diagnose(Setting(subject, sample.mean(axis=0), accuracy=accuracy))
