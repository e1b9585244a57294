"""Which claims of the ledger the docstrings of the code name, and which formulas name none.

A docstring names its claims in a line of its own, `Claims: eq-22, thm-1.`, in the order of the alphabet. A
formula is a line of a docstring, before its sections: one that begins with *symbol = …* (or with ←, ≤ or
≈), or one that is set apart. What it states must be one of these claims, or stand in a source that the
same docstring names: (Author et al. 2020), or (24) of one of the papers.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

_CLAIMS = re.compile(r"^ *Claims: (?P<keys>[^.]+)\.$", re.MULTILINE)
_SOURCE = re.compile(r"\([^()]*\b(19|20)\d\d\b[^()]*\)|\b[A-Z]\w+ \(?(19|20)\d\d\b|\(\d{1,2}\)")
_RELATION = r"[=←≤≈]"
_DISPLAYED = re.compile(r"^ {4,}\S")
_AT_THE_START = re.compile(rf"^[^\s{_RELATION[1:-1]}]{{1,12}}(\([^()]*\))? *{_RELATION} \S")
_SECTION = re.compile(r"^(Args|Attributes|Example|Examples|Raises|Returns|Yields):$", re.MULTILINE)
_EXAMPLE = re.compile(r"^ *(>>>|\.\.\.)")


@final
@dataclass(frozen=True)
class NamedDocstring:
    """A docstring and where it stands.

    Attributes:
        owner: of which class or function, with those around it; empty for the module's.
        line: number of the first line of the docstring in the file.
        text: what it says, indentation removed.
    """

    owner: str
    line: int
    text: str

    @property
    def claims(self) -> tuple[str, ...]:
        """The claims that it names."""
        return claims_in(self.text)

    @property
    def formulas(self) -> tuple[str, ...]:
        """Its formulas, see above."""
        words = _SECTION.split(self.text, maxsplit=1)[0]
        return tuple(
            line.strip()
            for line in words.splitlines()
            if (_DISPLAYED.match(line) or _AT_THE_START.match(line)) and not _EXAMPLE.match(line)
        )

    @property
    def sourced(self) -> bool:
        """Whether it names a claim or a source."""
        return bool(self.claims) or _SOURCE.search(self.text) is not None


def claims_in(text: str) -> tuple[str, ...]:
    """The keys in the lines `Claims: …` of a text, in its order."""
    lines = (match["keys"] for match in _CLAIMS.finditer(text))
    return tuple(key.strip() for line in lines for key in line.split(","))


def docstrings(file: Path) -> Iterator[NamedDocstring]:
    """The docstrings of a file: the module's first."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    yield from _within(tree, "")


def _within(
    node: ast.Module | ast.ClassDef | ast.FunctionDef, owner: str
) -> Iterator[NamedDocstring]:
    text = ast.get_docstring(node)
    if text is not None:
        yield NamedDocstring(owner, node.body[0].lineno, text)
    for each in node.body:
        if isinstance(each, ast.ClassDef | ast.FunctionDef):
            yield from _within(each, f"{owner}.{each.name}".lstrip("."))


def claims_of(file: Path, name: str = "") -> tuple[str, ...]:
    """The claims of a class or function: those of its own docstring, else those of its file's.

    Args:
        file: where it stands.
        name: name of the class or function; empty for all that the file names.
    """
    found = list(docstrings(file))
    own = [each.claims for each in found if each.owner == name or not name]
    chosen = own if any(own) else [each.claims for each in found if not each.owner]
    return tuple(dict.fromkeys(key for keys in chosen for key in keys))


def unsourced(file: Path) -> Iterator[tuple[NamedDocstring, str]]:
    """Formulas of a file whose docstring names neither a claim nor a source."""
    for each in docstrings(file):
        if not each.sourced:
            for formula in each.formulas:
                yield each, formula
