"""How a verdict follows from evidence, on claims made up for it."""

from collections.abc import Iterator

import pytest

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimSource, ClaimVerdict, Evidence
from proofs_check.evidence import Check, Role, exact, fact, figure
from proofs_check.ledger import settle
from proofs_check.statement import ClaimStatement, coefficient

HALF = ClaimStatement("the half of one is {c}", (coefficient("c", "1/2"),))
THIRD = HALF.having(c="1/3")
CONDITION = Assumption("condition", "something")


def halves(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield exact("twice the half", 2 * s["c"], 1)


def nothing(_s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield from ()


def indifferent(_s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield fact("one is one", True, 1, 1)


def conditional(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    yield from halves(s, context)
    yield fact("the condition", context.has(CONDITION), "on", "on")


def broken(_s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield fact("one is one", True, 1, 1)
    raise ZeroDivisionError("a broken proof")


def vacuous(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
    yield from halves(s, context)
    yield fact("both sides vanish", True, 0, 0, role=Role.VACUITY)


def measured(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield figure("one half", s["c"], 0.50004, 4)


def off_by_a_digit(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield figure("one half", s["c"], 0.5002, 4)


def claim(
    evidence: Evidence,
    verdict: ClaimVerdict,
    printed: ClaimStatement = HALF,
    corrected: ClaimStatement | None = None,
    slip: bool = False,
    added: tuple[Assumption, ...] = (),
    missing: str = "",
) -> Claim:
    return Claim(
        "eq-0",
        ClaimSource.KIM,
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
        (claim(halves, ClaimVerdict.PROVED), ClaimVerdict.PROVED),
        (claim(halves, ClaimVerdict.REFUTED, THIRD, HALF), ClaimVerdict.REFUTED),
        (
            claim(halves, ClaimVerdict.TYPOGRAPHICAL, THIRD, HALF, slip=True),
            ClaimVerdict.TYPOGRAPHICAL,
        ),
        (
            claim(conditional, ClaimVerdict.CONDITIONAL, added=(CONDITION,)),
            ClaimVerdict.CONDITIONAL,
        ),
        (claim(vacuous, ClaimVerdict.VACUOUS), ClaimVerdict.VACUOUS),
        (claim(measured, ClaimVerdict.REPRODUCED), ClaimVerdict.REPRODUCED),
        (claim(off_by_a_digit, ClaimVerdict.NOT_REPRODUCED), ClaimVerdict.NOT_REPRODUCED),
        (claim(halves, ClaimVerdict.NEEDS_DATA, missing="data"), ClaimVerdict.NEEDS_DATA),
        (claim(halves, ClaimVerdict.CANNOT_RUN, missing="a GPU"), ClaimVerdict.CANNOT_RUN),
    ],
)
def test_each_kind_of_evidence_gives_its_verdict(made_up: Claim, verdict: ClaimVerdict) -> None:
    row = settle(made_up, ClaimContext())
    assert row.holds, row.failure
    assert row.derived is verdict


@pytest.mark.parametrize(
    ("made_up", "failure"),
    [
        (claim(halves, ClaimVerdict.PROVED, THIRD), "does not hold: twice the half"),
        (claim(nothing, ClaimVerdict.PROVED), "no evidence was executed"),
        (claim(broken, ClaimVerdict.PROVED), "a broken proof"),
        (claim(halves, ClaimVerdict.REFUTED), "derives 'proved'"),
        (claim(indifferent, ClaimVerdict.REFUTED, THIRD, HALF), "does not tell the printed"),
        (
            claim(halves, ClaimVerdict.CONDITIONAL, added=(CONDITION,)),
            "holds without the condition",
        ),
        (claim(off_by_a_digit, ClaimVerdict.REPRODUCED), "derives 'not reproduced'"),
        (claim(halves, ClaimVerdict.PROVED, missing="data"), "derives 'none'"),
    ],
)
def test_evidence_that_does_not_support_the_record_has_no_verdict(
    made_up: Claim, failure: str
) -> None:
    row = settle(made_up, ClaimContext())
    assert not row.holds
    assert failure in row.failure


def test_the_counterexample_of_a_refutation_is_kept() -> None:
    row = settle(claim(halves, ClaimVerdict.REFUTED, THIRD, HALF), ClaimContext())
    assert [check.left for check in row.counterexamples] == ["2/3"]


def test_an_assumption_that_is_switched_off_takes_the_verdict_away() -> None:
    made_up = claim(conditional, ClaimVerdict.CONDITIONAL, added=(CONDITION,))
    row = settle(made_up, ClaimContext(off=frozenset({"condition"})))
    assert not row.holds
    assert row.derived is None
