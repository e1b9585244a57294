"""Formulas: what is shown, what is computed, and the errors that are planted in them."""

from fractions import Fraction

import pytest
import sympy as sp

from proofs_check.errors import ClaimRefusedError, StatementError
from proofs_check.formula import ClaimFormula
from proofs_check.planted import errors
from proofs_check.statement import ClaimStatement, choice, formula, mutants
from proofs_check.sums import SIZE, At, Indexed
from proofs_check.template import literals, refuse_literals

ERROR = ClaimFormula("e", "-s/h * (1 - γ*h)**m")
SUM = ClaimFormula("g", "S0 + 1/2*ε*Σ(k, 0, m-1, A[k]) @ S0", "A S0")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("-s/h * (1 - γ*h)**m", "-s/h·(1 - γ·h)^m"),
        ("ε**(3/2)*z[m-1] @ f_θθ @ B[k]", "ε^(3/2)·z^(m-1)·f_θθ·B(θ^(k))"),
        ("Σ(k, 0, m-1, A[k]) @ S0", "Σ_(k=0..m-1) A(θ^(k))·dθ⁰/dλ"),
        ("2*(a - (b - c))", "2·(a - (b - c))"),
        ("sqrt(1 - λ**2)", "√(1 - λ^2)"),
    ],
)
def test_a_formula_is_shown_as_a_reader_writes_it(source: str, shown: str) -> None:
    assert ClaimFormula("f", source).shown() == shown


def test_the_same_formula_is_computed_with_symbols_fractions_and_floats() -> None:
    names = {"s": 2, "h": 4, "γ": 1, "m": 3}
    assert ERROR.value({k: sp.Integer(v) for k, v in names.items()}) == sp.Rational(27, 2)
    assert ERROR.value({k: Fraction(v) for k, v in names.items()} | {"m": 3}, Fraction) == Fraction(
        27, 2
    )
    assert ERROR.value({k: float(v) for k, v in names.items()}, float) == 13.5


def test_a_name_without_a_value_is_answered_with_those_there_are() -> None:
    with pytest.raises(StatementError, match=r"names s; got 'h'"):
        ERROR.value({"s": 1})


def test_a_sum_with_a_symbolic_end_grows_by_its_last_term() -> None:
    start = sp.Symbol("S0", commutative=False)

    def value(m: sp.Expr) -> sp.Expr:
        return SUM.value({"S0": start, "ε": sp.Integer(2), "A": Indexed("A"), "m": m})

    assert sp.expand(value(SIZE + 1) - value(SIZE) - Indexed("A")[SIZE] * start) == 0


def test_every_kind_of_error_is_planted_and_none_is_equal_to_the_original() -> None:
    found = list(errors(SUM))
    assert {error.kind for error in found} >= {"sign", "structure", "index", "coefficient"}
    assert len({error.formula.shown() for error in found}) == len(found)


def test_the_order_of_a_product_is_an_error_only_where_it_matters() -> None:
    ordered = [e.change for e in errors(ClaimFormula("f", "A @ B", "A B"))]
    plain = [e.change for e in errors(ClaimFormula("f", "A @ B"))]
    assert "A·B -> B·A" in ordered
    assert "A·B -> B·A" not in plain


def test_the_sign_of_a_symmetric_law_is_no_error() -> None:
    assert not [e for e in errors(ClaimFormula("f", "θ - κ*z", even="z")) if e.kind == "sign"]
    assert [e for e in errors(ClaimFormula("f", "θ - κ*z")) if e.kind == "sign"]


def test_a_word_is_replaced_by_each_of_the_others() -> None:
    statement = ClaimStatement("it {trend}", (choice("trend", "grows", "falls", "stays"),))
    assert [m.statement.text() for m in mutants(statement)] == ["it falls", "it stays"]
    assert statement.saying(trend="falls").text() == "it falls"


def test_a_choice_without_another_word_is_refused() -> None:
    with pytest.raises(StatementError, match="must have other words"):
        choice("trend", "grows")


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("by (22) and Theorem 1 of Section 2.2 on Synth-1D from θ⁰", []),
        ("the error is {e}", []),
        ("the error is 2·{e}", ["2", "·"]),
        ("κ²{e}", ["²"]),
        ("g_(m-1)", ["_(", "1"]),
        ("for a convex f", ["convex"]),
        ("with twice the steps", ["twice"]),
        ("the mean of the third power", ["third"]),
        ("where x ≥ {e}", ["≥"]),
    ],
)
def test_a_literal_outside_the_holes_is_found(template: str, found: list[str]) -> None:
    assert literals(template) == found


def test_a_template_with_a_literal_is_refused_with_its_file() -> None:
    with pytest.raises(
        ClaimRefusedError, match=r"eq-0.*some_file.py.*\['2', 'half'\].*into a hole"
    ):
        refuse_literals("eq-0", "the half of 2 is {e}", "some_file.py")


def test_a_formula_of_an_indexed_thing_reads_the_index() -> None:
    statement = ClaimStatement("{g}", (formula("g", "f[m] - f[m-1]"),))
    assert statement.formula("g", f=At(lambda k: k * k), m=5) == 9
