"""The suite over a target: rows as they are finished."""

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from importlib import metadata
from typing import final

import numpy as np

from refblo.conformance.catalogue import Entry, entries
from refblo.conformance.catalogue.stochastic import mean_truth, stochastic_entries
from refblo.conformance.suite.expected import compare
from refblo.conformance.suite.judge import (
    Plan,
    deterministic_row,
    noticed_in,
    stochastic_row,
)
from refblo.conformance.suite.process import Answer, Limits, Process
from refblo.conformance.suite.rows import Finding, Kind, Outcome, Result, Row
from refblo.conformance.suite.target import Declared
from refblo.conformance.suite.view import SHORT
from refblo.errors import ArgumentError
from refblo.types import Estimand

_PATIENCE = 3
"""Calls in a row without an answer after which the rest is not waited for."""


@final
@dataclass(frozen=True)
class Settings:
    """What to run.

    Attributes:
        target: package.module:function or file.py:function.
        framework: "torch", "jax" or "numpy".
        estimand: only this one, by its short name, or None for all that the target declares.
        full: the thorough profile.
        seed: of further λ and of stochastic targets.
        limits: what the target may use.
        expected: names of rows that are expected to fail, with reasons.
        entries: names of the entries to run; all of them when empty.
    """

    target: str
    framework: str = "torch"
    estimand: str | None = None
    full: bool = False
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    expected: tuple[tuple[str, str], ...] = ()
    entries: tuple[str, ...] = ()


Watch = Callable[[Row, int], None]
"""Called with each finished row and the number of rows there are to be."""


def run(settings: Settings, watch: Watch | None = None) -> Result:
    """Run the suite; nothing that the target does is raised.

    Args:
        settings: what to run.
        watch: sees each row as it is finished.

    Raises:
        ArgumentError: if an entry is asked for that the catalogue does not have.
    """
    _check_names(settings.entries)
    started = time.monotonic()
    with Process(settings.target, settings.framework, settings.limits) as process:
        begun = process.start()
        if isinstance(begun, Answer):
            return _result(settings, None, (), (_import_finding(begun),), started)
        overall = []
        if process.printed_on_import:
            text = f"while it is imported: {process.printed_on_import[:60]!r}"
            overall.append(Finding(Kind.PRINTS, text))
        planned = _planned(settings, begun)
        rows = []
        for row in _rows(settings, begun, planned, process):
            rows.append(row)
            if watch is not None:
                watch(row, len(planned))
        overall += _kept_over_the_run(settings, begun, planned, rows, process)
    return _result(settings, begun, tuple(rows), tuple(overall), started)


def _check_names(names: tuple[str, ...]) -> None:
    known = [entry.name for entry in entries()]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            remedy = f"did you mean {near[0]!r}?" if near else f"choose among {', '.join(known)}"
            raise ArgumentError(
                f"--entry must name an entry of the catalogue, got {name!r}; {remedy}"
            )


def _import_finding(answer: Answer) -> Finding:
    kinds = {
        "refused": Kind.REFUSED,
        "hangs": Kind.HANGS,
        "memory": Kind.MEMORY,
        "exits": Kind.EXITS,
        "dies": Kind.DIES,
        "garbled": Kind.CHANNEL,
    }
    kind = kinds.get(answer.status, Kind.IMPORT)
    text = (
        answer.message
        if kind in (Kind.IMPORT, Kind.REFUSED)
        else f"while it is imported: {answer.message}"
    )
    return Finding(kind, text)


def _planned(settings: Settings, declared: Declared) -> list[tuple[Entry, Estimand]]:
    """Every entry with every estimand, whether the target can do it or not."""
    pool = stochastic_entries() if declared.stochastic else entries()
    pairs: list[tuple[Entry, Estimand]] = []
    for entry in pool:
        if settings.entries and entry.name not in settings.entries:
            continue
        pairs.extend(
            (entry, estimand)
            for estimand in entry.estimands
            if settings.estimand is None or SHORT[estimand] == settings.estimand
        )
    return pairs


def _lacking(entry: Entry, estimand: Estimand, declared: Declared) -> str:
    """Why a row is skipped; empty if it is not."""
    if SHORT[estimand] not in declared.estimands:
        return f"the target does not declare the estimand {SHORT[estimand]!r}"
    if estimand in entry.undefined:
        return f"the {SHORT[estimand]} hypergradient is not defined: {entry.undefined[estimand]}"
    missing = sorted(entry.needs - set(declared.capabilities))
    return f"the target does not declare {', '.join(missing)}" if missing else ""


def _rows(
    settings: Settings,
    declared: Declared,
    planned: list[tuple[Entry, Estimand]],
    process: Process,
) -> Iterator[Row]:
    plan = Plan(
        confirm=2 if settings.full else 0,
        points=3 if settings.full else 0,
        seeds=2000 if settings.full else 200,
        seed=settings.seed,
    )
    silent = 0
    for entry, estimand in planned:
        name, traits = _name(entry, estimand), tuple(sorted(entry.traits))
        lacking = _lacking(entry, estimand, declared)
        if lacking:
            yield Row(name, traits, Outcome.SKIPPED, reason=lacking)
            continue
        if silent >= _PATIENCE:
            reason = f"not run: no answer {silent} times in a row"
            yield Row(name, traits, Outcome.FAILED, reason=reason)
            continue
        if declared.stochastic:
            mean = partial(mean_truth, entry, estimand)
            row = stochastic_row(name, entry, estimand, mean, process, declared, plan)
        else:
            row = deterministic_row(name, entry, estimand, process, declared, plan)
        row = _with_resolution(row)
        hung = any(finding.kind is Kind.HANGS for finding in row.findings)
        silent = silent + 1 if hung else 0
        yield row


def _with_resolution(row: Row) -> Row:
    """The row, undecided where an answer of zero would have been called right as well."""
    if row.outcome is not Outcome.RIGHT or row.floor is None or row.floor < 1:
        return row
    why = "the noise of its estimates" if row.statistics else "its tolerance, or rounding,"
    reason = (
        f"{why} hides everything: only a relative error above {row.floor:.1g} would be seen; "
        "average more, or declare a smaller tolerance"
    )
    return replace(row, outcome=Outcome.UNDECIDED, reason=reason)


def _name(entry: Entry, estimand: Estimand) -> str:
    return f"{entry.name}/{SHORT[estimand]}"


def _kept_over_the_run(
    settings: Settings,
    declared: Declared,
    planned: list[tuple[Entry, Estimand]],
    rows: list[Row],
    process: Process,
) -> list[Finding]:
    """Whether the first judged row comes out the same in this process and in a fresh one."""
    if declared.stochastic or not process.running:
        return []
    for (entry, estimand), row in zip(planned, rows, strict=True):
        if row.outcome not in (Outcome.RIGHT, Outcome.WRONG):
            continue
        answers = []
        with Process(settings.target, settings.framework, settings.limits) as fresh:
            for each in (process, fresh):
                answer = each.call(entry.name, estimand, entry.lam, settings.seed, own_noise=False)
                answers.append(noticed_in(answer, entry.lam.size, declared.dtype)[1])
        old, new = answers
        if old is None or new is None:
            return []
        size = float(np.linalg.norm(new))
        if float(np.linalg.norm(old - new)) > 1e-9 * size:
            gap = float(np.linalg.norm(old - new))
            text = f"{row.name} after the suite and in a fresh process differ by {gap:.1e}"
            return [Finding(Kind.STATE, text)]
        return []
    return []


def _result(
    settings: Settings,
    declared: Declared | None,
    rows: tuple[Row, ...],
    findings: tuple[Finding, ...],
    started: float,
) -> Result:
    return Result(
        target=settings.target,
        framework=settings.framework,
        profile="full" if settings.full else "quick",
        seed=settings.seed,
        declared=declared,
        rows=rows,
        findings=findings,
        expectations=compare(rows, dict(settings.expected)),
        environment=_environment(settings.framework),
        seconds=time.monotonic() - started,
    )


def _environment(framework: str) -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in dict.fromkeys(("refblo", "numpy", "torch", framework)):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
