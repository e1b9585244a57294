"""A claim's statement as data: a sentence whose numbers can be changed one at a time.

The numbers of a statement (coefficients, signs, indices, exponents) are parameters of the evidence.
That is what lets the ledger be checked itself: change one number and the evidence must reject it.
"""

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, final

import sympy as sp

from proofs_check.errors import StatementError
from proofs_check.formula import ClaimFormula, Numbers
from proofs_check.planted import errors


class StatementKind(enum.Enum):
    """What a number is in its formula; it decides how a planted error changes it."""

    COEFFICIENT = "coefficient"
    SIGN = "sign"
    INDEX = "index"
    EXPONENT = "exponent"
    STRUCTURE = "structure"
    NAME = "name"
    WORD = "word"


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


@final
@dataclass(frozen=True)
class WordChoice:
    """One word of a statement that could have been another.

    Attributes:
        name: the placeholder of the word in the sentence.
        word: the word itself.
        others: what it could have been.
    """

    name: str
    word: str
    others: tuple[str, ...]


Hole = Term | ClaimFormula | WordChoice


def choice(name: str, word: str, *others: str) -> WordChoice:
    """A word, and the words that a planted error puts in its place."""
    if not others or word in others:
        raise StatementError(f"choice {name!r} must have other words than {word!r}, got {others}")
    return WordChoice(name, word, others)


def formula(name: str, source: str, operators: str = "", even: str = "") -> ClaimFormula:
    """A formula, such as ``-s/h * (1 - γ*h)**m``.

    Args:
        name: the placeholder of the formula in the sentence.
        source: the expression.
        operators: the names that do not commute, separated by blanks.
        even: the names with a symmetric law, such as a standard normal z.

    Returns:
        The formula.
    """
    return ClaimFormula(name, source, operators, even)


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
    """A number as a reader writes it: ``3``, ``-1/2``, or a decimal.

    A decimal ends after ten digits at most (for a denominator above 16), or after twelve where the fraction
    is longer.

    Args:
        value: the number.

    Returns:
        Its text.
    """
    if value.denominator == 1:
        return str(value.numerator)
    fraction, decimal = f"{value.numerator}/{value.denominator}", str(float(value))
    if (value * 10**10).denominator == 1 and value.denominator > 16:
        return decimal
    longer = len(fraction) > len(decimal)
    return decimal if longer and (value * 10**12).denominator == 1 else fraction


def _in_formula(term: Term) -> str:
    """A number where it stands: a power that is not a whole number goes in parentheses."""
    text = show(term.value)
    bare = term.kind is not StatementKind.EXPONENT or text.isdigit()
    return text if bare else f"({text})"


@final
@dataclass(frozen=True)
class ClaimStatement:
    """A claim in our own words, with its numbers, formulas and decisive words apart.

    Attributes:
        template: the sentence, with ``{name}`` where one of them stands.
        terms: what stands in the holes.
    """

    template: str
    terms: tuple[Hole, ...] = ()

    def hole(self, name: str) -> Hole:
        """What stands in one hole.

        Raises:
            StatementError: no hole has that name.
        """
        for term in self.terms:
            if term.name == name:
                return term
        known = ", ".join(term.name for term in self.terms) or "none"
        raise StatementError(f"term must be one of: {known}; got {name!r}")

    def __getitem__(self, name: str) -> Fraction:
        """The exact value of one number.

        Raises:
            StatementError: no number has that name.
        """
        found = self.hole(name)
        if not isinstance(found, Term):
            raise StatementError(f"{name!r} must be a number, got {found}; use formula() or word()")
        return found.value

    def formula(self, name: str, numbers: Numbers = sp.Integer, /, **env: Any) -> Any:
        """The value of one formula.

        Args:
            name: which.
            numbers: what its literal numbers become: `sympy.Integer`, `Fraction` or `float`.
            env: what its names stand for.

        Returns:
            What the arithmetic gives.
        """
        found = self.hole(name)
        if not isinstance(found, ClaimFormula):
            raise StatementError(f"{name!r} must be a formula, got {found}")
        return found.value(env, numbers)

    def word(self, name: str) -> str:
        """One of the decisive words."""
        found = self.hole(name)
        if not isinstance(found, WordChoice):
            raise StatementError(f"{name!r} must be a word, got {found}")
        return found.word

    def integer(self, name: str) -> int:
        """One number as an integer, rounded towards zero (a mutant's index stays usable)."""
        return int(self[name])

    def text(self) -> str:
        """The sentence with everything in place."""
        text = self.template.format(**{term.name: _in_sentence(term) for term in self.terms})
        # An offset of a step index is written m+{j}; its value may be negative or zero.
        return re.sub(r"(?<=[mBT])\+0\b", "", text.replace("+-", "-"))

    def with_hole(self, hole: Hole) -> "ClaimStatement":
        """The same sentence with another content of the hole of that name."""
        return self._with(hole.name, hole)

    def _with(self, name: str, hole: Hole) -> "ClaimStatement":
        return replace(self, terms=tuple(hole if t.name == name else t for t in self.terms))

    def with_value(self, name: str, value: Fraction) -> "ClaimStatement":
        """The same sentence with one number changed.

        Args:
            name: which number.
            value: what it becomes.

        Returns:
            The changed statement.
        """
        self[name]
        found = self.hole(name)
        return self._with(name, replace(found, value=value)) if isinstance(found, Term) else self

    def having(self, **values: int | str) -> "ClaimStatement":
        """The same sentence with several numbers changed, given as ``name="1/2"``."""
        changed = self
        for name, value in values.items():
            changed = changed.with_value(name, Fraction(value))
        return changed

    def saying(self, **sources: str) -> "ClaimStatement":
        """The same sentence with formulas or words changed, given as ``name="n*(n + 2)"``."""
        changed = self
        for name, source in sources.items():
            found = self.hole(name)
            if isinstance(found, ClaimFormula):
                changed = changed._with(name, replace(found, source=source))
            elif isinstance(found, WordChoice):
                others = tuple(w for w in (found.word, *found.others) if w != source)
                changed = changed._with(name, WordChoice(name, source, others))
            else:
                raise StatementError(f"{name!r} must be a formula or a word; use having()")
        return changed


def _in_sentence(hole: Hole) -> str:
    if isinstance(hole, Term):
        return _in_formula(hole)
    return hole.shown() if isinstance(hole, ClaimFormula) else hole.word


@final
@dataclass(frozen=True)
class Mutant:
    """A statement with one planted error.

    Attributes:
        term: the hole that was changed.
        kind: what was changed in it.
        change: from what into what.
        statement: the statement that carries the error.
    """

    term: Hole
    kind: StatementKind
    change: str
    statement: ClaimStatement

    def name(self) -> str:
        """What was changed into what, for a report."""
        return f"{self.term.name}: {self.change}"


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


def _of_hole(hole: Hole) -> Iterator[tuple[StatementKind, str, Hole]]:
    if isinstance(hole, Term):
        for value in _changes(hole):
            change = f"{show(hole.value)} -> {show(value)}"
            yield hole.kind, change, replace(hole, value=value)
    elif isinstance(hole, WordChoice):
        for other in hole.others:
            rest = tuple(w for w in (hole.word, *hole.others) if w != other)
            yield StatementKind.WORD, f"{hole.word} -> {other}", WordChoice(hole.name, other, rest)
    else:
        for error in errors(hole):
            yield StatementKind(error.kind), error.change, error.formula


def mutants(statement: ClaimStatement) -> Iterator[Mutant]:
    """Every planted error of a statement: each hole changed alone, in the ways of its kind.

    Args:
        statement: the correct statement.

    Yields:
        One statement for each change.
    """
    for hole in statement.terms:
        for kind, change, changed in _of_hole(hole):
            yield Mutant(hole, kind, change, statement._with(hole.name, changed))
