"""What the documentation site promises about itself."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from docs._ext.plain_docstrings import as_restructured_text

ROOT = Path(__file__).resolve().parent.parent


def test_every_dependency_has_its_line() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = {
        name.strip()
        for row in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE)
        for name in row.split(",")
    }
    direct = {Requirement(text).name for text in metadata.requires("refblo") or []} - {"refblo"}
    assert direct <= rows, f"no line for {sorted(direct - rows)}"
    assert rows - {"package", "---"} <= direct, f"no dependency: {sorted(rows - direct)}"


def test_every_requirement_of_the_package_is_pinned() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", text, re.MULTILINE))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(pins) == len(lines), "a line of constraints.txt is no exact pin"
    normalised = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    for requirement in map(Requirement, metadata.requires("refblo") or []):
        if requirement.name != "refblo":
            pinned = normalised[re.sub(r"[-_.]+", "-", requirement.name).lower()]
            assert requirement.specifier.contains(pinned), f"{requirement} forbids {pinned}"


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        (["The norm |x| of x."], [r"The norm \|x\| of x."]),
        (["Either `a | b` or |c|."], [r"Either `a | b` or \|c\|."]),
        (
            ["By", "", "    g = |a|", "      + b", "", "where |b| < 1."],
            ["By", "", "", "::", "", "    g = |a|", "      + b", "", r"where \|b\| < 1."],
        ),
        (["By::", "", "    g = |a|"], ["By::", "", "    g = |a|"]),
        (["(22) and (24)."], [r"\(22) and (24)."]),
        (["Args:", "    x: |x| < 1."], ["Args:", r"    x: \|x\| < 1."]),
        (["Example:", "    >>> a | b"], ["Example:", "    >>> a | b"]),
    ],
)
def test_docstrings_become_restructured_text(docstring: list[str], expected: list[str]) -> None:
    assert as_restructured_text(docstring) == expected
