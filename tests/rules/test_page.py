"""The page of the rules is what was found, for every rule, and every figure is within what is allowed."""

import json

import pytest

from refblo.testing.rule_runs import ALLOWED
from refblo.testing.rules import RULE_VARIANTS
from tests.rules.page import PAGE, RESULTS, Record, render

RECORDS: list[Record] = json.loads(RESULTS.read_text(encoding="utf-8"))


def test_the_page_is_what_was_found() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(RECORDS)


def test_every_rule_was_compared_with_every_twin_that_it_has() -> None:
    assert [record["rule"] for record in RECORDS] == [each.name for each in RULE_VARIANTS]
    for record, variant in zip(RECORDS, RULE_VARIANTS, strict=True):
        for library, twin in (("torch", variant.in_torch), ("optax", variant.in_optax)):
            found = record[library]
            assert found == twin if isinstance(twin, str) else isinstance(found, float)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["rule"])
def test_every_figure_is_within_what_is_allowed(record: Record) -> None:
    figures = [record[name] for name in ("torch", "optax") if not isinstance(record[name], str)]
    assert all(figure <= ALLOWED for figure in figures)
    assert record["verdict"] == "right"
    assert record["floor"] <= 1e-9
    # What differences reach where v = 0, and the second derivative jumps, is judged by the verdict.
    assert max(record["tangent"], record["reverse"]) <= record["floor"]
