"""What every form of the report says alike: counts, groups, and how a figure is written."""

import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from refblo.audit.run import Audit, AuditOutcome, AuditRow, AuditSettings

SYMBOLS = {AuditOutcome.HOLDS: "✓", AuditOutcome.FAILS: "✗", AuditOutcome.ERROR: "!"}
"""A verdict is never told by its colour alone."""


@final
@dataclass(frozen=True)
class Group:
    """The rows of one contract.

    Attributes:
        contract: the contract's name.
        estimator: the estimator's name.
        relation: the relation's name.
        claim: the claim in a sentence.
        rows: in the order in which they were run.
    """

    contract: str
    estimator: str
    relation: str
    claim: str
    rows: tuple[AuditRow, ...]

    @property
    def outcome(self) -> AuditOutcome:
        """The worst of its rows' outcomes."""
        return worst(row.outcome for row in self.rows)


def groups(rows: Iterable[AuditRow]) -> tuple[Group, ...]:
    """The rows by contract; contracts of one estimator stand together, in order of appearance."""
    estimators: dict[str, dict[str, list[AuditRow]]] = {}
    for row in rows:
        estimators.setdefault(row.estimator, {}).setdefault(row.contract, []).append(row)
    return tuple(
        Group(name, estimator, found[0].relation, found[0].claim, tuple(found))
        for estimator, by_contract in estimators.items()
        for name, found in by_contract.items()
    )


def worst(outcomes: Iterable[AuditOutcome]) -> AuditOutcome:
    """An error before a failure before a success."""
    seen = set(outcomes)
    for outcome in (AuditOutcome.ERROR, AuditOutcome.FAILS):
        if outcome in seen:
            return outcome
    return AuditOutcome.HOLDS


def counts(rows: Iterable[AuditRow]) -> dict[AuditOutcome, int]:
    """How many rows came out how."""
    found = dict.fromkeys(AuditOutcome, 0)
    for row in rows:
        found[row.outcome] += 1
    return found


def cases(rows: Iterable[AuditRow]) -> tuple[str, ...]:
    """The cases' names, in order of appearance."""
    return tuple(dict.fromkeys(row.case for row in rows))


def troubled(rows: Iterable[AuditRow]) -> tuple[AuditRow, ...]:
    """The rows that do not hold."""
    return tuple(row for row in rows if row.outcome is not AuditOutcome.HOLDS)


def headline(audit: Audit) -> str:
    """The result in one sentence."""
    found = counts(audit.rows)
    parts = []
    if not audit.complete:
        parts.append(f"unfinished: {len(audit.rows)} of {audit.planned} rows")
    if audit.passed:
        parts.append("every contract holds")
    if found[AuditOutcome.FAILS]:
        parts.append(f"{_number(found[AuditOutcome.FAILS], 'row')} failed")
    if found[AuditOutcome.ERROR]:
        parts.append(f"{_number(found[AuditOutcome.ERROR], 'row')} could not be checked")
    text = "; ".join(parts) or "no row was run"
    return text[0].upper() + text[1:]


def tally(audit: Audit) -> str:
    """The figures behind the headline."""
    held = counts(audit.rows)[AuditOutcome.HOLDS]
    seconds = sum(row.seconds for row in audit.rows)
    return (
        f"{held} of {_number(len(audit.rows), 'row')} hold: "
        f"{_number(len(groups(audit.rows)), 'contract')} on {_number(len(cases(audit.rows)), 'case')}, "
        f"{duration(seconds)} of work"
    )


def _number(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def command(settings: AuditSettings) -> str:
    """What to type to have the same audit again."""
    words = ["refblo", "audit", "--full" if settings.full else "--quick"]
    for pattern in settings.only:
        words += ["--only", pattern]
    words += ["--seed", str(settings.seed), "--device", settings.device]
    words += ["--dtype", str(settings.dtype).removeprefix("torch.")]
    return shlex.join(words)


def duration(seconds: float) -> str:
    """A time a person can read."""
    if seconds < 0.01:
        return f"{1000 * seconds:.1f} ms"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02d}s"


def used(margin: float) -> str:
    """How much of what was allowed was used."""
    if math.isnan(margin):
        return "–"
    if math.isinf(margin):
        return "∞"
    if margin < 0.001:
        return "< 0.1 %"
    if margin < 10:
        return f"{100 * margin:.3g} %"
    return f"{margin:.0f} ×" if margin < 1e5 else f"{margin:.0e} ×"


def figure(value: float) -> str:
    """A number to three digits."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.3g}"
