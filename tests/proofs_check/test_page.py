"""The page of the docs is the ledger's own, and not an old one."""

from pathlib import Path

import pytest

from proofs_check.claim import Claim
from proofs_check.claims import all_claims

PAGE = Path(__file__).parents[2] / "docs" / "theory" / "ledger.md"


@pytest.mark.parametrize("claim", all_claims(), ids=lambda claim: claim.key)
def test_the_page_has_the_claim_with_its_verdict(claim: Claim) -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"({claim.key})=")
    section = lines[start : start + 5]
    remedy = "make it again: python -m proofs_check --markdown > docs/theory/ledger.md"
    assert any(f"**{claim.verdict.value}**" in line for line in section), remedy
