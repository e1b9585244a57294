"""The page of the docs is the ledger's own: every claim is on it, with its sentence.

That the verdict and the strength on it are those of the evidence is tested where the evidence is
executed, in `test_claims.py`.
"""

from pathlib import Path

import pytest

from proofs_check.claim import Claim
from proofs_check.claims import all_claims
from proofs_check.render import cell

PAGE = Path(__file__).parents[2] / "docs" / "theory" / "ledger.md"
REMEDY = "make it again: python -m proofs_check --markdown > docs/theory/ledger.md"


@pytest.mark.parametrize("claim", all_claims(), ids=lambda claim: claim.key)
def test_the_page_has_the_claim_with_its_sentence(claim: Claim) -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"({claim.key})=")
    section = lines[start : start + 11]
    assert f"Printed: {cell(claim.printed.text())}" in section, REMEDY
    if claim.corrected:
        assert f"Holds instead: {cell(claim.corrected.text())}" in section, REMEDY
    assert f"Stated for: {cell(claim.scope.text())}." in section, REMEDY
