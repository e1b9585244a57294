"""The page of the theorems: each has its statement, its hypotheses and its steps, as the ledger has them."""

from collections import Counter
from pathlib import Path

import pytest

from proofs_check.claim import ClaimContext
from proofs_check.claims import find
from proofs_check.ledger import settle
from proofs_check.render import cell
from proofs_check.survivors import PlantedCount, PlantedError, to_page
from proofs_check.theorem_page import THEOREMS, readable, to_theorems

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


def test_the_table_counts_hypotheses_and_steps() -> None:
    page = to_theorems([settle(find("franceschi-existence"), ClaimContext())])
    line = next(
        line for line in page.splitlines() if line.startswith("| Franceschi et al., existence")
    )
    assert line.endswith("| 4, 0, 1 | 0, 3 |")


def test_a_theorem_that_is_stated_twice_says_so() -> None:
    page = to_theorems([settle(find("thm-4"), ClaimContext())])
    assert "The same claim as Theorem 2, and counted once." in page


def test_a_step_has_its_strength_and_a_hand_step_its_name() -> None:
    row = settle(find("field-posteriori"), ClaimContext())
    page = to_theorems([row])
    assert "(general, mechanised)" in page
    assert "(by hand: the spectral theorem" in page
    assert "(certified instance, ball arithmetic)" in page


def test_a_hypothesis_stands_with_what_is_found_without_it() -> None:
    row = settle(find("franceschi-convergence"), ClaimContext())
    page = to_theorems([row])
    single = next(line for line in page.splitlines() if line.startswith("- argmin"))
    assert "Without it: lim inf f_T" in single
    assert "found 1, stated inf f = -1" in single


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("epsilon**(3/2)*z_[m - 1]*f_θθ", "ε^(3/2)·z^(m - 1)·f_θθ"),
        ("Σ[m](·*z_[·])*B", "Σ_(j&lt;m)(j·z^(j))·B"),
        ("0.19974663202625254", "0.199747"),
        ("-ell**2*eta + -mu", "-ℓ^2·η - μ"),
    ],
)
def test_an_expression_is_shown_in_the_letters_of_the_papers(text: str, shown: str) -> None:
    assert readable(text) == shown


def test_the_page_of_planted_errors_counts_and_names_survivors() -> None:
    error = PlantedError("misprint", "c: 1 -> 2", rejected=False, reason="a reason")
    page = to_page(PlantedCount(Counter({"misprint": 3}), (("eq-0", error),)))
    assert "| misprint | 3 | 2 | 1 |" in page
    assert "| eq-0 | c: 1 -> 2 | a reason |" in page
