"""The page of the docs about planted errors."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.plants.checks import Where
from tests.plants.plant import plants

_HEAD = """# Errors planted in the code

Every estimator and oracle has errors planted in its source, at least two each: a wrong factor, a missing
term, a step too many, a test that always passes. Each must be rejected within 60 s of processor time by a
named check of the audit, the ledger or the tests, which are asked in this order; the table says which was the
first. The errors are data in `tests/plants`, and a tenth of them is planted again by every run of the quick
test suite.

`make plants` plants all of them and writes this page.

"""


def read(path: Path) -> list[dict[str, Any]]:
    """The results in a file."""
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _accepted(found: dict[str, Any] | None) -> bool:
    return found is not None and found["by"] is None


def to_page(results: list[dict[str, Any]]) -> str:
    """The page in Markdown."""
    by = {each["plant"]: each for each in results}
    tally = Counter(each["by"] for each in results)
    rejected = ", ".join(f"{tally[where.value]} by the {where.value}" for where in Where)
    left = len(plants()) - len(results)
    same = sum(1 for plant in plants() if plant.equivalent and _accepted(by.get(plant.name)))
    lines = [
        f"{len(plants())} errors. Rejected: {rejected}. Accepted: {tally[None]}, {same} of them equivalent. "
        f"Not planted yet: {left}.\n"
    ]
    lines += ["| planted in | what is wrong | rejected by | check |", "|---|---|---|---|"]
    for plant in plants():
        found = by.get(plant.name)
        where = "not planted yet" if found is None else found["by"] or "nothing"
        check = f"`{found['check']}`" if found is not None and found["check"] else ""
        if _accepted(found):
            check = plant.equivalent
        lines.append(f"| `{plant.subject}` | {plant.breaks} | {where} | {check} |")
    return _HEAD + "\n".join(lines) + "\n"
