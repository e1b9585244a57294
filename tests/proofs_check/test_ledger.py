"""How a verdict follows from evidence, on claims made up for it."""

from collections.abc import Iterator

import pytest

from proofs_check.claim import Assumption, Claim, Context, Evidence, Source, Verdict
from proofs_check.evidence import Check, Role, exact, fact, figure
from proofs_check.ledger import settle
from proofs_check.statement import Statement, coefficient

HALF = Statement("the half of one is {c}", (coefficient("c", "1/2"),))
THIRD = HALF.having(c="1/3")
CONDITION = Assumption("condition", "something")


def halves(s: Statement, _context: Context) -> Iterator[Check]:
    yield exact("twice the half", 2 * s["c"], 1)


def nothing(_s: Statement, _context: Context) -> Iterator[Check]:
    yield from ()


def indifferent(_s: Statement, _context: Context) -> Iterator[Check]:
    yield fact("one is one", True, 1, 1)


def conditional(s: Statement, context: Context) -> Iterator[Check]:
    yield from halves(s, context)
    yield fact("the condition", context.has(CONDITION), "on", "on")


def broken(_s: Statement, _context: Context) -> Iterator[Check]:
    yield fact("one is one", True, 1, 1)
    raise ZeroDivisionError("a broken proof")


def vacuous(s: Statement, context: Context) -> Iterator[Check]:
    yield from halves(s, context)
    yield fact("both sides vanish", True, 0, 0, role=Role.VACUITY)


def measured(s: Statement, _context: Context) -> Iterator[Check]:
    yield figure("one half", s["c"], 0.50004, 4)


def off_by_a_digit(s: Statement, _context: Context) -> Iterator[Check]:
    yield figure("one half", s["c"], 0.5002, 4)


def claim(
    evidence: Evidence,
    verdict: Verdict,
    printed: Statement = HALF,
    corrected: Statement | None = None,
    slip: bool = False,
    added: tuple[Assumption, ...] = (),
    missing: str = "",
) -> Claim:
    return Claim(
        "eq-0",
        Source.KIM,
        "made up",
        printed,
        evidence,
        verdict,
        corrected=corrected,
        slip=slip,
        added=added,
        missing=missing,
    )


@pytest.mark.parametrize(
    ("made_up", "verdict"),
    [
        (claim(halves, Verdict.PROVED), Verdict.PROVED),
        (claim(halves, Verdict.REFUTED, THIRD, HALF), Verdict.REFUTED),
        (claim(halves, Verdict.TYPOGRAPHICAL, THIRD, HALF, slip=True), Verdict.TYPOGRAPHICAL),
        (claim(conditional, Verdict.CONDITIONAL, added=(CONDITION,)), Verdict.CONDITIONAL),
        (claim(vacuous, Verdict.VACUOUS), Verdict.VACUOUS),
        (claim(measured, Verdict.REPRODUCED), Verdict.REPRODUCED),
        (claim(off_by_a_digit, Verdict.NOT_REPRODUCED), Verdict.NOT_REPRODUCED),
        (claim(halves, Verdict.NEEDS_DATA, missing="data"), Verdict.NEEDS_DATA),
        (claim(halves, Verdict.CANNOT_RUN, missing="a GPU"), Verdict.CANNOT_RUN),
    ],
)
def test_each_kind_of_evidence_gives_its_verdict(made_up: Claim, verdict: Verdict) -> None:
    row = settle(made_up, Context())
    assert row.holds, row.failure
    assert row.derived is verdict


@pytest.mark.parametrize(
    ("made_up", "failure"),
    [
        (claim(halves, Verdict.PROVED, THIRD), "does not hold: twice the half"),
        (claim(nothing, Verdict.PROVED), "no evidence was executed"),
        (claim(broken, Verdict.PROVED), "a broken proof"),
        (claim(halves, Verdict.REFUTED), "derives 'proved'"),
        (claim(indifferent, Verdict.REFUTED, THIRD, HALF), "does not tell the printed"),
        (claim(halves, Verdict.CONDITIONAL, added=(CONDITION,)), "holds without the condition"),
        (claim(off_by_a_digit, Verdict.REPRODUCED), "derives 'not reproduced'"),
        (claim(halves, Verdict.PROVED, missing="data"), "derives 'none'"),
    ],
)
def test_evidence_that_does_not_support_the_record_has_no_verdict(
    made_up: Claim, failure: str
) -> None:
    row = settle(made_up, Context())
    assert not row.holds
    assert failure in row.failure


def test_the_counterexample_of_a_refutation_is_kept() -> None:
    row = settle(claim(halves, Verdict.REFUTED, THIRD, HALF), Context())
    assert [check.left for check in row.counterexamples] == ["2/3"]


def test_an_assumption_that_is_switched_off_takes_the_verdict_away() -> None:
    made_up = claim(conditional, Verdict.CONDITIONAL, added=(CONDITION,))
    row = settle(made_up, Context(off=frozenset({"condition"})))
    assert not row.holds
    assert row.derived is None
