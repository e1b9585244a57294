"""What the paper claims by Tables 4, 5, 6, 8 and 9, judged on smaller data and networks.

A row takes the paired differences that the table's committed report holds, one a seed, and judges them again
with the margins, the tests and the correction that the table's file states. How the runs were made, with
every setting, is on the report's page; `refblo reproduce table-N --scale small` makes them again.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from proofs_check.claim import Claim, ClaimContext, ClaimSource, ClaimVerdict
from proofs_check.errors import ProofsCheckError
from proofs_check.evidence import Check, EvidenceMethod, Role, exact, fact
from proofs_check.scope import Scope
from proofs_check.statement import ClaimStatement, choice, index

REPORTS = Path(__file__).parents[2] / "docs" / "reproduced"

WORDS = {
    "confirmed": ClaimVerdict.CONFIRMED_SMALL,
    "refuted": ClaimVerdict.REFUTED_SMALL,
    "undecided": ClaimVerdict.UNDECIDED_SMALL,
}


def report(table: int) -> dict[str, Any]:
    """The committed report of a table.

    Raises:
        ProofsCheckError: if it is not there: an installed package has no docs folder.
    """
    path = REPORTS / f"table-{table}" / "report.json"
    if not path.exists():
        raise ProofsCheckError(
            f"the report of Table {table} must be at {path}, got no file; run the ledger in a checkout, or "
            f"make it with: refblo reproduce table-{table} --scale small --output docs/reproduced"
        )
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _again(table: int, number: int, s: ClaimStatement, _context: ClaimContext) -> Iterator[Check]:
    from refblo.experiments.paired import judge
    from refblo.experiments.registry import find
    from refblo.experiments.report import Scale
    from refblo.experiments.study import TrainingStudy

    study, claims = find(f"table-{table}"), report(table)["claims"]
    assert isinstance(study, TrainingStudy)
    stated = [each["endpoint"]["claim"] for each in claims]
    # A claim that the design got after the run has no pairs yet, and no row.
    endpoints = tuple(e for e in study.plan(Scale.SMALL).endpoints if e.claim in stated)
    designed = [endpoint.claim for endpoint in endpoints]
    yield fact(
        "the report's claims are the design's", stated == designed, len(stated), len(designed)
    )
    pairs = [np.array(each["differences"]) for each in claims]
    yield exact("paired seeds", len(pairs[number - 1]), s["seeds"], Role.SCALED)
    judged = judge(endpoints, pairs, Scale.SMALL)[number - 1]
    yield fact(
        f"the paired test, d = {judged.difference:.3g} ({judged.low:.3g} to {judged.high:.3g}), margin "
        f"{judged.endpoint.margin:g}",
        judged.verdict.partition(" ")[0] == s.word("verdict"),
        judged.verdict,
        s.word("verdict"),
        EvidenceMethod.STATISTICAL,
        Role.JUDGED,
    )


def _row(table: int, number: int, claim: str, word: str, seeds: int) -> Claim:
    others = [other for other in WORDS if other != word]
    statement = ClaimStatement(
        f"{claim}: {{verdict}} over {{seeds}} paired seeds",
        (choice("verdict", word, *others), index("seeds", seeds)),
    )
    return Claim(
        f"tab-{table}-claim-{number}",
        ClaimSource.KIM,
        claim,
        statement,
        partial(_again, table, number),
        WORDS[word],
        scope=Scope(about="the data and networks of the report's page"),
        on="the data and networks of the report's page",
        remark="Claim, margin, test and number of seeds were fixed before the runs; the report says what was "
        "changed after.",
    )


CLAIMS: tuple[Claim, ...] = (
    _row(4, 1, "HPO-SGLD has a lower test error than IFT-Neumann", "confirmed", 10),
    _row(4, 2, "HPO-SGLD has a lower test error than IFT-CG", "confirmed", 10),
    _row(4, 3, "HPO-SGLD has a lower test error than RMD", "confirmed", 10),
    _row(4, 4, "HPO-SGLD is less sensitive to its options than IFT-Neumann", "confirmed", 10),
    _row(4, 5, "HPO-SGLD is less sensitive to its options than IFT-CG", "undecided", 10),
    _row(5, 1, "HPO-SGLD has a lower test error than Cross-entropy", "refuted", 10),
    _row(5, 2, "HPO-SGLD has a lower test error than Taylor, evolutionary search", "undecided", 10),
    _row(5, 3, "HPO-SGLD has a lower test error than RMD", "undecided", 10),
    _row(5, 4, "HPO-SGLD is less sensitive to its options than IFT-CG", "confirmed", 10),
    _row(6, 1, "HPO-SGLD has a higher accuracy than MAML", "refuted", 10),
    _row(6, 2, "HPO-SGLD has a higher accuracy than FO-MAML", "refuted", 10),
    _row(6, 3, "HPO-SGLD has a higher accuracy than iMAML", "refuted", 10),
    _row(6, 4, "HPO-SGLD has a higher accuracy than Reptile", "refuted", 10),
    _row(6, 5, "HPO-SGLD is robust to the choice of τ", "undecided", 10),
    _row(8, 1, "HPO-SGLD outperforms Augerino", "refuted", 10),
    _row(8, 2, "HPO-SGLD outperforms Non-invariant", "refuted", 10),
    _row(8, 3, "HPO-SGLD is comparable with LILA", "refuted", 10),
    _row(9, 1, "More Monte Carlo samples improve the test error, as stated", "undecided", 10),
    _row(
        9,
        2,
        "More Monte Carlo samples improve the test error where the outer step stays the same",
        "undecided",
        10,
    ),
)
