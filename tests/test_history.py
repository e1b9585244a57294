"""History over commits: what is measured, and in which order."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from asv_bench import history as module


def test_commits_are_listed_from_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_git", lambda *_: "c\nb\na")
    assert module.commits(3) == ["a", "b", "c"]


def test_what_is_measured_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "aaaaaaaa-existing.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(module, "commits", lambda _: ["a" * 40, "b" * 40])
    monkeypatch.setattr(module, "_git", lambda *words: words[-1][:3])
    asked: list[str] = []

    def failing(commit: str) -> int:
        asked.append(commit)
        return 1

    monkeypatch.setattr(module, "measure", failing)
    result = CliRunner().invoke(module.history, [])
    assert asked == ["b" * 40]
    assert "aaa: measured already" in result.output
    assert "do not fit bbb" in result.output
    assert result.exit_code == 1


def test_a_failing_git_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    result = CliRunner().invoke(module.history, ["--list"])
    assert result.exit_code == 1
    assert "git rev-list failed" in result.output
