"""The page of the theorems: each has its statement, its hypotheses and its steps, as the ledger has them."""

from collections import Counter
from pathlib import Path

import pytest

from proofs_check.claim import ClaimContext
from proofs_check.claims import find
from proofs_check.ledger import settle
from proofs_check.render import cell
from proofs_check.survivors import PlantedCount, PlantedError, to_page
from proofs_check.theorem_page import THEOREMS, to_theorems

PAGE = Path(__file__).parents[2] / "docs" / "theory" / "theorems.md"
REMEDY = "make it again: python -m proofs_check --theorems > docs/theory/theorems.md"


@pytest.mark.parametrize("key", THEOREMS)
def test_the_page_has_the_theorem_as_the_ledger_states_it(key: str) -> None:
    page, claim = PAGE.read_text(encoding="utf-8"), find(key)
    assert f"[evidence](ledger.md#{key})" in page, REMEDY
    for statement in (claim.printed, claim.established):
        assert cell(statement.text())[1:] in page, REMEDY
    for hypothesis in (*claim.assumptions, *claim.added, *claim.unneeded):
        assert cell(hypothesis.text) in page, REMEDY


def test_a_step_has_its_strength_and_a_hand_step_its_name() -> None:
    row = settle(find("field-posteriori"), ClaimContext())
    page = to_theorems([row])
    assert "(general, mechanised)" in page
    assert "- n: the spectral theorem" in page
    assert "(certified instance, ball arithmetic)" in page


def test_the_page_of_planted_errors_counts_and_names_survivors() -> None:
    error = PlantedError("misprint", "c: 1 -> 2", rejected=False, reason="a reason")
    page = to_page(PlantedCount(Counter({"misprint": 3}), (("eq-0", error),)))
    assert "| misprint | 3 | 2 | 1 |" in page
    assert "| eq-0 | c: 1 -> 2 | a reason |" in page
