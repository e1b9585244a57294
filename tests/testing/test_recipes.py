"""The recipes of CONTRIBUTING.md are followed to the letter: 15 s of processor time."""

from pathlib import Path

import pytest

from tests.testing.recipes import Edit, copy_of_the_tree, recipe, run

TOUCHED = {
    "estimator": {
        "refblo/estimators/direct_term.py": "Create",
        "refblo/contracts/registry.py": "In",
    },
    "problem": {"refblo/problems/pull.py": "Create", "refblo/problems/catalogue.py": "In"},
}
"""All that a recipe edits by hand: the piece's own file, and where it is registered."""

CHECK = {"estimator": "DirectTerm", "problem": "pull"}


@pytest.mark.parametrize("name", TOUCHED)
def test_a_recipe_followed_to_the_letter_passes_its_checks(name: str, tmp_path: Path) -> None:
    steps, tree = recipe(name), copy_of_the_tree(tmp_path)
    assert {edit.path for edit in steps.edits} == set(TOUCHED[name])
    for edit in steps.edits:
        edit.apply(tree)
    done = run(tree, steps.commands)
    assert done.returncode == 0, done.stderr
    assert f"registered, and checked: {CHECK[name]}" in done.stdout


MISTAKES: dict[str, tuple[str, str, str, str]] = {
    "no contract's line": (
        "estimator",
        '        direct_term("direct term", DirectTerm),\n',
        "",
        "DirectTerm has no contract; make one in refblo/contracts/ and add its line, such as "
        "exact('direct term', DirectTerm), to contracts() in refblo/contracts/registry.py",
    ),
    "the line twice": (
        "estimator",
        '        direct_term("direct term", DirectTerm),\n',
        '        direct_term("direct term", DirectTerm),\n' * 2,
        "2 contracts have the name 'direct term: the direct term alone'; remove one line from",
    ),
    "a name that is taken": (
        "estimator",
        'default="direct term"',
        'default="RMD-FO"',
        "the name 'RMD-FO' belongs to 2 estimators",
    ),
    "no catalogue's line": (
        "problem",
        '    "pull": "pull",\n',
        "",
        'pull builds a problem that the catalogue does not list; add the line "pull": "pull", to _MODULES',
    ),
    "a problem's name that is taken": (
        "problem",
        '    "pull": "pull",\n',
        '    "pull": "pull",\n    "cubic_toy": "pull",\n',
        "_MODULES in refblo/problems/catalogue.py: the name 'cubic_toy' is there 2 times; remove one line",
    ),
}


@pytest.mark.full
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_recipe_followed_wrongly_says_which_line_is_wrong(mistake: str, tmp_path: Path) -> None:
    name, right, wrong, told = MISTAKES[mistake]
    steps, tree = recipe(name), copy_of_the_tree(tmp_path)
    assert any(right in edit.text for edit in steps.edits)
    for edit in steps.edits:
        Edit(edit.path, edit.after, edit.text.replace(right, wrong)).apply(tree)
    done = run(tree, steps.commands)
    assert done.returncode == 1
    assert told in done.stderr, done.stderr


@pytest.mark.full
def test_a_contract_without_a_claim_says_which_line_to_add(tmp_path: Path) -> None:
    steps, tree = recipe("estimator"), copy_of_the_tree(tmp_path)
    for edit in steps.edits:
        edit.apply(tree)
    contract = tree / "refblo" / "contracts" / "first_order.py"
    text = contract.read_text(encoding="utf-8")
    claim = '"it is the direct term, so that its bias is the whole indirect term"'
    assert claim in text
    contract.write_text(text.replace(claim, '""'), encoding="utf-8")
    done = run(tree, steps.commands)
    assert done.returncode == 1
    assert "refblo/contracts/first_order.py: the contract 'direct term: the" in done.stderr
    assert "has no claim; add the line claim=" in done.stderr


def test_a_recipe_for_a_line_that_is_not_there_fails(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"a\.py must have the line 'two'"):
        Edit("a.py", "two", "three\n").apply(tmp_path)
    Edit("a.py", "one", "two\n").apply(tmp_path)
    assert (tmp_path / "a.py").read_text(encoding="utf-8") == "one\ntwo\n"
