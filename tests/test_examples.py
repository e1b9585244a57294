"""Every example a reader can copy is run: the documentation's pages, the README, the docstrings.

A page's code blocks share one namespace, in the order of the page; each docstring has its own.
"""

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.document import Document
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts),
]
MODULES = sorted((ROOT / "refblo").rglob("*.py"))
OPTIONS = doctest.NORMALIZE_WHITESPACE


def parse_page(path: Path) -> Document:
    """Cut a Markdown page into its Python examples."""
    return Sybil([PythonCodeBlockParser(doctest_optionflags=OPTIONS), SkipParser()]).parse(path)


def docstring_examples(path: Path, module_name: str) -> Iterator[doctest.DocTest]:
    """Yield one test for each docstring of a module that holds examples.

    The docstrings are read from the source: at run time the shape checker has wrapped the
    functions, and doctest's own finder passes over what is wrapped.
    """
    source = path.read_text(encoding="utf-8")
    if ">>>" not in source:
        return
    for node in ast.walk(ast.parse(source)):
        if not isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) or not (node.body and isinstance(node.body[0], ast.Expr)):
            continue
        docstring = ast.get_docstring(node, clean=False)
        if docstring is None or ">>>" not in docstring:
            continue
        name = module_name if isinstance(node, ast.Module) else f"{module_name}.{node.name}"
        line = node.body[0].lineno - 1
        yield doctest.DocTestParser().get_doctest(docstring, {}, name, str(path), line)


def examples_of_the_package() -> list[tuple[str, doctest.DocTest]]:
    """List the docstring examples of refblo with the module each is run in."""
    found = []
    for path in MODULES:
        relative = path.relative_to(ROOT).with_suffix("")
        parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
        module_name = ".".join(parts)
        found += [(module_name, test) for test in docstring_examples(path, module_name)]
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_code_block_of_a_page_runs(path: Path) -> None:
    for example in parse_page(path):
        example.evaluate()


@pytest.mark.parametrize(
    ("module_name", "example"),
    examples_of_the_package(),
    ids=lambda value: value.name if isinstance(value, doctest.DocTest) else "in",
)
def test_every_docstring_example_runs(module_name: str, example: doctest.DocTest) -> None:
    example.globs = dict(vars(importlib.import_module(module_name)))
    printed: list[str] = []
    results = doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=printed.append)
    assert results.failed == 0, "".join(printed)


def test_every_make_job_that_a_page_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    jobs = set(re.findall(r"^([a-z-]+):.*##", makefile, flags=re.MULTILINE))
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"^(?:\$ )?make ([a-z-]+)|`make ([a-z-]+)", text, re.MULTILINE))
        missing = {first or second for first, second in named} - jobs
        assert not missing, f"{path.relative_to(ROOT)} names jobs the Makefile lacks: {missing}"


def test_a_wrong_example_on_a_page_is_caught(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 2\n```\n\n```python\n>>> x + 2\n5\n```\n", encoding="utf-8")
    assignment, doubtful = parse_page(page)
    assignment.evaluate()
    with pytest.raises(Exception, match="Expected"):
        doubtful.evaluate()


def test_a_docstring_example_is_found_where_it_stands(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        '"""No example."""\n\n\ndef f():\n    """Two.\n\n    >>> 1 + 1\n    2\n    """\n',
        encoding="utf-8",
    )
    (found,) = docstring_examples(module, "module")
    assert found.name == "module.f"
    assert [example.want for example in found.examples] == ["2\n"]
    assert found.lineno is not None
    assert found.lineno + found.examples[0].lineno == 6  # counted from zero
