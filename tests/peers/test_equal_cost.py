"""The page of costs: what it says is in its table, and its command knows what it runs."""

import ast
from pathlib import Path

import pytest

from refblo.equal_cost.methods import METHODS
from refblo.problems import build, catalogue
from tests.peers.equal_cost import BUDGET, FOLDER, TARGETS, budget

PAGE = Path(__file__).parents[2] / "docs" / "equal-cost.md"
HEADS = 2


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[HEADS:]]


def test_every_library_method_is_named_and_has_an_adapter() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in TARGETS:
        file, _, function = name.partition(":")
        tree = ast.parse((FOLDER / file).read_text(encoding="utf-8"))
        assert function in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        assert f"`{file.removeprefix('with_').removesuffix('.py')}:{function}`" in text


def test_a_method_of_this_package_is_on_both_fronts_of_every_row_and_a_library_has_a_point() -> (
    None
):
    ours = {method.name for method in METHODS}
    found = rows()
    assert len({row[0] for row in found}) == len(found)
    for name, _, allowed, *fronts, best, theirs in found:
        assert name in catalogue()
        assert int(allowed) >= BUDGET
        assert all(ours & set(front.split("; ")) for front in fronts), name
        assert best.rpartition(", ")[2] in ours, name
        assert theirs.count(":") == 1, name


@pytest.mark.parametrize(("name", "least"), [("quadratic", 301), ("maml_quadratic", BUDGET)])
def test_the_budget_fits_reverse_mode_of_the_problems_own_run(name: str, least: int) -> None:
    # Of T steps: T gradients, T products with H and T with C, and one outer gradient.
    case = build(name)
    assert budget(case) == least == max(BUDGET, 3 * case.schedule.steps + 1)


@pytest.mark.full
def test_every_problem_of_the_catalogue_has_a_row() -> None:
    assert [row[0] for row in rows()] == list(catalogue())
