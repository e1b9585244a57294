"""The errors planted in the claims: which are rejected, and the reason of each that is not."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

from proofs_check.claim import Claim, ClaimContext
from proofs_check.claims import find
from proofs_check.evidence import Role
from proofs_check.ledger import first_rejection
from proofs_check.sentences import Misprint, misprints
from proofs_check.statement import Mutant, Term, mutants

SPREAD = (
    "the printed number comes from one run with noise: the error is smaller than the spread of the seeds, "
    "and cannot be told from the printed value"
)


DEFINED = "the statement says what a symbol means, and nothing can contradict it"


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
        check = first_rejection(claim, error.statement, ClaimContext(off=off))
        if check is not None and check.role is Role.DEFINITION:
            yield PlantedError(kind, name, rejected=False, reason=DEFINED)
        else:
            reason = "" if check is not None else _reason(claim, error)
            yield PlantedError(kind, name, check is not None, reason)


@final
@dataclass(frozen=True)
class PlantedCount:
    """The planted errors of several claims.

    Attributes:
        kinds: how many of each kind.
        survivors: the claims' keys with the errors that no evidence rejected.
    """

    kinds: Counter[str]
    survivors: tuple[tuple[str, PlantedError], ...]


def _planted_by_key(job: tuple[str, int]) -> Iterator[tuple[str, tuple[PlantedError, ...]]]:
    key, every = job
    claim = find(key)
    errors: list[Mutant | Misprint] = [*mutants(claim.established), *misprints(claim)]
    yield key, tuple(planted_in(claim, errors[::every]))


def count_planted(claims: Iterable[Claim], jobs: int, every: int = 1) -> PlantedCount:
    """Plant errors in every claim, each claim that is stated again but once.

    Args:
        claims: the claims.
        jobs: the number of processes.
        every: plant the first error of each claim, and then each `every`-th: always the same ones.

    Returns:
        The counts, and what survived.
    """
    # Imported here: refblo takes a second to import.
    from refblo.parallel import stream

    keys = [claim.key for claim in claims if not claim.repeats]
    kinds: Counter[str] = Counter()
    survivors: list[tuple[str, PlantedError]] = []
    for key, found in stream(_planted_by_key, [(key, every) for key in keys], jobs):
        kinds.update(error.kind for error in found)
        survivors += [(key, error) for error in found if not error.rejected]
    return PlantedCount(kinds, tuple(sorted(survivors, key=lambda item: (item[0], item[1].name))))


def to_page(count: PlantedCount) -> str:
    """The page of the docs about the planted errors.

    Args:
        count: what was planted, and what survived.

    Returns:
        A Markdown page.
    """
    kept = Counter(error.kind for _, error in count.survivors)
    lines = [
        "# Errors planted in the claims",
        "",
        "Generated by `python -m proofs_check --planted`; not written by hand. Every hole of every",
        "sentence of the ledger is changed, one error at a time, and the claim's evidence must reject it.",
        "The errors of the first kinds change a formula's tree: a coefficient, a sign, an index, an",
        "exponent, the structure (the order of a product, a factor or a summand left out), a name, a",
        "decisive word. A misprint changes one character or one token of the sentence. A hypothesis is",
        "left out whole.",
        "",
        "| kind | planted | rejected | survive |",
        "|---|---|---|---|",
    ]
    for kind, planted in sorted(count.kinds.items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"| {kind} | {planted} | {planted - kept[kind]} | {kept[kind]} |")
    total, left = sum(count.kinds.values()), len(count.survivors)
    lines += [f"| all | {total} | {total - left} | {left} |", ""]
    if count.survivors:
        lines += ["| claim | error that survives | why |", "|---|---|---|"]
        lines += [
            f"| {key} | {error.name} | {error.reason or 'NO REASON'} |"
            for key, error in count.survivors
        ]
    return "\n".join(lines).rstrip() + "\n"


def _reason(claim: Claim, error: Mutant | Misprint) -> str:
    for term in claim.established.terms:
        changed = error.statement.hole(term.name)
        if isinstance(term, Term) and isinstance(changed, Term) and changed != term:
            return reason_for(claim.key, term.name, abs(float(changed.value - term.value)))
    return ""
