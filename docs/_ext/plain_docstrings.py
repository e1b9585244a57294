"""Lets docstrings be written for the reader of the source, and still come out right on the site.

In our docstrings an indented block of prose is a formula, shown as it stands, `|` is an absolute
value, and a line may begin with an equation's number. reStructuredText reads the first as a quotation,
and warns, the second as a substitution, and the third as an item of a list. Napoleon takes what comes
before a colon in the docstring of a constant for its type; ours is a sentence.
"""

import re

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

# Google-style section headers: what is indented under these is a section's content. An attribute or an
# argument is a "name: text" line, which is indented already.
_SECTION = re.compile(r"^(Args|Attributes|Examples?|Notes?|Raises|References?|Returns|Yields):\s*$")
_LITERAL = re.compile(r"(`+[^`]*`+)")
_CONSTANTS = ("attribute", "data")
_NUMBER = re.compile(r"^(\s*)\((\w+)\)(?=\s)")


def _escape(line: str) -> str:
    """Escape a leading equation number, and `|` outside of backticks."""
    line = _NUMBER.sub(r"\1\\(\2)", line)
    pieces = _LITERAL.split(line)
    return "".join(
        piece if index % 2 else piece.replace("|", r"\|") for index, piece in enumerate(pieces)
    )


def as_restructured_text(lines: list[str]) -> list[str]:
    """Mark the indented blocks of the prose as literal, and escape bars and numbers elsewhere.

    Args:
        lines: a docstring, dedented.

    Returns:
        The lines for reStructuredText; sections, and examples in them, keep their own indentation.
    """
    written: list[str] = []
    in_section = in_formula = False
    for line in lines:
        indented = line.startswith("    ")
        if not line.strip():
            written.append(line)
            continue
        if not indented:
            in_section = _SECTION.match(line) is not None
            in_formula = False
        elif not in_section and not in_formula:
            in_formula = True
            previous = next((text for text in reversed(written) if text.strip()), "")
            if not previous.endswith("::"):
                written += ["", "::", ""]
        literal = in_formula or ">>>" in line or "..." in line
        written.append(line if literal else _escape(line))
    return written


def process(
    app: Sphinx, what: str, name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Rewrite a docstring in place, as autodoc asks of its listeners."""
    lines[:] = as_restructured_text(lines)
    if what in _CONSTANTS:
        _kept(app)[name] = lines.copy()


def undo_napoleon(
    app: Sphinx, what: str, name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Give a constant its sentence back."""
    if what in _CONSTANTS:
        lines[:] = [*_kept(app).pop(name), ""]


def _kept(app: Sphinx) -> dict[str, list[str]]:
    """The docstrings of the constants that are on their way through napoleon."""
    kept: dict[str, list[str]] = app.__dict__.setdefault("_plain_docstrings", {})
    return kept


def setup(app: Sphinx) -> ExtensionMetadata:
    """Run before and after napoleon, which listens at the default priority of 500."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("autodoc-process-docstring", undo_napoleon, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
