"""History over commits: what is measured, and in which order. 0.1 s of processor time."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from asv_bench import history as module
from asv_bench.machine import ANY, processor

COMMITS = list("abcdefghijklmnopqrstuvwxyz")


def order(figures: dict[str, int], number: int) -> list[str]:
    """The commits in the order in which they are measured."""
    known: dict[str, int] = {}
    while len(known) < number and (commit := module.following(COMMITS, known)) is not None:
        known[commit] = figures[commit]
    return list(known)


def test_the_ends_come_first_and_then_the_middles() -> None:
    assert order(dict.fromkeys(COMMITS, 0), 4) == ["a", "z", "m", "s"]


@pytest.mark.parametrize("change", range(1, 26))
def test_the_commit_of_a_change_is_found_by_halving(change: int) -> None:
    figures = {commit: int(place >= change) for place, commit in enumerate(COMMITS)}
    # The ends, and five halvings of 25 steps.
    assert {COMMITS[change - 1], COMMITS[change]} <= set(order(figures, 7))


def test_every_commit_is_measured_once() -> None:
    assert sorted(order(dict.fromkeys(COMMITS, 0), 100)) == COMMITS


def test_times_are_spread_over_the_commits_with_counts() -> None:
    assert module.spread(COMMITS, 3) == ["a", "m", "z"]
    assert module.spread(COMMITS, 99) == COMMITS


def result(folder: Path, commit: str, values: list[float | None] | None, error: float) -> None:
    document = {
        "result_columns": ["result", "params"],
        "results": {
            "counts.Counts.track_flops": [values, []],
            module.ANSWERS: [[error], []],
        },
    }
    path = folder / ANY / f"{commit[:8]}-existing.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")


def test_counts_are_compared_without_the_rounding_of_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    result(tmp_path, "a" * 40, [1, float("nan")], 1e-15)
    result(tmp_path, "b" * 40, [1, float("nan")], 2e-15)
    result(tmp_path, "c" * 40, [2, float("nan")], 2e-15)
    one, other, changed, missing = (module.counts_of(commit * 40) for commit in "abcd")
    assert one == other
    assert one != changed
    assert not missing


def test_a_commit_that_does_not_fit_is_told_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "candidates", lambda: list("abc"))
    monkeypatch.setattr(module, "_subject", lambda commit: f"commit {commit}")
    measured: dict[str, str] = {}

    def measure(commit: str, *_: str) -> int:
        if commit == "b":
            return 1
        measured[commit] = "counts"
        return 0

    monkeypatch.setattr(module, "measure", measure)
    monkeypatch.setattr(module, "counts_of", lambda commit: measured.get(commit, ""))
    done = CliRunner().invoke(module.history, ["--commits", "3"])
    assert set(measured) == {"a", "c"}
    assert "do not fit commit b" in done.output
    assert done.exit_code == 1


def test_a_failing_git_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    done = CliRunner().invoke(module.history, ["--list"])
    assert done.exit_code == 1
    assert "git rev-list failed" in done.output


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "model name\t: Intel(R) Xeon(R) Processor\ncpu family\t: 6\nmodel\t\t: 207\n",
            "Intel Xeon Processor family 6 model 207",
        ),
        ("model name : AMD EPYC 7B13 64-Core Processor", "AMD EPYC 7B13 64-Core Processor"),
    ],
)
def test_a_machine_is_named_by_its_processor(text: str, name: str) -> None:
    assert processor(text) == name


def test_a_machine_without_a_model_has_a_name() -> None:
    assert processor("")
