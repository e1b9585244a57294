"""How a verdict follows from evidence, on claims made up for it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import sympy as sp

from proofs_check.claim import (
    UNSTATED,
    Assumption,
    Claim,
    ClaimContext,
    ClaimSource,
    ClaimVerdict,
    Evidence,
)
from proofs_check.claims import accept
from proofs_check.errors import ClaimRefusedError, ScopeError
from proofs_check.evidence import (
    Check,
    EvidenceMethod,
    Role,
    exact,
    fact,
    figure,
    identity,
    induction,
    spread,
)
from proofs_check.ledger import settle, word
from proofs_check.scope import ALL, FUNCTIONS, INDUCTION, OPERATORS, SYMBOL, Cover, Scope, by_hand
from proofs_check.statement import ClaimStatement, coefficient
from proofs_check.strength import Strength, strength_of

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


def judged(said: str, *more: str) -> Evidence:
    def evidence(s: ClaimStatement, context: ClaimContext) -> Iterator[Check]:
        yield from halves(s, context)
        for each in (said, *more):
            yield fact("a paired test", True, each, "", EvidenceMethod.STATISTICAL, Role.JUDGED)

    return evidence


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
        scope=Scope(about="one half"),
        on="one half",
    )


@pytest.mark.parametrize(
    ("made_up", "verdict"),
    [
        (claim(halves, ClaimVerdict.HOLDS), ClaimVerdict.HOLDS),
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
        *(
            (claim(judged(f"{each.value} (words)"), each), each)
            for each in (
                ClaimVerdict.CONFIRMED_SMALL,
                ClaimVerdict.REFUTED_SMALL,
                ClaimVerdict.UNDECIDED_SMALL,
            )
        ),
    ],
)
def test_each_kind_of_evidence_gives_its_verdict(made_up: Claim, verdict: ClaimVerdict) -> None:
    row = settle(made_up, ClaimContext())
    assert row.holds, row.failure
    assert row.derived is verdict


@pytest.mark.parametrize("said", [("not judged at smoke scale",), ("confirmed at", "refuted at")])
def test_tests_that_say_nothing_or_different_things_give_no_verdict(said: tuple[str, ...]) -> None:
    row = settle(claim(judged(*said), ClaimVerdict.CONFIRMED_SMALL), ClaimContext())
    assert row.derived is None
    assert not row.holds


@pytest.mark.parametrize(
    ("made_up", "failure"),
    [
        (claim(halves, ClaimVerdict.HOLDS, THIRD), "does not hold: twice the half"),
        (claim(nothing, ClaimVerdict.HOLDS), "no evidence was executed"),
        (claim(broken, ClaimVerdict.HOLDS), "a broken proof"),
        (claim(halves, ClaimVerdict.REFUTED), "derives 'holds'"),
        (claim(indifferent, ClaimVerdict.REFUTED, THIRD, HALF), "does not tell the printed"),
        (
            claim(halves, ClaimVerdict.CONDITIONAL, added=(CONDITION,)),
            "holds without the condition",
        ),
        (claim(off_by_a_digit, ClaimVerdict.REPRODUCED), "derives 'not reproduced'"),
        (claim(halves, ClaimVerdict.HOLDS, missing="data"), "derives 'none'"),
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


x, m = sp.symbols("x m")
A, B = sp.symbols("A B", commutative=False)
F = sp.Function("F")
MATRICES = Scope(n=ALL)
STEPS = Scope(m=ALL)
ZERO = identity("zero", sp.S(0), sp.S(0))


@pytest.mark.parametrize(
    ("check", "scope", "strength"),
    [
        (identity("of symbols", x + x, 2 * x), Scope(about="a number"), Strength.GENERAL),
        (identity("of symbols", x + x, 2 * x), MATRICES, Strength.CERTIFIED),
        (identity("", A * B, A * B, over={"n": OPERATORS}), MATRICES, Strength.GENERAL),
        (identity("", m * x, x * m, over={"m": SYMBOL}), STEPS, Strength.GENERAL),
        (identity("", F(x), F(x), over={"n": by_hand("a step")}), MATRICES,
         Strength.GENERAL_BY_HAND),
        (induction("", ZERO, ZERO, {"m": INDUCTION}), STEPS, Strength.GENERAL),
        (exact("exact", 1, 1), Scope(about="a number"), Strength.CERTIFIED),
        (exact("exact", 1, 1), MATRICES, Strength.CERTIFIED),
        (fact("floating", True, 1, 1, EvidenceMethod.NUMERIC), MATRICES, Strength.FLOATING),
        (fact("floating", True, 1, 1, EvidenceMethod.NUMERIC, over={"n": by_hand("a step")}),
         MATRICES, Strength.FLOATING),
        (exact("printed", 1, 1, Role.PRINTED), MATRICES, Strength.PRINTED),
        (exact("a definition", 1, 1, Role.DEFINITION), MATRICES, Strength.DEFINITION),
    ],
)  # fmt: skip
def test_strength_follows_from_method_and_scope(
    check: Check, scope: Scope, strength: Strength
) -> None:
    assert strength_of(check, scope) is strength


@pytest.mark.parametrize("strength", list(Strength))
def test_proved_is_said_of_general_evidence_alone(strength: Strength) -> None:
    for verdict in ClaimVerdict:
        said = word(verdict, strength, "an instance")
        general = strength in (Strength.GENERAL, Strength.GENERAL_BY_HAND)
        holding = verdict in (ClaimVerdict.HOLDS, ClaimVerdict.CONDITIONAL)
        assert ("proved" in said) == (general and holding)


@pytest.mark.parametrize(
    ("name", "cover"), [("m", SYMBOL), ("n", OPERATORS), ("f", FUNCTIONS)]
)  # fmt: skip
def test_a_cover_that_the_expressions_do_not_have_is_refused(name: str, cover: Cover) -> None:
    with pytest.raises(ScopeError, match=name):
        identity("x is x", x, x, over={name: cover})


def test_a_step_by_hand_without_its_name_is_refused() -> None:
    with pytest.raises(ScopeError, match="must name the argument"):
        by_hand("")


def test_an_induction_holds_only_where_base_and_step_do() -> None:
    wrong = identity("one is two", sp.S(1), sp.S(2))
    assert induction("both", ZERO, ZERO, {"m": INDUCTION}).holds
    assert not induction("no base", wrong, ZERO, {"m": INDUCTION}).holds
    assert not induction("no step", ZERO, wrong, {"m": INDUCTION}).holds


def floating(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield fact("twice the half", 2 * s["c"] == 1, 1, 1, EvidenceMethod.NUMERIC)


def self_asserting(s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield exact("one is one", 1, 1)
    yield exact("the half is the half", s["c"], HALF["c"], Role.DEFINITION)


def test_floating_point_evidence_never_proves() -> None:
    row = settle(claim(floating, ClaimVerdict.HOLDS), ClaimContext())
    assert row.strength is Strength.FLOATING
    assert row.word == "checked on one half"


def test_a_number_that_only_a_definition_notices_makes_the_row_a_definition() -> None:
    row = settle(claim(self_asserting, ClaimVerdict.HOLDS), ClaimContext())
    assert row.strength is Strength.DEFINITION
    assert (row.word, row.weakest) == ("definition", "c")


def test_an_instance_that_does_not_say_which_has_no_verdict() -> None:
    row = settle(replace(claim(floating, ClaimVerdict.HOLDS), on=""), ClaimContext())
    assert "add on=" in row.failure


def test_a_claim_without_scope_is_refused_with_its_file() -> None:
    bare = replace(claim(halves, ClaimVerdict.HOLDS), scope=UNSTATED)
    with pytest.raises(ClaimRefusedError, match=r"eq-0.*some_file.py.*add scope="):
        accept(bare, "some_file.py")


def wide(_s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield spread("an error", 0.3, (0.0, 0.7), (0.0, 1.0))


def narrow(_s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    yield spread("an error", 0.3, (0.28, 0.32), (0.0, 1.0))


def test_a_figure_that_hardly_any_value_could_miss_is_compatible_only() -> None:
    bare = ClaimStatement("a number")
    row = settle(claim(wide, ClaimVerdict.COMPATIBLE, bare), ClaimContext())
    assert row.derived is ClaimVerdict.COMPATIBLE, row.failure
    row = settle(claim(narrow, ClaimVerdict.REPRODUCED, bare), ClaimContext())
    assert row.derived is ClaimVerdict.REPRODUCED, row.failure
