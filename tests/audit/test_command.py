"""`refblo audit` and `refblo list` from outside: exit statuses, files, and what an interruption leaves."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from refblo.audit.json_report import schema
from refblo.cli import main
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding
from refblo.contracts.registry import contracts
from refblo.contracts.relations import RelationJudgement
from refblo.problems import catalogue
from refblo.problems.case import Case

Check = Callable[[Case, Context], ContractFinding]


def holding(case: Case, context: Context) -> ContractFinding:
    return ContractFinding(RelationJudgement(True, "as predicted", "this", 0.5))


def failing(case: Case, context: Context) -> ContractFinding:
    return ContractFinding(RelationJudgement(False, "not as predicted", "that", 2.0))


def interrupting(case: Case, context: Context) -> ContractFinding:
    raise KeyboardInterrupt


def terminating(case: Case, context: Context) -> ContractFinding:
    os.kill(os.getpid(), signal.SIGTERM)
    return holding(case, context)


def crashing(case: Case, context: Context) -> ContractFinding:
    raise ZeroDivisionError("in the check")


@pytest.fixture
def two_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the catalogue a short one."""
    short = {name: catalogue()[name] for name in ("synth_1d", "cubic_toy")}
    monkeypatch.setattr("refblo.audit.run.catalogue", lambda: short)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the audit consist of these checks, all on one small case, so that they run in this process."""

    def set_up(*checks: Check, case: str = "synth_1d") -> None:
        known = tuple(
            Contract(
                f"contract {number}", "E", "Exact", "claims", ("eq-49",), lambda _: True, check
            )
            for number, check in enumerate(checks)
        )
        monkeypatch.setattr("refblo.audit.run.contracts", lambda: known)
        monkeypatch.setattr("refblo.audit.run.catalogue", lambda: {case: catalogue()[case]})

    return set_up


def document(file: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    jsonschema.validate(loaded, schema())
    return loaded


def outcomes(file: Path) -> list[str]:
    rows = document(file)["rows"]
    assert isinstance(rows, list)
    return [row["outcome"] for row in rows]


def test_all_hold(
    planned: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(holding, holding)
    file, page = tmp_path / "a.json", tmp_path / "new" / "a.html"
    assert main(["audit", "--json", str(file), "--html", str(page)]) == 0
    assert document(file)["complete"] is True
    assert document(file)["passed"] is True
    assert outcomes(file) == ["holds", "holds"]
    assert "Every contract holds" in page.read_text(encoding="utf-8")
    output = capsys.readouterr().out
    assert "[2/2] holds contract 1 | synth_1d (50 % of bound)" in output
    assert "Every contract holds. 2 of 2 rows hold" in output


@pytest.mark.parametrize(("check", "outcome"), [(failing, "fails"), (crashing, "error")])
def test_one_that_does_not_hold_is_exit_status_1(
    planned: Callable[..., None], tmp_path: Path, check: Check, outcome: str
) -> None:
    planned(holding, check, holding)
    file = tmp_path / "a.json"
    assert main(["audit", "--json", str(file)]) == 1
    assert document(file)["complete"] is True
    assert document(file)["passed"] is False
    assert outcomes(file) == ["holds", outcome, "holds"]


@pytest.mark.parametrize("check", [interrupting, terminating])
def test_an_interruption_leaves_the_finished_part(
    planned: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    check: Check,
) -> None:
    planned(holding, failing, check, holding)
    before = signal.getsignal(signal.SIGTERM)
    file, page = tmp_path / "a.json", tmp_path / "a.html"
    assert main(["audit", "--json", str(file), "--html", str(page)]) == 130
    assert document(file)["complete"] is False
    assert document(file)["passed"] is False
    assert outcomes(file) == ["holds", "fails"]
    assert "2 of 4 rows" in page.read_text(encoding="utf-8")
    assert "interrupted" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is before
    assert sorted(it.name for it in tmp_path.iterdir()) == ["a.html", "a.json"]


def test_the_file_is_whole_after_every_row(planned: Callable[..., None], tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    seen: list[int] = []

    def looking(case: Case, context: Context) -> ContractFinding:
        assert document(file)["complete"] is False
        seen.append(len(outcomes(file)))
        return holding(case, context)

    planned(looking, looking, looking)
    assert main(["audit", "--json", str(file)]) == 0
    assert seen == [0, 1, 2]


def test_a_budget_that_breaks_is_a_row_of_its_own(
    planned: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    planned(holding, case="quadratic")

    def broken(case: Case, draws: object) -> None:
        raise ZeroDivisionError("in the budget")

    monkeypatch.setattr("refblo.audit.run.error_budget", broken)
    file, page = tmp_path / "a.json", tmp_path / "a.html"
    assert main(["audit", "--json", str(file), "--html", str(page)]) == 1
    assert outcomes(file) == ["holds", "error"]
    assert document(file)["complete"] is True
    assert document(file)["passed"] is False
    assert "in the budget" in page.read_text(encoding="utf-8")
    assert "error budget" in capsys.readouterr().out


def test_a_crash_outside_the_checks_leaves_the_finished_part(
    planned: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(holding, case="quadratic")

    def crash(case: Case, draws: object) -> None:
        raise ZeroDivisionError("outside")

    monkeypatch.setattr("refblo.audit.run._budget", crash)
    file = tmp_path / "a.json"
    with pytest.raises(ZeroDivisionError):
        main(["audit", "--json", str(file)])
    assert outcomes(file) == ["holds"]
    assert document(file)["complete"] is False
    assert document(file)["passed"] is False


@pytest.mark.usefixtures("two_cases")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dtype", "int32"], "'int32' is not one of 'float64', 'float32'"),
        (["--device", "gpu"], "must be a torch device of this machine, got 'gpu'"),
        (["--device", "meta"], "must be a torch device of this machine, got 'meta'"),
        (["--device", "cuda:99"], "must be a torch device of this machine, got 'cuda:99'"),
        (["--seed", "-1"], "must lie in [0, 2^63), got -1"),
        (["--seed", str(2**63)], "must lie in [0, 2^63)"),
        (["--seed", "x"], "'x' is not a valid integer"),
        (["--fast"], "--fast"),
        (["--json", "/"], "is a directory"),
        (["--json", "a", "--html", "a"], "must be two files, got a for both"),
        (["--json", "/dev/null/a"], "must be a file that can be written"),
    ],
)
def test_usage_errors(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("two_cases")
def test_a_pattern_without_a_match_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--only", "no such thing"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "no such thing" in error
    for name in ("HPO-SGLD", "IFT-Neumann", "synth_1d", "cubic_toy"):
        assert name in error


@pytest.mark.usefixtures("two_cases")
def test_the_real_audit_of_one_contract_in_worker_processes(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    assert main(["audit", "--only", "HPO-SGLD: order in*without*", "--json", str(file)]) == 0
    rows = document(file)["rows"]
    assert isinstance(rows, list)
    # Workers finish in any order, and the document has the catalogue's.
    assert [row["case"] for row in rows] == ["synth_1d", "cubic_toy"]
    assert {row["contract"] for row in rows} == {"HPO-SGLD: order in ε without noise"}
    assert all(row["finding"]["curves"] for row in rows)


def test_the_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for name in catalogue():
        assert name in text
    for contract in contracts():
        assert contract.name in text
        assert contract.claim in " ".join(text.split())
