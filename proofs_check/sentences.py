"""Errors planted in the text of a sentence: a digit, a sign, a relation, a name, a word, a hypothesis.

The errors of `planted.py` are changes of a formula's tree. These are misprints: one character or one
word of what stands in a hole is replaced, whatever becomes of the formula. A misprint that can no
longer be read as a formula is refused before any evidence is executed, and is not counted.
"""

import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import final

from proofs_check.claim import Claim
from proofs_check.errors import StatementError
from proofs_check.formula import ClaimFormula
from proofs_check.planted import changes_the_value
from proofs_check.statement import ClaimStatement, Hole, Term, mutants, show

_MISPRINTS = {
    "+": ("-", "*"), "-": ("+", "*"), "*": ("+", "**"), "/": ("*", "-"), "**": ("*", "+"), "@": ("+", "-"),
}  # fmt: skip


@final
@dataclass(frozen=True)
class Misprint:
    """A sentence with one misprint, or with one hypothesis left out.

    Attributes:
        name: what was changed into what.
        statement: the sentence that carries it.
        dropped: the key of the hypothesis that was left out; empty for a misprint.
    """

    name: str
    statement: ClaimStatement
    dropped: str = ""


def _digits(text: str) -> Iterator[str]:
    """The text with one digit changed."""
    for k, character in enumerate(text):
        if character.isdigit():
            yield text[:k] + str((int(character) + 1) % 10) + text[k + 1 :]


def _tokens(source: str, letters: list[str]) -> Iterator[str]:
    """The source with one token misprinted."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        start, end = token.start[1], token.end[1]
        others: tuple[str, ...] = ()
        if token.type == tokenize.OP:
            others = _MISPRINTS.get(token.string, ())
        elif token.type == tokenize.NUMBER:
            others = tuple(_digits(token.string))
        elif token.type == tokenize.NAME and token.string in letters:
            at = letters.index(token.string)
            others = (letters[at - 1],) if len(letters) > 1 else ()
        for other in others:
            yield source[:start] + other + source[end:]


def _of_formula(hole: ClaimFormula) -> Iterator[tuple[str, ClaimFormula]]:
    letters = sorted(name for name in hole.names() if f"{name}[" not in hole.source and f"{name}(" not in
                     hole.source and name not in ("i", "j", "k", "INF"))  # fmt: skip
    for source in _tokens(hole.source, letters):
        changed = replace(hole, source=source)
        try:
            differs = changes_the_value(hole, changed)
        except StatementError:
            continue
        if differs:
            yield f"{hole.source} -> {source}", changed


def _of_hole(hole: Hole) -> Iterator[tuple[str, Hole]]:
    if isinstance(hole, Term):
        for text in _digits(show(hole.value)):
            if not text.endswith("/0"):
                yield f"{show(hole.value)} -> {text}", replace(hole, value=Fraction(text))
    elif isinstance(hole, ClaimFormula):
        yield from _of_formula(hole)


def misprints(claim: Claim) -> Iterator[Misprint]:
    """Every misprint of a claim's sentence that no tree error has made already.

    Args:
        claim: the claim; its established statement is misprinted.

    Yields:
        The misprints of its numbers, formulas and words, then the sentence without each hypothesis.
    """
    statement = claim.established
    seen = {mutant.statement.text() for mutant in mutants(statement)} | {statement.text()}
    for hole in statement.terms:
        for name, new in _of_hole(hole):
            misprinted = statement.with_hole(new)
            if misprinted.text() not in seen:
                seen.add(misprinted.text())
                yield Misprint(f"{hole.name}: {name}", misprinted)
    for hypothesis in (*claim.assumptions, *claim.added):
        yield Misprint(f"without {hypothesis.key!r}", statement, hypothesis.key)
