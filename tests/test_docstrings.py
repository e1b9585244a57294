"""What an editor shows of a class's argument can be read alone. About 2 s."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("refblo", "proofs_check", "asv_bench")

ENTRY = re.compile(r"^    (?P<name>\w+): (?P<text>.*)$", re.MULTILINE)
POINTS_ELSEWHERE = re.compile(
    r"(it|its|them|they|their|likewise|ditto|the same|that|those|this|these)\b", re.IGNORECASE
)


def unclear(source: str) -> list[str]:
    """Entries of class docstrings whose first word points to the entry before."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            entries = ENTRY.finditer(ast.get_docstring(node) or "")
            found += [
                f"{node.name}.{entry['name']}: {entry['text']}"
                for entry in entries
                if POINTS_ELSEWHERE.match(entry["text"])
            ]
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_argument_is_explained_without_the_one_before(folder: str) -> None:
    paths = sorted((ROOT / folder).glob("**/*.py"))
    assert paths
    found = {
        f"{path.relative_to(ROOT)}: {entry}"
        for path in paths
        for entry in unclear(path.read_text(encoding="utf-8"))
    }
    assert not found, "say what it is, not where to look: " + "; ".join(sorted(found))


def test_an_unclear_entry_is_found() -> None:
    text = (
        'class A:\n    """A.\n\n    Args:\n        x: the point.\n        y: likewise.\n    """\n'
    )
    assert unclear(text) == ["A.y: likewise."]
