"""The files that a host of repositories reads are there, whole, and of one version: 1 s of processor time."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

yaml = pytest.importorskip("yaml")  # it comes with the extra for the documentation


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _version() -> str:
    return str(tomllib.loads(_text("pyproject.toml"))["project"]["version"])


def test_the_changelog_has_the_version_first() -> None:
    versions = re.findall(r"^## (\S+)", _text("CHANGELOG.md"), re.MULTILINE)
    assert next(version for version in versions if version != "Unreleased") == _version()
    assert versions[-1] == "0.2.0"


def test_the_citation_has_the_version() -> None:
    citation = yaml.safe_load(_text("CITATION.cff"))
    assert citation["version"] == _version()
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


@pytest.mark.parametrize("name", ["my-implementation-disagrees", "a-claim-is-wrong"])
def test_an_issue_form_asks_for_what_is_needed(name: str) -> None:
    form = yaml.safe_load(_text(f".github/ISSUE_TEMPLATE/{name}.yml"))
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    identifiers = [field["id"] for field in fields]
    assert len(set(identifiers)) == len(identifiers)
    assert "doctor" in identifiers
    for field in fields:
        assert field["type"] in {"input", "textarea", "dropdown"}
        assert field["attributes"]["label"]


def test_pre_commit_runs_the_tools_of_the_environment() -> None:
    (repository,) = yaml.safe_load(_text(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith((".venv/bin/", "make "))


def test_ci_runs_the_test_command_of_the_readme() -> None:
    jobs = re.search(r"^for job in ([^;]+);", _text(".ci/run"), re.MULTILINE)
    assert jobs is not None
    assert {"test", "audit-quick"} <= set(jobs[1].split())
    assert "$ make test " in _text("README.md")


def test_the_quick_audit_says_that_it_is_quick() -> None:
    makefile = _text("Makefile")
    assert re.search(r"^audit: .*## the quick audit", makefile, re.MULTILINE)
    assert re.search(r"^audit-full: .*## the whole audit", makefile, re.MULTILINE)
