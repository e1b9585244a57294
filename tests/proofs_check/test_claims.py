"""Every claim's evidence supports its verdict, and no error planted in a statement survives it.

Both are tested claim by claim in one process, since a claim's mutants share its cached runs. Here a
tenth of the planted errors; all of them, misprints and dropped hypotheses included, in the test that is
marked full. The longest of the ledger's test files: nearly all of its time is that of a quick ledger,
`python -m proofs_check`.
"""

from collections import Counter
from pathlib import Path

import pytest

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims import all_claims, find
from proofs_check.evidence import EvidenceMethod
from proofs_check.ledger import notice, settle
from proofs_check.render import cell
from proofs_check.sentences import misprints
from proofs_check.statement import mutants
from proofs_check.strength import Strength
from proofs_check.survivors import planted_in, reason_for
from tests.proofs_check.second_derivation import SECOND, agrees, confirms

CONTEXT = ClaimContext()
PAGE = Path(__file__).parents[2] / "docs" / "theory" / "ledger.md"
ENOUGH = {"all": 1500, "structure": 300, "sentence": 300}
"""How many planted errors the ledger must reject, at least."""

DISTINCT = [claim for claim in all_claims() if not claim.repeats]


def section_of(key: str) -> str:
    """The ledger's section about one claim on the page of the docs."""
    page = PAGE.read_text(encoding="utf-8")
    _, _, rest = page.partition(f"\n({key})=\n")
    return rest.partition("\n(")[0]


@pytest.mark.parametrize("claim", all_claims(), ids=lambda claim: claim.key)
def test_the_evidence_holds_and_the_page_says_so(claim: Claim) -> None:
    row = settle(claim, CONTEXT)
    assert row.holds, row.failure
    assert row.checks, "a verdict without executed evidence"
    assert row.strength is not None
    assert row.strength.proves or "proved" not in row.word
    remedy = "make it again: python -m proofs_check --markdown > docs/theory/ledger.md"
    assert f"**{cell(row.word)}** · {row.strength.words} ·" in section_of(claim.key), remedy
    if claim.source is ClaimSource.FIELD:
        runs = [check.name for check in row.checks if "refblo" in check.name]
        assert runs, "give a result of the field a check that runs the package's own estimator"
    # Here, because settling a claim takes longer than deriving its constants once more.
    for check in row.checks:
        if check.method is EvidenceMethod.BALL:
            names = (claim.repeats or claim.key, check.name)
            assert confirms(*names, check.left, check.right), f"another value of {check.name}"


@pytest.mark.parametrize(
    ("key", "name"), [("text-drift", "limit of λ"), ("field-cg", "and after n = 5")]
)
def test_another_constant_is_not_confirmed(key: str, name: str) -> None:
    assert not agrees("[0.77177 +/- 1e-6]", SECOND[key, name].left)


@pytest.mark.parametrize("claim", DISTINCT, ids=lambda claim: claim.key)
def test_a_tenth_of_the_planted_errors_is_rejected(claim: Claim) -> None:
    tenth = [mutant for at, mutant in enumerate(mutants(claim.established)) if at % 10 == 0]
    assert tenth, "a statement without a hole"
    found = planted_in(claim, tenth)
    survivors = [error.name for error in found if not error.rejected and not error.reason]
    assert not survivors, f"{claim.key} accepts {survivors}"


@pytest.mark.full
@pytest.mark.parametrize("claim", DISTINCT, ids=lambda claim: claim.key)
def test_every_planted_error_is_rejected_or_has_its_reason(claim: Claim) -> None:
    found = planted_in(claim, [*mutants(claim.established), *misprints(claim)])
    survivors = [error.name for error in found if not error.rejected and not error.reason]
    assert not survivors, f"{claim.key} accepts {survivors}"


@pytest.mark.full
def test_every_hole_of_a_statement_that_is_no_definition_is_read_by_evidence() -> None:
    unread = []
    for claim in DISTINCT:
        if settle(claim, CONTEXT).strength is Strength.DEFINITION:
            continue
        read = {
            mutant.term.name
            for mutant in mutants(claim.established)
            if notice(claim, mutant, CONTEXT, Strength.GENERAL)[0] > Strength.DEFINITION
        }
        unread += [
            (claim.key, term.name) for term in claim.established.terms if term.name not in read
        ]
    assert not unread


def test_there_are_enough_planted_errors_and_every_claim_has_one() -> None:
    kinds = Counter(m.kind.value for claim in DISTINCT for m in mutants(claim.established))
    assert sum(kinds.values()) >= ENOUGH["all"]
    assert kinds["structure"] >= ENOUGH["structure"]


@pytest.mark.full
def test_there_are_enough_misprints_of_sentences() -> None:
    assert sum(1 for claim in DISTINCT for _ in misprints(claim)) >= ENOUGH["sentence"]


def test_a_survivor_is_excused_only_as_far_as_its_reason_reaches() -> None:
    assert reason_for("tab-3", "rmd_lam", 0.001)
    assert not reason_for("tab-3", "rmd_lam", 0.01)
    assert not reason_for("tab-2", "rmd_lam", 0.001)


def test_every_number_of_the_papers_has_a_row() -> None:
    keys = {claim.key for claim in all_claims()}
    wanted = {f"eq-{number}" for number in range(1, 61)}
    wanted |= {f"thm-{number}" for number in range(1, 6)}
    wanted |= {f"tab-{number}" for number in range(1, 17)}
    wanted |= {f"fig-{number}" for number in range(1, 4)}
    wanted |= {"alg-1", "franceschi-existence", "franceschi-convergence"}
    assert not wanted - keys


@pytest.mark.parametrize("claim", all_claims(), ids=lambda claim: claim.key)
def test_every_number_of_a_statement_is_seen_in_it(claim: Claim) -> None:
    for statement in (claim.printed, claim.established):
        unseen = [t.name for t in statement.terms if f"{{{t.name}}}" not in statement.template]
        assert not unseen
        assert statement.text()


def test_what_is_not_here_never_counts_as_a_pass() -> None:
    unavailable = (ClaimVerdict.NEEDS_DATA, ClaimVerdict.IMAGE_ONLY, ClaimVerdict.CANNOT_RUN)
    for claim in all_claims():
        assert (claim.verdict in unavailable) == bool(claim.missing), claim.key


def test_a_refutation_or_a_misprint_states_what_holds_instead() -> None:
    for claim in all_claims():
        wrong = claim.verdict in (ClaimVerdict.REFUTED, ClaimVerdict.TYPOGRAPHICAL)
        assert wrong == (claim.corrected is not None), claim.key
        assert claim.slip == (claim.verdict is ClaimVerdict.TYPOGRAPHICAL), claim.key


def test_both_papers_are_there() -> None:
    sources = {claim.source for claim in all_claims()}
    assert sources == set(ClaimSource)


@pytest.mark.parametrize("claim", all_claims(), ids=lambda claim: claim.key)
def test_a_claim_stated_again_names_one_with_the_same_evidence(claim: Claim) -> None:
    if claim.repeats:
        first = find(claim.repeats)
        assert first.evidence is claim.evidence
        assert not first.repeats
