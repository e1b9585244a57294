"""A claim: its number, its statement, its conditions, its evidence, the verdict on record."""

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import final

from proofs_check.evidence import Check
from proofs_check.scope import Scope
from proofs_check.statement import ClaimStatement


class ClaimVerdict(enum.Enum):
    """What the evidence makes of a claim; how strong the evidence is, is another axis.

    The word *proved* is none of these: it needs a verdict and a strength, see `ledger.word`.
    """

    HOLDS = "holds"
    CONDITIONAL = "holds under an added condition"
    REFUTED = "refuted"
    VACUOUS = "vacuous"
    TYPOGRAPHICAL = "typographical"
    REPRODUCED = "reproduced"
    COMPATIBLE = "compatible with what is published"
    NOT_REPRODUCED = "not reproduced"
    NEEDS_DATA = "needs data or weights"
    IMAGE_ONLY = "published as an image only"
    CANNOT_RUN = "cannot run here"
    CONFIRMED_SMALL = "confirmed at small scale"
    REFUTED_SMALL = "refuted at small scale"
    UNDECIDED_SMALL = "undecided at small scale"


class ClaimSource(enum.Enum):
    """Where a claim is made."""

    KIM = "Kim and Hospedales"
    FRANCESCHI = "Franceschi et al. (2018)"
    FIELD = "established result the others rest on"
    OWN = "finding of this ledger"


class Effort(enum.IntEnum):
    """How much evidence to execute."""

    QUICK = 0
    FULL = 1


@final
@dataclass(frozen=True)
class Assumption:
    """A condition that can be switched off, to see that the evidence then fails.

    Attributes:
        key: the assumption's name on the command line.
        text: what it says.
    """

    key: str
    text: str


@final
@dataclass(frozen=True)
class ClaimContext:
    """Under what evidence is executed.

    Attributes:
        effort: quick or full.
        off: the keys of the assumptions that are switched off.
    """

    effort: Effort = Effort.QUICK
    off: frozenset[str] = field(default_factory=frozenset)

    def has(self, assumption: Assumption) -> bool:
        """Whether the assumption is on."""
        return assumption.key not in self.off

    @property
    def full(self) -> bool:
        """Whether the long measurements are wanted."""
        return self.effort is Effort.FULL


UNSTATED = Scope()
Evidence = Callable[[ClaimStatement, ClaimContext], Iterator[Check]]


@final
@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    Attributes:
        key: the claim's name on the command line, such as ``eq-22``.
        source: where the claim is made.
        title: what it is about, in a few words.
        printed: what is printed, in our own words.
        evidence: yields executed checks of a statement, cheapest first.
        verdict: the verdict on record; the run fails if the evidence derives another.
        corrected: the statement that holds, where the printed one does not.
        slip: True where the printed error is a misprint on which nothing later depends.
        assumptions: the conditions the paper states; without each of them the evidence must fail.
        added: conditions the paper does not state and the evidence needs.
        unneeded: stated conditions without which the statement is seen to hold.
        missing: what is not here: data, weights, a GPU; with the verdict that follows from it.
        by_hand: the step of the argument that no machine carried, if any.
        remark: what a reader should know besides.
        scope: what the statement is for; a claim without one is refused.
        on: the instances on which the checks that are not general were executed.
        repeats: the key of the claim that this one states again; it is then counted once.
    """

    key: str
    source: ClaimSource
    title: str
    printed: ClaimStatement
    evidence: Evidence
    verdict: ClaimVerdict
    corrected: ClaimStatement | None = None
    slip: bool = False
    assumptions: tuple[Assumption, ...] = ()
    added: tuple[Assumption, ...] = ()
    unneeded: tuple[Assumption, ...] = ()
    missing: str = ""
    by_hand: str = ""
    remark: str = ""
    scope: Scope = UNSTATED
    on: str = ""
    repeats: str = ""

    @property
    def established(self) -> ClaimStatement:
        """The statement that the evidence is to support."""
        return self.corrected or self.printed
