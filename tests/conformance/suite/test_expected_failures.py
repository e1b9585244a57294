"""refblo check --expected-failures: what is met, what passes all the same, and malformed files."""

from pathlib import Path

import pytest

from refblo.commands import expected_failures
from refblo.conformance.suite import expected
from refblo.conformance.suite.rows import Outcome, Row
from refblo.errors import ArgumentError

ROWS = (
    Row("a/unrolled", (), Outcome.WRONG),
    Row("a/pathwise", (), Outcome.RIGHT),
    Row("b/unrolled", (), Outcome.RIGHT),
)


def test_met_passed_and_unmatched_are_told_apart() -> None:
    found = expected.compare(
        ROWS, {"a/unrolled": "known", "b": "was wrong", "c/unrolled": "mistyped"}
    )
    assert found.met == {"a/unrolled": "known"}
    assert found.passed == ("b",)
    assert found.unmatched == ("c/unrolled",)


def test_an_entry_s_name_stands_for_its_rows() -> None:
    assert expected.compare(ROWS, {"a": "known"}).met == {"a/unrolled": "known"}


@pytest.mark.parametrize("text", ["[table]\nx = 1", '"a" = ""', "no toml", '"a" = 3'])
def test_malformed_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "expected.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ArgumentError, match="--expected-failures"):
        expected_failures.read(path)
