"""The packages of refblo stand in layers: imports go down, and no two packages import each other.

The layers are the data below. A second of processor time: files are read, not imported.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "refblo"

LAYERS = (
    ("errors",),
    ("files", "parallel", "ravel", "cost"),
    ("plotting", "random_words", "types"),
    ("noise",),
    ("problem", "rules"),
    ("derivatives", "many_runs"),
    ("chain", "kernel", "validation"),
    ("problems",),
    ("balls", "estimators"),
    ("oracles", "outer", "theory"),
    ("contracts", "experiments", "conformance"),
    ("audit", "equal_cost", "testing", "vectors", "pytest_plugin"),
    ("commands",),
    ("cli",),
)
"""From the bottom up. A module or package imports from the layers below its own, never from its own."""

MAX_ROOT_MODULES = 15
"""A module at the root is one that every package may need; whatever else there is has a package."""

HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}

SHARED_CLASS_NAMES = {"State"}
"""What an estimator keeps between two steps has this name in each estimator's file."""

Import = tuple[str, str, str]
"""The importing part of refblo, the imported one, and where: file and line."""


def part_of(module: str) -> str | None:
    """The part of refblo that a module belongs to: "cost" for refblo.cost.meter; None for others."""
    names = module.split(".")
    return names[1] if names[0] == "refblo" and len(names) > 1 else None


def imports_of(path: Path, part: str) -> Iterator[Import]:
    """The imports of other parts of refblo that a file has anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "refblo":
            modules = [f"refblo.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        for imported in filter(None, map(part_of, modules)):
            if imported != part:
                yield part, imported, f"{path.name}:{node.lineno}"


def all_imports(package: Path = PACKAGE) -> Iterator[Import]:
    """Every import of one part of refblo by another; `__init__` and `__main__` are of no part."""
    for path in sorted(package.rglob("*.py")):
        part = path.relative_to(package).parts[0].removesuffix(".py")
        if part not in ("__init__", "__main__"):
            yield from imports_of(path, part)


def upward(imports: Iterator[Import]) -> list[str]:
    """The imports that do not go down."""
    return [
        f"{where}: {part} imports {imported}"
        for part, imported, where in imports
        if HEIGHT[imported] >= HEIGHT[part]
    ]


def test_every_part_of_the_package_has_a_layer() -> None:
    parts = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    parts -= {"__init__", "__main__", "__pycache__", "py.typed"}
    assert parts == set(HEIGHT)


def test_no_import_goes_up_so_there_is_no_cycle() -> None:
    assert not upward(all_imports())


@pytest.mark.parametrize(
    ("line", "is_upward"),
    [
        ("from refblo.estimators import RMD", True),
        ("import refblo.audit.run", True),
        ("from refblo import audit", True),
        ("def f():\n    from refblo.theory.budget import error_budget", True),
        ("from refblo.errors import require", False),
        ("import torch", False),
    ],
)
def test_an_import_that_goes_up_is_seen(tmp_path: Path, line: str, is_upward: bool) -> None:
    (tmp_path / "problems").mkdir()
    (tmp_path / "problems" / "one.py").write_text(line, encoding="utf-8")
    assert bool(upward(all_imports(tmp_path))) == is_upward


def test_few_modules_stand_at_the_root() -> None:
    modules = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert len(modules) <= MAX_ROOT_MODULES, modules


def public_classes(*packages: str) -> Iterator[tuple[str, str]]:
    """The name and file of each class at the top of a module, unless it begins with an underscore."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    yield node.name, str(path.relative_to(ROOT))


def test_a_class_name_occurs_once() -> None:
    files: dict[str, list[str]] = {}
    for name, path in public_classes("refblo", "proofs_check"):
        files.setdefault(name, []).append(path)
    repeated = {name: where for name, where in files.items() if len(where) > 1}
    assert set(repeated) == SHARED_CLASS_NAMES, repeated
