"""The recipes: each exists, is run, and needs few lines beside the code that its reader has already.

`test_examples` runs every page. Here the lines of glue are counted: the lines of an example that
neither the losses, nor the training or hypergradient that is judged, use. 0.1 s of processor time.
"""

import ast
import re
from pathlib import Path

import pytest

from tests.test_examples import PAGES

HOWTO = Path(__file__).resolve().parent.parent / "docs" / "howto"
MOST = 15
LISTED = re.findall(r"\]\(([\w-]+\.md)\)", (HOWTO / "recipes.md").read_text(encoding="utf-8"))
NEEDED = (
    *("any-framework.md", "module.md", "minibatches.md", "learning-rates.md", "tasks.md"),
    *("losses-along-the-run.md", "float32.md", "jax.md", "numpy.md", "ci.md"),
)
JUDGING = {"hypergradcheck", "hypergradient_report", "hypergradient_is_right"}
OWN = {"inner": 0, "outer": 1, "hypergradient": 4, "objective": None}
"""The arguments that a reader has already, and where they stand."""


def glue(code: str) -> list[str]:
    """The lines of an example that what its reader has already does not use.

    Args:
        code: the text of the example.
    """
    module = ast.parse(code)
    made = {name: node for node in module.body for name in _made(node)}
    own, left = set[ast.stmt](), [name for node in module.body for name in _given(node)]
    while left:
        node = made.get(left.pop())
        if node is not None and node not in own:
            own.add(node)
            left += _used(node)
    lines = code.splitlines()
    return [
        line
        for node in module.body
        if node not in own
        for line in lines[node.lineno - 1 : node.end_lineno]
        if line.strip()
    ]


def _made(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(each.asname or each.name).partition(".")[0] for each in node.names]
    return [
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    ]


def _used(node: ast.AST) -> list[str]:
    return [
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)
    ]


def _given(node: ast.stmt) -> list[str]:
    """What is used by the losses and the hypergradient in the calls that judge."""
    found = []
    for call in ast.walk(node):
        if not isinstance(call, ast.Call) or _used(call.func) == []:
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
        if name not in JUDGING:
            continue
        named = {each.arg: each.value for each in call.keywords}
        for argument, place in OWN.items():
            if argument in named:
                found += _used(named[argument])
            elif place is not None and place < len(call.args):
                found += _used(call.args[place])
    return found


def examples(page: str) -> list[str]:
    """The blocks of code of a page, without those that show what is printed."""
    text = (HOWTO / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return [block for block in blocks if not block.startswith(">>>")]


def test_every_recipe_is_listed_and_run() -> None:
    assert LISTED[0] == "any-framework.md", "the shortest way in comes first"
    assert set(LISTED) >= set(NEEDED)
    assert {HOWTO / page for page in LISTED} <= set(PAGES)


@pytest.mark.parametrize("page", NEEDED)
def test_a_recipe_needs_few_lines_of_glue(page: str) -> None:
    judging = [code for code in examples(page) if any(name in code for name in JUDGING)]
    assert judging, f"{page} judges nothing"
    for code in judging:
        lines = glue(code)
        assert 0 < len(lines) <= MOST, "\n".join(lines)


def test_glue_is_what_the_readers_own_code_does_not_use() -> None:
    code = """
import torch
import refblo
x = torch.ones(2)
def inner(lam, theta):
    return (theta - lam * x).square().sum()
def mine(lam):
    return lam
options = {
    "steps": 1,
}
report = refblo.hypergradcheck(inner, abs, x, x, mine, **options)
"""
    assert glue(code) == [
        "import refblo",
        *("options = {", '    "steps": 1,', "}"),
        "report = refblo.hypergradcheck(inner, abs, x, x, mine, **options)",
    ]
