"""Executes the evidence of each claim and derives its verdict: one `LedgerRow` for a claim (`settle`).

The verdict on record (`Claim.verdict`) is never copied: it must equal the one that follows from the evidence.

1. Every check of the established statement (the corrected one, or else the printed one) must hold.
2. The roles of the checks give the verdict (`_from_roles`).
3. If the claim has a correction, the printed statement must fail a check. Each condition must be needed:
   without it a check must fail. Each condition that is recorded as unneeded must not be needed (`_derive`).
4. For each number of the statement, statements with an error in that number are planted. The strength of the
   claim is that of the weakest number: of the strongest check that fails for the error (`_strength`).

An exception in the evidence is a failure of that row, not of the run. Evidence is a generator and is executed
only as far as it is needed. A *placeholder* (in the code: hole) is the place of a number in the sentence of a
statement; a *mutant* is a statement with one planted error.

tests/proofs_check/test_ledger.py holds these rules, with claims that break each of them.
"""

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import final

from sympy.matrices.exceptions import ShapeError
from sympy.polys.polyerrors import BasePolynomialError

from proofs_check.claim import Assumption, Claim, ClaimContext, ClaimVerdict
from proofs_check.evidence import Check, EvidenceMethod, Role
from proofs_check.statement import ClaimStatement, Mutant, StatementKind, mutants
from proofs_check.strength import Strength, hand_steps, strength_of


@final
@dataclass(frozen=True)
class LedgerRow:
    """One claim of the ledger with its executed evidence and its verdict.

    Attributes:
        key: the key of the claim, such as "eq-49".
        source: the name of the paper that makes the claim.
        title: what the claim is about.
        printed: the statement as the paper prints it.
        corrected: the statement that holds instead; empty if the printed one holds.
        expected: the verdict on record.
        derived: the verdict that follows from the executed evidence; None if none follows.
        failure: why there is no verdict, or why it is not the one on record; empty if it is.
        checks: the executed checks of the established statement.
        grades: the strength of each of these checks.
        counterexamples: the executed checks that fail for the printed statement, or for the statement without
            one of its conditions.
        assumptions: the conditions that the paper states.
        added: the conditions that the statement needs and the paper does not state.
        unneeded: the conditions that the paper states and the statement does not need.
        missing: what would be needed to check the claim and is not available; empty if nothing.
        by_hand: the step of the proof that is argued by hand; empty if there is none.
        remark: what a reader should also know.
        scope: the objects that the statement is about, in words.
        on: the instances on which the evidence was executed, if it is not general.
        strength: how strong the evidence is; None if there is no verdict.
        weakest: the number of the statement with the weakest evidence; empty if it has no numbers.
        steps: all steps that are made by hand, in the proof and in the checks.
        repeats: the key of the claim that this one repeats; empty if it repeats none.
        seconds: wall time of executing the evidence.
    """

    key: str
    source: str
    title: str
    printed: str
    corrected: str
    expected: ClaimVerdict
    derived: ClaimVerdict | None
    failure: str
    checks: tuple[Check, ...]
    grades: tuple[Strength, ...]
    counterexamples: tuple[Check, ...]
    assumptions: tuple[Assumption, ...]
    added: tuple[Assumption, ...]
    unneeded: tuple[Assumption, ...]
    missing: str
    by_hand: str
    remark: str
    scope: str
    on: str
    strength: Strength | None
    weakest: str
    steps: tuple[str, ...]
    repeats: str
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether the executed evidence supports the verdict on record."""
        return not self.failure

    @property
    def word(self) -> str:
        """The verdict as it is printed: *proved* only where the strength allows it."""
        if not self.holds or self.derived is None or self.strength is None:
            return f"NO VERDICT: {self.failure}"
        return word(self.derived, self.strength, self.on)

    @property
    def command(self) -> str:
        """The command that executes the evidence of this claim."""
        return f"python -m proofs_check --only {self.key}"


_HOLDING = (ClaimVerdict.HOLDS, ClaimVerdict.CONDITIONAL)


def word(verdict: ClaimVerdict, strength: Strength, on: str) -> str:
    """A verdict in words.

    Args:
        verdict: what the evidence makes of the claim.
        strength: how strong the evidence is.
        on: the instances on which it was executed.

    Returns:
        *proved* for a statement that holds and whose evidence is general; *checked on* the instances
        for one that holds and whose evidence is not; the verdict's own name for any other.
    """
    if verdict not in _HOLDING:
        return verdict.value
    if strength is Strength.DEFINITION:
        return "definition"
    if strength.proves:
        said = "proved"
    elif strength is Strength.PRINTED:
        said = "agrees with the printed figures"
    else:
        said = f"checked on {on}"
    return said if verdict is ClaimVerdict.HOLDS else f"{said}, under an added condition"


def first_rejection(claim: Claim, statement: ClaimStatement, context: ClaimContext) -> Check | None:
    """The first check that a statement fails, or None if it passes all.

    Args:
        claim: whose evidence is executed.
        statement: the statement to judge: printed, corrected or with a planted error.
        context: the effort, and the conditions that are switched off.

    Returns:
        The failing check. Evidence is a generator, so nothing after it is executed.
    """
    try:
        for check in claim.evidence(statement, context):
            disagrees = check.agrees is False and claim.verdict is ClaimVerdict.REPRODUCED
            if not check.holds or disagrees:
                return check
    except ILL_FORMED as error:
        return _ill_formed(error)
    return None


ILL_FORMED = (
    TypeError,
    ValueError,
    IndexError,
    KeyError,
    ArithmeticError,
    NotImplementedError,
    AttributeError,
    ShapeError,
    BasePolynomialError,
)
"""Errors of a statement that cannot be evaluated, such as a product of matrices of the wrong shapes."""


def _ill_formed(error: Exception) -> Check:
    shown = f"{type(error).__name__}: {error}"[:120]
    return Check("the statement can be evaluated", False, EvidenceMethod.EXACT, shown, "a value")


def _from_roles(claim: Claim, checks: tuple[Check, ...]) -> ClaimVerdict | None:
    roles = {check.role for check in checks}
    figures = [check for check in checks if check.role is Role.FIGURE]
    if claim.missing:
        return claim.verdict if claim.verdict in _UNAVAILABLE else None
    if Role.JUDGED in roles:
        return _judged(checks)
    if Role.VACUITY in roles:
        return ClaimVerdict.VACUOUS
    if Role.COUNTEREXAMPLE in roles:
        return ClaimVerdict.TYPOGRAPHICAL if claim.slip else ClaimVerdict.REFUTED
    return _of_figures(figures) if figures else ClaimVerdict.HOLDS


def _of_figures(figures: list[Check]) -> ClaimVerdict:
    """What the paper's figures make of a claim, beside ours."""
    if not all(check.agrees for check in figures):
        return ClaimVerdict.NOT_REPRODUCED
    powerless = any(check.power is not None and check.power < MIN_POWER for check in figures)
    return ClaimVerdict.COMPATIBLE if powerless else ClaimVerdict.REPRODUCED


def _judged(checks: tuple[Check, ...]) -> ClaimVerdict | None:
    """What the paired tests said, where they all said the same."""
    words = {check.left.partition(" ")[0] for check in checks if check.role is Role.JUDGED}
    known = {
        "confirmed": ClaimVerdict.CONFIRMED_SMALL,
        "refuted": ClaimVerdict.REFUTED_SMALL,
        "undecided": ClaimVerdict.UNDECIDED_SMALL,
    }
    return known.get(words.pop()) if len(words) == 1 else None


MIN_POWER = 0.9
"""The least power of a reproduced figure: at most a tenth of all possible values would have agreed too."""

_UNAVAILABLE = (ClaimVerdict.NEEDS_DATA, ClaimVerdict.IMAGE_ONLY, ClaimVerdict.CANNOT_RUN)


def _derive(
    claim: Claim, checks: tuple[Check, ...], context: ClaimContext
) -> tuple[ClaimVerdict | None, tuple[Check, ...], str]:
    broken = [check.name for check in checks if not check.holds]
    if broken:
        return None, (), f"the evidence does not hold: {broken[0]}"
    if not checks:
        return None, (), "no evidence was executed"
    found: list[Check] = [c for c in checks if c.role is Role.COUNTEREXAMPLE]
    verdict = _from_roles(claim, checks)
    if claim.corrected is not None:
        rejection = first_rejection(claim, claim.printed, context)
        if rejection is None:
            return None, (), "the evidence does not tell the printed statement from the corrected"
        found.append(rejection)
        if verdict is ClaimVerdict.HOLDS:
            verdict = ClaimVerdict.TYPOGRAPHICAL if claim.slip else ClaimVerdict.REFUTED
    for condition in (*claim.added, *claim.assumptions):
        without = ClaimContext(context.effort, context.off | {condition.key})
        rejection = first_rejection(claim, claim.established, without)
        if rejection is None:
            return None, (), f"the evidence holds without the condition {condition.key!r}"
        found.append(rejection)
        if verdict is ClaimVerdict.HOLDS and condition in claim.added:
            verdict = ClaimVerdict.CONDITIONAL
    for condition in claim.unneeded:
        without = ClaimContext(context.effort, context.off | {condition.key})
        rejection = first_rejection(claim, claim.established, without)
        if rejection is not None:
            return None, (), f"the evidence needs the condition {condition.key!r}: {rejection.name}"
    return verdict, tuple(found), ""


def notice(
    claim: Claim, mutant: Mutant, context: ClaimContext, best: Strength
) -> tuple[Strength, Check | None]:
    """The strongest check that fails for a statement with a planted error.

    Args:
        claim: the claim.
        mutant: its statement with the error.
        context: the effort, and the conditions that are switched off.
        best: the strength of the claim's strongest check; the search ends there.

    Returns:
        The strength and the check; `DEFINITION` and None if every check holds for the mutant.
    """
    found, noticed = Strength.DEFINITION, None
    try:
        for check in claim.evidence(mutant.statement, context):
            if check.holds and check.agrees is not False:
                continue
            own = strength_of(check, claim.scope)
            if noticed is None or own > found:
                found, noticed = own, check
            if own >= best:
                break
    except ILL_FORMED as error:
        if noticed is None:
            # Shapes that do not fit are an error at every size, so this evidence is general.
            own = best if isinstance(error, ShapeError) else min(best, Strength.CERTIFIED)
            return own, _ill_formed(error)
    return found, noticed


def _one_of_each(claim: Claim) -> Iterator[Mutant]:
    """One planted error for each placeholder and each kind of number in it."""
    seen: set[tuple[str, StatementKind]] = set()
    for mutant in mutants(claim.established):
        if (mutant.term.name, mutant.kind) not in seen:
            seen.add((mutant.term.name, mutant.kind))
            yield mutant


def _strength(
    claim: Claim, checks: tuple[Check, ...], context: ClaimContext
) -> tuple[Strength, str, tuple[str, ...]]:
    """The strength of a claim, its number with the weakest evidence, and the steps made by hand."""
    graded = [strength_of(check, claim.scope) for check in checks]
    best = max(graded)
    weakest = (best, "")
    used: list[Check] = []
    for mutant in _one_of_each(claim):
        found, noticed = notice(claim, mutant, context, best)
        used += [noticed] if noticed else []
        if found < weakest[0]:
            weakest = (found, mutant.term.name)
    if not claim.established.terms:
        weakest, used = (min(graded), ""), list(checks)
    # A general check that notices no error of its own is a step of the proof all the same.
    general = [check for check, grade in zip(checks, graded, strict=True) if grade.proves]
    steps = hand_steps((*used, *general))
    if claim.by_hand:
        steps = (claim.by_hand, *steps)
    if steps and weakest[0] is Strength.GENERAL:
        weakest = (Strength.GENERAL_BY_HAND, weakest[1])
    return *weakest, steps


def settle(claim: Claim, context: ClaimContext) -> LedgerRow:
    """Execute a claim's evidence and derive its verdict.

    Args:
        claim: the claim.
        context: how much evidence to execute, and which conditions are switched off.

    Returns:
        Its row of the ledger. Evidence that raises is a failure of that row, not of the run.
    """
    start = time.perf_counter()
    checks: tuple[Check, ...] = ()
    counterexamples: tuple[Check, ...] = ()
    derived: ClaimVerdict | None = None
    strength: Strength | None = None
    weakest = ""
    steps: tuple[str, ...] = (claim.by_hand,) if claim.by_hand else ()
    try:
        checks = tuple(claim.evidence(claim.established, context))
        derived, counterexamples, failure = _derive(claim, checks, context)
        if not failure:
            strength, weakest, steps = _strength(claim, checks, context)
            if not strength.proves and not claim.on:
                failure = "the evidence is an instance; say on which: add on=... to the claim"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        failure = f"the evidence raised {error!r} at {where.name}, line {where.lineno}"
    if not failure and derived is not claim.verdict:
        shown = derived.value if derived else "none"
        failure = f"the evidence derives {shown!r}, the record says {claim.verdict.value!r}"
    return LedgerRow(
        key=claim.key,
        source=claim.source.value,
        title=claim.title,
        printed=claim.printed.text(),
        corrected=claim.corrected.text() if claim.corrected else "",
        expected=claim.verdict,
        derived=derived,
        failure=failure,
        checks=checks,
        grades=tuple(strength_of(check, claim.scope) for check in checks),
        counterexamples=counterexamples,
        assumptions=claim.assumptions,
        added=claim.added,
        unneeded=claim.unneeded,
        missing=claim.missing,
        by_hand=claim.by_hand,
        remark=claim.remark,
        scope=claim.scope.text(),
        on=claim.on,
        strength=strength,
        weakest=weakest,
        steps=steps,
        repeats=claim.repeats,
        seconds=time.perf_counter() - start,
    )


def _settle_by_key(job: tuple[str, ClaimContext]) -> Iterator[LedgerRow]:
    from proofs_check.claims import find

    key, context = job
    yield settle(find(key), context)


def run(
    claims: Iterable[Claim],
    context: ClaimContext,
    jobs: int = 1,
    report: Callable[[LedgerRow], None] = lambda _row: None,
) -> tuple[LedgerRow, ...]:
    """Settle claims, in several processes if asked.

    Args:
        claims: the claims, in the order wanted in the ledger.
        context: the effort, and the conditions that are switched off.
        jobs: the number of processes.
        report: called with each row as it is done, for progress.

    Returns:
        The rows, in the order of the claims.
    """
    wanted = list(claims)
    done: dict[str, LedgerRow] = {}
    for row in _rows(wanted, context, jobs):
        done[row.key] = row
        report(row)
    return tuple(done[claim.key] for claim in wanted)


def _rows(claims: list[Claim], context: ClaimContext, jobs: int) -> Iterator[LedgerRow]:
    if jobs <= 1 or len(claims) <= 1:
        for claim in claims:
            yield settle(claim, context)
        return
    # Imported here: a run in one process does not need torch.
    from refblo.parallel import stream

    yield from stream(_settle_by_key, [(claim.key, context) for claim in claims], jobs)
