"""Writes `refblo/estimators/__init__.py` from the files beside it: `python -m refblo.testing.exports`.

A file exports the names in its `__all__`, or else its estimators and its enumerations. The files are read,
not imported, so that this works on a tree that cannot be imported yet. A test fails when the file that is
there is not the one that this writes.
"""

import ast
import textwrap
from pathlib import Path

import refblo

PACKAGE = Path(refblo.__file__).parent / "estimators"

INDENT = "    "
WIDTH = 100


def exported(path: Path) -> tuple[str, ...]:
    """The names that a file of `refblo/estimators` gives to the package."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    stated = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(name, ast.Name) and name.id == "__all__" for name in node.targets)
    ]
    if stated:
        return tuple(sorted(stated[0], key=_order))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    names = [node.name for node in classes if _is_exported(node)]
    return tuple(sorted(names, key=_order))


def _is_exported(node: ast.ClassDef) -> bool:
    bases = {ast.unparse(base) for base in node.bases}
    methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    is_estimator = "estimate" in methods or "WarmEstimator" in bases
    return not node.name.startswith("_") and (is_estimator or "Enum" in bases)


def _order(name: str) -> tuple[int, str]:
    """Constants and names like them, then classes, then functions: as ruff sorts."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def text(package: Path = PACKAGE) -> str:
    """What `__init__.py` must be."""
    homes: dict[str, tuple[str, ...]] = {}
    for path in sorted(package.glob("*.py")):
        names = () if path.stem.startswith("_") or path.stem == "registry" else exported(path)
        if names:
            homes[f"refblo.estimators.{path.stem}"] = names
    lines = [
        '"""One estimator a file: equation, state, step, estimate.',
        "",
        "This file is written by `python -m refblo.testing.exports`.",
        '"""',
        "",
    ]
    for home, names in sorted(homes.items()):
        line = f"from {home} import {', '.join(names)}"
        if len(line) > WIDTH:
            inside = textwrap.indent("".join(f"{name},\n" for name in names), INDENT)
            line = f"from {home} import (\n{inside})"
        lines.append(line)
    every = sorted((name for names in homes.values() for name in names), key=_order)
    lines += ["", "__all__ = [", *(f'{INDENT}"{name}",' for name in every), "]", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    (PACKAGE / "__init__.py").write_text(text(), encoding="utf-8")
