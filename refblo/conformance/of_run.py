"""The verdict on a hypergradient of an inner run on a caller's own losses."""

import dis
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from refblo.conformance.answers import Answers, Subjected, answers, caller_of, vector_of
from refblo.conformance.arguments import FlatProblem, Loss, Start, flat_problem, needs_batch
from refblo.conformance.calls import Call, Judged, first_wrong, floor_of
from refblo.conformance.diagnosis import Diagnosis, Setting, Subject, diagnose
from refblo.conformance.entries import only
from refblo.conformance.margins import Judgement, columns, judge
from refblo.conformance.options import DIAGNOSIS_SECONDS, checked
from refblo.conformance.report import (
    Report,
    Verdict,
    miss_rate,
    worst_direction,
)
from refblo.conformance.sampled import sampled_report
from refblo.conformance.slips import slips
from refblo.conformance.truth.cut_off import cut_off_finding
from refblo.conformance.truth.dependence import (
    depends_on_lam,
    hidden_from_autograd,
    moves_in_steps,
)
from refblo.conformance.truth.reference import Reference
from refblo.conformance.truth.refusal import refuse_divergence
from refblo.conformance.truths import Truths, directions_for
from refblo.errors import ArgumentError, OracleError
from refblo.noise import Draws
from refblo.ravel import Tree
from refblo.types import Estimand


def run_report(
    inner: Loss | None,
    outer: Loss,
    lam: Tree,
    theta0: Start,
    hypergradient: Subjected,
    options: Mapping[str, object],
) -> Report:
    """The report on a hypergradient of a run on two losses; the arguments are those of `hypergradcheck`.

    Raises:
        OracleError: if the oracles cannot answer.
        ArgumentError, ArgumentTypeError, LossError: for arguments that do not fit together.
    """
    given, estimand = checked(options)
    problem = flat_problem(inner, outer, lam, theta0, estimand, given)
    option = next((name for name in ("step", "rule") if name in given), "step_size")
    if estimand is not Estimand.GIBBS:  # which has no run
        refuse_divergence(problem.program, option)
    floor = given.get("floor")
    bar = Bar(
        floor_of(problem.ulp) if floor is None else floor,
        given.get("tolerance", 0.0),
        asked=floor is not None,
    )
    if not callable(hypergradient):
        vector_of(hypergradient, problem)  # before the truth, which may take long
    seed = given.get("seed", 0)
    declared = bar.asked or bar.tolerance > 0
    directions = directions_for(problem, given.get("directions"), Draws(seed), declared=declared)
    truths = Truths(problem, estimand, directions, seed, given.get("terms"))
    if "seeds" in given:
        return sampled_report(truths, hypergradient, given["seeds"], bar.floor, bar.tolerance)
    called = answers(hypergradient, problem, stateful=given.get("stateful", False))
    try:
        judged = _judged(called, truths, bar)
    except OracleError as error:
        if estimand is not Estimand.GIBBS and problem.program.growth.grows:
            raise problem.program.growth.error(option) from error
        raise
    _refuse_what_is_hidden(judged)
    report = _report(called, judged, truths, bar)
    if estimand is not Estimand.GIBBS and problem.program.growth.grows:
        text = f"finding: the inner run diverges: {problem.program.growth.describe()}"
        report = replace(report, findings=(*report.findings, text))
    if estimand is not Estimand.GIBBS:  # whose truth takes the loss's values
        cut_off = cut_off_finding(problem.program, Draws(seed))
        report = replace(report, findings=(*report.findings, *([cut_off] if cut_off else [])))
    wrong = report.verdict is Verdict.WRONG and called.calls[judged.position].finite
    if wrong:
        _refuse_missing_batches(problem, inner, outer, given)
    # Without an indirect term, right code may be right of another problem than was meant.
    if wrong or judged.judgement.zero or not judged.truth.reference.indirect.any():
        told = list(slips(inner, outer, lam, theta0, estimand, given, judged.truth.program))
        if wrong and judged.judgement.zero and not depends_on_lam(judged.truth.program):
            told.append(f"finding: {_INDEPENDENT}")
        report = replace(report, findings=(*report.findings, *told))
    if not wrong:
        return report
    again = None if given.get("stateful", False) else caller_of(hypergradient, problem)
    pairs = tuple((call.lam, call.answer) for call in called.calls)
    setting = Setting(
        judged.truth,
        pairs[judged.position][1],
        earlier=pairs[: judged.position],
        later=pairs[judged.position + 1 :],
        again=again,
        seconds=called.seconds,
        accuracy=judged.judgement.whole.noise,
    )
    seconds = given.get("diagnosis_seconds", DIAGNOSIS_SECONDS)
    return _diagnosed(report, setting, problem.blocks, seconds)


_INDEPENDENT = (
    "neither a step of the run nor outer depends on lam, which is not read there, or is detached; look for "
    "another lam that the losses close over"
)
"""Where a truth of zero comes from, if from nothing at all."""


def _refuse_what_is_hidden(judged: Judged[Subject, Judgement]) -> None:
    """Raise where the truth is zero only because autograd sees nothing of λ in the inner loss."""
    program = judged.truth.program
    if not judged.judgement.zero:
        return
    # A density is no run.
    found = None if judged.truth.estimand is Estimand.GIBBS else moves_in_steps(program)
    if found is not None:
        raise OracleError(
            f"inner and outer must move smoothly with lam, got an objective that is {found.describe()}: its "
            "derivative is zero, and no verdict is possible; look for round, for casts, or for counts "
            "inside the losses"
        )
    if not hidden_from_autograd(program):
        return
    raise OracleError(
        "inner must be a loss whose derivative torch knows, got one whose values depend on lam and theta "
        "together, but of whose gradient by theta nothing depends on lam: no verdict is possible; look for "
        "torch.no_grad, torch.inference_mode, .detach() or .item() inside it"
    )


def _refuse_missing_batches(
    problem: FlatProblem, inner: Loss | None, outer: Loss, given: Mapping[str, object]
) -> None:
    """Raise where a loss uses a batch that was not given: the run that was judged is another one."""
    lam = problem.form.unflatten(problem.lam.clone())
    for name, loss in (("inner", inner), ("outer", outer)):
        if loss is None or f"{name}_batches" in given or "step" in given or not needs_batch(loss):
            continue
        if _knows_none(loss):
            continue
        theta = problem.program.start(problem.program.lam).detach()[: problem.state_form.size]
        try:
            loss(lam, problem.state_form.unflatten(theta.to(problem.lam)), _Nothing())
        except Exception as error:  # whatever the loss makes of an object that is no batch
            raise ArgumentError(
                f"{name}_batches must be given, as {name} takes a batch and uses it, got nothing: it was "
                "called with None, so that another run than yours would be judged; give the batch of every "
                "step, or [None] for every step if None means all data"
            ) from error


def _knows_none(loss: Loss) -> bool:
    """Whether a loss asks somewhere whether something is None, as one that takes no batch for all data does.

    Of a function whose code cannot be read it is taken for granted.
    """
    code = getattr(loss, "__code__", None)
    if code is None:
        return True
    return any(
        "NONE" in step.opname or step.opname == "IS_OP" for step in dis.get_instructions(code)
    )


@final
class _Nothing:
    """Stands for a batch: a loss that does not look at its batch takes it."""


@final
@dataclass(frozen=True)
class Bar:
    """What is not accused.

    Attributes:
        floor: the relative error below which nothing is.
        tolerance: the relative error that the method declares.
        asked: whether the floor was asked for, so that it must be reached.
    """

    floor: float
    tolerance: float
    asked: bool


def _judged(called: Answers, truths: Truths, bar: Bar) -> Judged[Subject, Judgement]:
    """The call that the verdict is about."""
    truths.here  # noqa: B018  (raises where there is no truth at λ)

    def judgement(call: Call, subject: Subject) -> Judgement:
        alone = subject.reference.value.size < truths.directions.columns.shape[1]
        blocks = {} if alone else truths.directions.blocks
        return judge(
            call.answer, subject.reference, bar.floor, bar.tolerance, blocks, truths.problem.ulp
        )

    return first_wrong(called.calls, truths.at, judgement)


def _report(
    called: Answers, judged: Judged[Subject, Judgement], truths: Truths, bar: Bar
) -> Report:
    """The verdict with its figures, without a diagnosis."""
    call, reference, found = called.calls[judged.position], judged.truth.reference, judged.judgement
    verdict, reason = _verdict(found, call, truths, bar)
    if not reason and called.constant:
        reason = "judged as computed before, as it returned one and the same tensor near lam"
    block = found.wrong_block
    shown = found.shown
    count = min(truths.directions.whole, reference.value.size)
    whole = reference if reference.exhaustive else columns(reference, slice(0, count))
    observed, along = call.answer, whole
    if block is not None:
        observed, along = _inside(block.name, observed, reference, truths)
    if found.wrong_entry is not None:
        observed, along = only(found.wrong_entry, observed, reference)
    direction, seen, should = worst_direction(observed, along)
    error = shown.distance if call.finite else np.inf
    return Report(
        verdict=verdict,
        estimand=truths.estimand,
        error=error,
        bound=shown.allowed,
        relative_error=shown.relative if call.finite else np.inf,
        floor=shown.floor,
        floor_wanted=bar.floor,
        directions=whole.directions.shape[1],
        exhaustive=reference.exhaustive,
        miss_rate=miss_rate(whole),
        direction=direction,
        observed_slope=seen,
        true_slope=should,
        confirmed=0.0 if found.zero else truths.here.reference.confirmed,
        findings=(*truths.problem.findings, *called.findings, *called.between(found.whole.allowed)),
        reason=reason,
        zero=found.zero,
        entry=found.wrong_entry,
        blocks=found.blocks,
        block=None if block is None else block.name,
        truth=reference.rung.sentence,
        precision=reference.precision,
    )


def _inside(
    name: str, observed: np.ndarray, reference: Reference, truths: Truths
) -> tuple[np.ndarray, Reference]:
    """The hypergradient and the truth with what is outside one block left out."""
    blocks = truths.directions.blocks
    if not reference.exhaustive:
        column = truths.directions.whole + list(blocks).index(name)
        return observed, columns(reference, slice(column, column + 1))
    inside = np.zeros_like(observed)
    inside[blocks[name]] = 1
    direct, indirect = reference.direct * inside, reference.indirect * inside
    return observed * inside, replace(reference, direct=direct, indirect=indirect)


def _verdict(found: Judgement, call: Call, truths: Truths, bar: Bar) -> tuple[Verdict, str]:
    """The verdict, and what the first line of the report says of it."""
    if not call.finite:
        return Verdict.WRONG, "it is not finite"
    if not found.right:
        return Verdict.WRONG, found.where_wrong
    undecided = "" if found.zero else _undecided(found, bar)
    if undecided:
        return Verdict.UNDECIDED, undecided
    return Verdict.RIGHT, _reservation(found, truths)


def _undecided(found: Judgement, bar: Bar) -> str:
    """Why an answer that is not accused is not right either; "" where it is."""
    if found.blind:
        return (
            "it cannot tell your answer from zero: rounding, the floor and the declared tolerance allow an "
            "error as large as the truth; use float64, a smaller tolerance, or a better conditioned run"
        )
    if bar.asked and found.whole.noise > bar.floor * found.whole.scale:
        return (
            f"no error is seen, but one of {bar.floor:.1e}, the floor asked for, would not be: rounding "
            f"alone may be {found.whole.floor:.1e}; use float64, or a better conditioned run"
        )
    return ""


def _reservation(found: Judgement, truths: Truths) -> str:
    """What a right verdict does not cover."""
    if found.zero and not depends_on_lam(truths.problem.program):
        return f"the truth is zero within its own error: {_INDEPENDENT}"
    if found.zero:
        return (
            "the truth is zero within its own error, and so is the answer: whether it follows lam "
            "cannot show here"
        )
    unseen = [block.name for block in found.blocks if not block.seen]
    if unseen:
        return f"but block {', '.join(unseen)} of lam was not seen"
    if found.entries is not None and found.entries.unseen:
        return f"but {found.entries.describe_unseen()}"
    if truths.directions.unjudged:
        count = truths.directions.unjudged
        return f"the {count} tensors of lam were judged together, not one by one"
    return ""


def _diagnosed(
    report: Report, setting: Setting, blocks: Mapping[str, slice], seconds: float
) -> Report:
    """The report with a diagnosis. The verdict stands whatever happens in here."""
    if seconds == 0:
        return report
    try:
        diagnosis: Diagnosis = diagnose(setting, blocks, seconds=seconds)
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        text = f"finding: the diagnosis could not be made ({said})"
        return replace(report, findings=(*report.findings, text))
    return replace(report, diagnosis=diagnosis)
