"""A result as text, as JSON and as a self-contained page."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from refblo.conformance.suite.rows import NOTES, Outcome, Result, Row
from refblo.conformance.suite.visible import visible

_COLOURS = {
    Outcome.RIGHT: "green",
    Outcome.WRONG: "red",
    Outcome.FAILED: "red",
    Outcome.UNDECIDED: "yellow",
    Outcome.SKIPPED: "bright_black",
}
SCHEMA_VERSION = 1


def table(result: Result) -> Table:
    """The rows that were not skipped."""
    # Text, not a string: a path may hold brackets, which the console would take for its markup.
    title = Text(f"refblo check {visible(result.target)} ({result.framework}, {result.profile})")
    # Narrow enough for the longest name on a terminal of 80 columns.
    found = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    found.add_column("entry / estimand", no_wrap=True)
    for heading in ("verdict", "digits", "error", "sees", "seconds"):
        found.add_column(heading)
    for row in result.rows:
        if row.outcome is Outcome.SKIPPED:
            continue
        expected = " (expected)" if row.name in result.expectations.met else ""
        found.add_row(
            row.name,
            Text(verdict(row) + expected, style="red" if row.bad else _COLOURS[row.outcome]),
            "" if row.digits is None else f"{row.digits:.1f}",
            "" if row.error is None else f"{row.error:.1e}",
            "" if row.floor is None else f"{row.floor:.0e}",
            f"{row.seconds:.2f}",
        )
    return found


def verdict(row: Row) -> str:
    """A row's outcome in a word or two: its number may be right and the target at fault all the same."""
    return "right, but" if row.bad and row.outcome is Outcome.RIGHT else row.outcome.value


def lines(result: Result) -> Iterator[str]:
    """What is to be said besides the table, line by line, safe to show on a terminal."""
    for text in _unescaped(result):
        for line in text.splitlines():
            yield visible(line)


def _unescaped(result: Result) -> Iterator[str]:
    for finding in result.findings:
        yield f"finding: {visible(finding.describe)}"
    for row in result.rows:
        yield from _told(row)
    yield from summary(result)


def summary(result: Result) -> Iterator[str]:
    """What is to be said about the rows as a whole; the verdict last."""
    counts = ", ".join(
        f"{result.count(outcome)} {outcome.value}" for outcome in Outcome if result.count(outcome)
    )
    yield f"{counts or 'nothing was run'}; {result.seconds:.1f} s"
    if result.declared is not None and result.declared.tolerance > 0:
        tolerance = result.declared.tolerance
        yield f"the target declares a tolerance of {tolerance:.1e}: smaller relative errors are not accused"
    skipped = sorted({row.reason for row in result.rows if row.outcome is Outcome.SKIPPED})
    for reason in skipped:
        number = sum(row.reason == reason for row in result.rows)
        yield f"skipped, {number} rows: {reason}"
    agreed = result.consensus()
    wrong = result.count(Outcome.WRONG)
    if wrong > 1 and agreed and agreed[0][1] > 1:
        best = [name for name, count in agreed if count == agreed[0][1]]
        yield f"explains most ({agreed[0][1]} of {wrong} wrong rows): {', '.join(best)}"
    expectations = result.expectations
    for name, reason in expectations.met.items():
        yield f"expected to fail, and does: {name} ({reason})"
    for name in expectations.passed:
        yield f"warning: expected to fail, but does not: {name}; take it off the list"
    for name in expectations.unmatched:
        yield f"warning: no row has the expected failure's name: {name}"
    yield "verdict: " + ("nothing speaks against it" if result.passed else _against(result))


def _told(row: Row) -> Iterator[str]:
    if row.diagnosis is not None:
        yield f"{row.name}: {row.diagnosis.describe()}"
    for finding in row.findings:
        yield f"{row.name}: {visible(finding.describe)}"
    if row.statistics is not None:
        s = row.statistics
        yield (
            f"{row.name}: mean of {s.seeds} seeds; an unbiased target is accused with chance "
            f"{s.error_rate:.0e}, a relative bias of {s.detectable:.1e} is seen with chance {s.power:g}"
        )
    if row.convention:
        yield f"{row.name}: {row.convention}"
    if row.reason and row.outcome in (Outcome.FAILED, Outcome.UNDECIDED):
        yield f"{row.name}: {row.reason}"


def _against(result: Result) -> str:
    if result.declared is None:
        return "it could not be run"
    if against := [row for row in result.unexpected if not row.doubtful]:
        return f"{len(against)} rows speak against it"
    if result.unexpected:
        return f"{len(result.unexpected)} rows are undecided, so it is not known to be right"
    if result.findings:
        return "what was found about it as a whole speaks against it"
    return "nothing was judged, so nothing is known"


def to_json(result: Result) -> str:
    """The result for a program to read; its form is in `check.schema.json`."""
    return json.dumps(_plain(result), indent=1, allow_nan=False) + "\n"


def _plain(result: Result) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "target": result.target,
        "framework": result.framework,
        "profile": result.profile,
        "seed": result.seed,
        "declared": None if result.declared is None else asdict(result.declared),
        "passed": result.passed,
        "counts": {outcome.value: result.count(outcome) for outcome in Outcome},
        "findings": [
            {"kind": finding.kind.name.lower(), "text": finding.describe}
            for finding in result.findings
        ],
        "consensus": [{"name": name, "rows": count} for name, count in result.consensus()],
        "expected_failures": {
            "met": result.expectations.met,
            "passed": list(result.expectations.passed),
            "unmatched": list(result.expectations.unmatched),
        },
        "environment": result.environment,
        "seconds": result.seconds,
        "rows": [_plain_row(row) for row in result.rows],
    }


def _plain_row(row: Row) -> dict[str, Any]:
    diagnosis = row.diagnosis
    return {
        "name": row.name,
        "traits": list(row.traits),
        "outcome": row.outcome.value,
        "error": _finite(row.error),
        "floor": _finite(row.floor),
        "digits": _finite(row.digits),
        "seconds": row.seconds,
        "reason": row.reason,
        "convention": row.convention,
        "findings": [
            {"kind": finding.kind.name.lower(), "text": finding.describe}
            for finding in row.findings
        ],
        "statistics": None if row.statistics is None else asdict(row.statistics),
        "diagnosis": None
        if diagnosis is None
        else {
            "name": diagnosis.name,
            "text": diagnosis.text,
            "unexplained": _finite(diagnosis.unexplained),
            "runner_up": diagnosis.runner_up,
            "runner_up_unexplained": _finite(diagnosis.runner_up_unexplained),
            "also": list(diagnosis.also),
            "components": list(diagnosis.components),
            "tried": diagnosis.tried,
        },
    }


def _finite(number: float | None) -> float | None:
    """The number, or None where JSON has none for it."""
    if number is None or number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124  (NaN)
        return None
    return number


def _shown(value: object) -> object:
    """What a page shows of a value: of a text, every character."""
    return visible(value) if isinstance(value, str) else value


def to_html(result: Result) -> str:
    """The result as one page that loads nothing."""
    source = resources.files("refblo.conformance.suite").joinpath("check.html.j2")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_shown
    )
    template = environment.from_string(source.read_text(encoding="utf-8"))
    judged = [row for row in result.rows if row.outcome is not Outcome.SKIPPED]
    return template.render(
        result=result,
        summary=list(summary(result)),
        judged=judged,
        skipped=[row for row in result.rows if row.outcome is Outcome.SKIPPED],
        verdict=verdict,
        notes=NOTES,
        full_digits=16.0,
    )
