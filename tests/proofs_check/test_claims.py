"""Every claim's evidence supports its verdict, and no planted error in a statement survives it.

Both are tested claim by claim in one process, since a claim's mutants share its cached runs.
"""

from pathlib import Path

import pytest

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.claims import all_claims, find
from proofs_check.ledger import first_rejection, settle
from proofs_check.render import cell
from proofs_check.statement import mutants

CONTEXT = ClaimContext()
ENOUGH_MUTANTS = 60
"""How many planted errors the ledger must reject, at least."""


PAGE = Path(__file__).parents[2] / "docs" / "theory" / "ledger.md"


def section_of(key: str) -> str:
    """The ledger's section about one claim on the page of the docs."""
    page = PAGE.read_text(encoding="utf-8")
    _, _, rest = page.partition(f"\n({key})=\n")
    return rest.partition("\n(")[0]


@pytest.mark.parametrize("claim", all_claims(), ids=lambda claim: claim.key)
def test_the_evidence_holds_and_no_planted_error_survives(claim: Claim) -> None:
    row = settle(claim, CONTEXT)
    assert row.holds, row.failure
    assert row.checks, "a verdict without executed evidence"
    assert row.strength is not None
    assert row.strength.proves or "proved" not in row.word
    remedy = "make it again: python -m proofs_check --markdown > docs/theory/ledger.md"
    assert f"**{cell(row.word)}** · {row.strength.words} ·" in section_of(claim.key), remedy
    survivors = [
        mutant.name()
        for mutant in mutants(claim.established)
        if first_rejection(claim, mutant.statement, CONTEXT) is None
    ]
    assert not survivors, f"{claim.key} accepts {survivors}"


def test_there_are_enough_planted_errors_and_every_claim_has_one() -> None:
    counts = {claim.key: len(list(mutants(claim.established))) for claim in all_claims()}
    assert sum(counts.values()) >= ENOUGH_MUTANTS
    assert not [key for key, count in counts.items() if count == 0]


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
    for claim in all_claims():
        not_here = claim.verdict in (ClaimVerdict.NEEDS_DATA, ClaimVerdict.CANNOT_RUN)
        assert not_here == bool(claim.missing), claim.key


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
