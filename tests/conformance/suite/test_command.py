"""refblo check as a command: what it prints and writes, and its exit status."""

import json
from pathlib import Path

import jsonschema
import pytest

from refblo.cli import main
from tests.conformance.suite.targets_and_documents import schema, target


def test_a_right_target_passes_and_what_it_lacks_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", target("good_torch.py:unrolled")]
    for name in ("quadratic", "network-moving-start", "adam-zero-gradient", "everything-drawn"):
        words += ["--entry", name]
    words += ["--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")]
    assert main(words) == 0
    assert "nothing speaks against it" in capsys.readouterr().out
    assert (tmp_path / "a.html").read_text("utf-8").startswith("<!doctype html>")
    told = json.loads((tmp_path / "a.json").read_text("utf-8"))
    jsonschema.validate(told, schema())
    assert told["passed"] is True
    assert {row["name"]: row["outcome"] for row in told["rows"]} == {
        "quadratic/unrolled": "right",
        "quadratic/implicit": "skipped",
        "network-moving-start/unrolled": "right",
        "adam-zero-gradient/unrolled": "right",
        "everything-drawn/unrolled": "right",
        "everything-drawn/pathwise": "right",
    }
    assert all(row["digits"] > 12 for row in told["rows"] if row["digits"] is not None)


def test_exit_status_one_for_what_speaks_against_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    assert main(["check", target("bad_import.py:anything"), "--json", str(path)]) == 1
    assert "verdict: it could not be run" in capsys.readouterr().out
    told = json.loads(path.read_text("utf-8"))
    jsonschema.validate(told, schema())
    (finding,) = told["findings"]
    assert finding["kind"] == "import"
    assert "broken on purpose" in finding["text"]


def test_an_expected_failure_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", target("bad.py:misbehaves"), "--estimand", "unrolled"]
    words += ["--entry", "scaled-identity"]
    path = tmp_path / "expected.toml"
    path.write_text(
        '"scaled-identity/unrolled" = "drops an entry"\n"nothing" = "?"\n', encoding="utf-8"
    )
    words += ["--entry", "quadratic-direct", "--expected-failures", str(path)]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "returns the wrong shape" in told
    assert "expected to fail, and does: scaled-identity/unrolled (drops an entry)" in told
    assert "no row has the expected failure's name: nothing" in told


@pytest.mark.parametrize(
    "words", [["check"], ["check", "no-colon"], ["check", "a:b", "--framework", "tensorflow"]]
)
def test_exit_status_two_for_a_wrong_command_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err
