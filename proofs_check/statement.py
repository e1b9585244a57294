"""A claim's statement as data: a sentence whose numbers can be changed one at a time.

The numbers of a statement (coefficients, signs, indices, exponents) are parameters of the evidence.
That is what lets the ledger be checked itself: change one number and the evidence must reject it.
"""

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import final

from proofs_check.errors import StatementError


class StatementKind(enum.Enum):
    """What a number is in its formula; it decides how a planted error changes it."""

    COEFFICIENT = "coefficient"
    SIGN = "sign"
    INDEX = "index"
    EXPONENT = "exponent"


@final
@dataclass(frozen=True)
class Term:
    """One number of a statement.

    Attributes:
        name: the placeholder of the number in the sentence.
        kind: the number's part in the formula.
        value: the number itself, exact.
    """

    name: str
    kind: StatementKind
    value: Fraction


def coefficient(name: str, value: int | str) -> Term:
    """A factor, such as the 1/2 of ε/2."""
    return Term(name, StatementKind.COEFFICIENT, Fraction(value))


def sign(name: str, value: int) -> Term:
    """A sign, +1 or -1."""
    if value not in (1, -1):
        raise StatementError(f"sign {name!r} must be 1 or -1, got {value}; use coefficient() else")
    return Term(name, StatementKind.SIGN, Fraction(value))


def index(name: str, value: int) -> Term:
    """A step index or its offset, such as the -1 of θ^(m-1)."""
    return Term(name, StatementKind.INDEX, Fraction(value))


def exponent(name: str, value: int | str) -> Term:
    """A power, such as the 3/2 of ε^(3/2)."""
    return Term(name, StatementKind.EXPONENT, Fraction(value))


def show(value: Fraction) -> str:
    """A number as a reader writes it: ``3``, ``-1/2``, or a decimal where it ends after ten digits.

    Args:
        value: the number.

    Returns:
        Its text.
    """
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10**10
    if scaled.denominator == 1 and value.denominator > 16:
        return str(float(value))
    return f"{value.numerator}/{value.denominator}"


def _in_formula(term: Term) -> str:
    """A number where it stands: a power that is not a whole number goes in parentheses."""
    text = show(term.value)
    bare = term.kind is not StatementKind.EXPONENT or text.isdigit()
    return text if bare else f"({text})"


@final
@dataclass(frozen=True)
class ClaimStatement:
    """A claim in our own words, with its numbers apart.

    Attributes:
        template: the sentence, with ``{name}`` where a number stands.
        terms: the numbers.
    """

    template: str
    terms: tuple[Term, ...] = ()

    def __getitem__(self, name: str) -> Fraction:
        """The exact value of one number.

        Raises:
            StatementError: no number has that name.
        """
        for term in self.terms:
            if term.name == name:
                return term.value
        known = ", ".join(term.name for term in self.terms) or "none"
        raise StatementError(f"term must be one of: {known}; got {name!r}")

    def integer(self, name: str) -> int:
        """One number as an integer, rounded towards zero (a mutant's index stays usable)."""
        return int(self[name])

    def text(self) -> str:
        """The sentence with its numbers in place."""
        values = {term.name: _in_formula(term) for term in self.terms}
        text = self.template.format(**values)
        # An offset of a step index is written m+{j}; its value may be negative or zero.
        return re.sub(r"(?<=[mBT])\+0\b", "", text.replace("+-", "-"))

    def with_value(self, name: str, value: Fraction) -> "ClaimStatement":
        """The same sentence with one number changed.

        Args:
            name: which number.
            value: what it becomes.

        Returns:
            The changed statement.
        """
        self[name]
        changed = tuple(replace(t, value=value) if t.name == name else t for t in self.terms)
        return replace(self, terms=changed)

    def having(self, **values: int | str) -> "ClaimStatement":
        """The same sentence with several numbers changed, given as ``name="1/2"``."""
        changed = self
        for name, value in values.items():
            changed = changed.with_value(name, Fraction(value))
        return changed


@final
@dataclass(frozen=True)
class Mutant:
    """A statement with one planted error.

    Attributes:
        term: the number that was changed.
        statement: the statement that carries the error.
    """

    term: Term
    statement: ClaimStatement

    def name(self) -> str:
        """What was changed into what, for a report."""
        changed = self.statement[self.term.name]
        return f"{self.term.name}: {show(self.term.value)} -> {show(changed)}"


def _changes(term: Term) -> tuple[Fraction, ...]:
    value = term.value
    if term.kind is StatementKind.SIGN:
        return (-value,)
    if term.kind is StatementKind.INDEX:
        return (value + 1, value - 1)
    if term.kind is StatementKind.EXPONENT:
        return (value + 1, value - 1, value + Fraction(1, 2))
    if value == 0:
        return (Fraction(1), Fraction(-1))
    return (2 * value, value / 2, -value)


def mutants(statement: ClaimStatement) -> Iterator[Mutant]:
    """Every planted error of a statement: each number changed alone, in the ways of its kind.

    Args:
        statement: the correct statement.

    Yields:
        One statement for each change.
    """
    for term in statement.terms:
        for value in _changes(term):
            yield Mutant(term, statement.with_value(term.name, value))
