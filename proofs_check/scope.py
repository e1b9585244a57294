"""What a statement is about: for every n, p, m, T, f, or for one of them alone.

The scope of a claim says what its sentence is stated for; the covers of a check say for which of these
its evidence was executed in general, and how. The strength of a row follows from the two, in
`strength.py`.
"""

from dataclasses import dataclass, fields
from typing import final

import sympy as sp

from proofs_check.errors import ScopeError


@final
@dataclass(frozen=True)
class Every:
    """The statement is for every one of these.

    Attributes:
        what: what is assumed of them, such as ``C²``; empty where nothing is.
    """

    what: str = ""

    def text(self, name: str) -> str:
        """The extent in words, such as ``every f (C²)``."""
        return f"every {name} ({self.what})" if self.what else f"every {name}"


@final
@dataclass(frozen=True)
class Only:
    """The statement is for this one alone.

    Attributes:
        what: which one.
    """

    what: str

    def text(self, name: str) -> str:
        """The extent in words, such as ``n = 1``."""
        return f"{name} = {self.what}"


Extent = Every | Only
ALL = Every()
ONE = Only("1")

WORDS = {"f": "outer loss", "inner": "inner loss"}


@final
@dataclass(frozen=True)
class Scope:
    """What a claim is stated for. A size that the statement does not contain is left out.

    Attributes:
        n: inner parameters.
        p: hyperparameters.
        m: inner steps, or terms of a series.
        T: inner steps of an unrolled program.
        M: samples or directions that are averaged.
        f: the outer loss.
        inner: the inner loss, or the inner iteration.
        about: the one object that the statement is about, such as ``Synth-1D``.
    """

    n: Extent | None = None
    p: Extent | None = None
    m: Extent | None = None
    T: Extent | None = None
    M: Extent | None = None
    f: Extent | None = None
    inner: Extent | None = None
    about: str = ""

    def every(self) -> tuple[str, ...]:
        """The names of what the statement is for in general."""
        return tuple(name for name, extent in self.extents() if isinstance(extent, Every))

    def extents(self) -> tuple[tuple[str, Extent], ...]:
        """What the statement contains, by name."""
        named = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "about"]
        return tuple((name, extent) for name, extent in named if extent is not None)

    @property
    def stated(self) -> bool:
        """Whether anything is said."""
        return bool(self.about or self.extents())

    def text(self) -> str:
        """The scope in words."""
        parts = [extent.text(WORDS.get(name, name)) for name, extent in self.extents()]
        return "; ".join([*([self.about] if self.about else []), *parts])


@final
@dataclass(frozen=True)
class Cover:
    """How a check is general in one thing of its claim's scope.

    Attributes:
        how: the means, in words.
        step: the step that was argued by hand; empty where a machine carried it.
    """

    how: str
    step: str = ""

    def text(self, name: str) -> str:
        """The cover in words."""
        return f"{WORDS.get(name, name)}: {self.step or self.how}"


SYMBOL = Cover("a symbol of the expression stands for it")
OPERATORS = Cover("symbols that do not commute stand for matrices of every size")
FUNCTIONS = Cover("an unspecified function stands for it")
JETS = Cover("each of its derivatives at a point is a symbol of its own")
SYMBOL_OF_STEP = Cover("a symbol stands for the number of steps")
INDUCTION = Cover("induction: its base and its step were both executed")
COMPONENT = Cover("one component at a time, the others held inside an unspecified function")
ONE_MATRIX = Cover("a rational function of one matrix, whose powers commute")
IN_SYMBOLS = Cover("one component, each of its letters a symbol")
NORM = Cover("only a norm or a scalar enters")
SYMBOL_OF_H = Cover("a symbol stands for any eigenvalue of the Hessian")


def by_hand(step: str) -> Cover:
    """A general case that follows from what was executed by a named step.

    Args:
        step: the step, such as ``the spectral theorem``.

    Returns:
        The cover.
    """
    if not step:
        raise ScopeError("step must name the argument made by hand, got ''; say what it is")
    return Cover("a named step", step)


Covers = dict[str, Cover]


def verify(name: str, cover: Cover, sides: tuple[sp.Expr, ...]) -> None:
    """Refuse a cover that the two sides of an identity contradict.

    Args:
        name: what is covered, such as ``m``.
        cover: how.
        sides: the expressions that were compared.

    Raises:
        ScopeError: the expressions have no such symbol, operator or function.
    """
    symbols = {s for side in sides for s in getattr(side, "free_symbols", set())}
    # An indexed symbol is named A_[m - 1].
    if cover is SYMBOL and not any(s.name == name or f"[{name}" in s.name for s in symbols):
        raise ScopeError(
            f"{name} must be a symbol of the identity, got {sorted(map(str, symbols))}"
        )
    if cover is OPERATORS and all(s.is_commutative for s in symbols):
        raise ScopeError(f"{name} must be covered by symbols that do not commute, got none")
    applied = sp.core.function.AppliedUndef
    if cover in (FUNCTIONS, COMPONENT) and not any(
        s.atoms(applied) for s in sides if hasattr(s, "atoms")
    ):
        raise ScopeError(f"{name} must be covered by an unspecified function, got none")
