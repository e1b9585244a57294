"""The errors planted in the claims: which are rejected, and the reason of each that is not."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

from proofs_check.claim import Claim, ClaimContext
from proofs_check.ledger import first_rejection
from proofs_check.sentences import Misprint
from proofs_check.statement import Mutant, Term

SPREAD = (
    "the printed number comes from one run with noise: the error is smaller than the spread of the seeds, "
    "and cannot be told from the printed value"
)


@final
@dataclass(frozen=True)
class AllowedSurvivors:
    """Small errors in one number that survive.

    Attributes:
        claim: the claim.
        number: the number.
        within: how far the changed number may be from the printed one.
        reason: why nothing can reject it.
    """

    claim: str
    number: str
    within: float
    reason: str


ALLOWED = (
    AllowedSurvivors("tab-3", "iftcg_lam", 0.011, SPREAD),
    AllowedSurvivors("tab-3", "rmd_lam", 0.0011, SPREAD),
    AllowedSurvivors("tab-3", "rmdfo_lam", 0.0011, SPREAD),
    AllowedSurvivors("tab-3", "fmd_lam", 0.0011, SPREAD),
)


def reason_for(claim: str, number: str, distance: float) -> str:
    """Why an error survives; empty where it must not.

    Args:
        claim: the claim.
        number: the number that was changed.
        distance: how far it is from the printed one.

    Returns:
        The reason.
    """
    for allowed in ALLOWED:
        if (allowed.claim, allowed.number) == (claim, number) and distance <= allowed.within:
            return allowed.reason
    return ""


@final
@dataclass(frozen=True)
class PlantedError:
    """One planted error, and what became of it.

    Attributes:
        kind: coefficient, sign, index, exponent, structure, name, word, misprint or hypothesis.
        name: what was changed into what.
        rejected: whether a check of the claim's evidence rejected it.
        reason: why it cannot be rejected; empty where it can.
    """

    kind: str
    name: str
    rejected: bool
    reason: str


def planted_in(claim: Claim, errors: Iterable[Mutant | Misprint]) -> Iterator[PlantedError]:
    """Execute a claim's evidence on statements with planted errors.

    Args:
        claim: the claim.
        errors: the errors; one that a definition alone would notice counts as not rejected.

    Yields:
        One result an error.
    """
    for error in errors:
        if isinstance(error, Mutant):
            kind, name, off = error.kind.value, error.name(), frozenset[str]()
        else:
            kind = "hypothesis" if error.dropped else "misprint"
            name, off = error.name, frozenset({error.dropped} - {""})
        rejected = first_rejection(claim, error.statement, ClaimContext(off=off)) is not None
        yield PlantedError(kind, name, rejected, "" if rejected else _reason(claim, error))


def _reason(claim: Claim, error: Mutant | Misprint) -> str:
    for term in claim.established.terms:
        changed = error.statement.hole(term.name)
        if isinstance(term, Term) and isinstance(changed, Term) and changed != term:
            return reason_for(claim.key, term.name, abs(float(changed.value - term.value)))
    return ""
