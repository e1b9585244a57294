"""The command line: what it prints, and with which exit status it ends."""

import json

import pytest
from click.testing import CliRunner

from proofs_check.__main__ import main
from proofs_check.claims import all_claims


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [*arguments, "--jobs", "1"])
    return result.exit_code, result.stdout, result.stderr


def test_one_claim_is_shown_with_its_evidence() -> None:
    code, out, _ = run("--only", "eq-35")
    assert code == 0
    assert "verdict: typographical" in out
    assert "counterexample" in out


def test_an_unknown_claim_lists_the_known_ones() -> None:
    code, out, err = run("--only", "eq-99")
    assert code == 2
    assert not out
    assert "eq-22" in err
    assert "thm-1" in err
    assert "got 'eq-99'" in err


def test_an_unknown_assumption_lists_the_known_ones() -> None:
    code, _, err = run("--only", "eq-16", "--without", "gravity")
    assert code == 2
    assert "fixed-steps" in err


def test_an_assumption_switched_off_makes_the_run_fail() -> None:
    code, _, err = run("--only", "eq-16", "--without", "fixed-steps")
    assert code == 1
    assert "the evidence does not hold" in err


def test_the_json_says_what_was_executed() -> None:
    code, out, _ = run("--only", "eq-14", "--only", "tab-5", "--json")
    assert code == 0
    ledger = json.loads(out)
    assert ledger["holds"] is True
    first, second = ledger["claims"]
    assert first["verdict"] == "holds"
    assert first["word"] == "proved"
    assert first["strength"] == "general, with the named hand steps"
    assert second["strength"] == "printed figures compared"
    assert first["command"] == "python -m proofs_check --only eq-14"
    assert all(check["holds"] for check in first["evidence"])
    assert second["verdict"] == "needs data or weights"
    assert second["missing"]


def test_the_list_has_every_claim() -> None:
    code, out, _ = run("--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [c.key for c in all_claims()]


def test_the_markdown_page_has_a_section_for_each_claim() -> None:
    code, out, _ = run("--only", "eq-14", "--only", "fig-1", "--markdown")
    assert code == 0
    assert "### eq-14" in out
    assert "| validation loss of the good solution, λ = 0.1 | 0.0083 | 0.008301 | agrees |" in out


@pytest.mark.parametrize("key", ["--only", "--without"])
def test_an_option_without_its_value_is_refused(key: str) -> None:
    assert run(key)[0] == 2


def test_a_sample_of_the_errors_is_planted_and_counted() -> None:
    code, out, _ = run("--planted", "--every", "7", "--only", "eq-14")
    assert code == 0
    assert "every 7th of each claim" in out
    assert "0 survive" in out
