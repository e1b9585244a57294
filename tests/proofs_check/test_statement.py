"""Statements as data, and the errors that are planted in them."""

from fractions import Fraction

import pytest

from proofs_check.errors import StatementError
from proofs_check.statement import (
    ClaimStatement,
    coefficient,
    exponent,
    index,
    mutants,
    show,
    sign,
)

STATEMENT = ClaimStatement(
    "θ^(m+{i}) + {s}·{c}·ε^{e}",
    (index("i", -1), sign("s", -1), coefficient("c", "1/2"), exponent("e", "3/2")),
)


def test_the_text_has_the_numbers_in_place() -> None:
    assert STATEMENT.text() == "θ^(m-1) + -1·1/2·ε^(3/2)"


def test_an_offset_of_zero_is_not_shown() -> None:
    assert STATEMENT.having(i=0).text().startswith("θ^(m) ")


def test_each_kind_of_number_is_changed_in_its_own_ways() -> None:
    changed: dict[str, set[Fraction]] = {}
    for mutant in mutants(STATEMENT):
        changed.setdefault(mutant.term.name, set()).add(mutant.statement[mutant.term.name])
    assert changed == {
        "i": {Fraction(0), Fraction(-2)},
        "s": {Fraction(1)},
        "c": {Fraction(1), Fraction(1, 4), Fraction(-1, 2)},
        "e": {Fraction(5, 2), Fraction(1, 2), Fraction(2)},
    }


def test_a_mutant_differs_from_the_original_in_one_number() -> None:
    for mutant in mutants(STATEMENT):
        pairs = zip(mutant.statement.terms, STATEMENT.terms, strict=True)
        different = [old.name for new, old in pairs if new != old]
        assert different == [mutant.term.name]


def test_a_zero_coefficient_is_changed_too() -> None:
    zero = ClaimStatement("{c}", (coefficient("c", 0),))
    assert {mutant.statement["c"] for mutant in mutants(zero)} == {Fraction(1), Fraction(-1)}


def test_a_wrong_name_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(StatementError, match=r"one of: i, s, c, e; got 'x'"):
        STATEMENT["x"]


def test_a_sign_is_one_or_minus_one() -> None:
    with pytest.raises(StatementError, match="must be 1 or -1, got 2"):
        sign("s", 2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("3", "3"),
        ("-1/2", "-1/2"),
        ("0.7487", "0.7487"),
        ("1/11", "1/11"),
        ("3/16", "3/16"),
        ("17/2048", "17/2048"),
        ("0.771779788708", "0.771779788708"),
        ("-0.662642817711", "-0.662642817711"),
    ],
)
def test_numbers_are_shown_as_a_reader_writes_them(value: str, text: str) -> None:
    assert show(Fraction(value)) == text
