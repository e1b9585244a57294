"""The ledger as a terminal table, as JSON, as a page of the docs."""

import json
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from proofs_check.claim import ClaimVerdict
from proofs_check.evidence import Check, Role
from proofs_check.ledger import LedgerRow

_COLOURS = {
    ClaimVerdict.PROVED: "green",
    ClaimVerdict.CONDITIONAL: "yellow",
    ClaimVerdict.REFUTED: "red",
    ClaimVerdict.VACUOUS: "red",
    ClaimVerdict.TYPOGRAPHICAL: "cyan",
    ClaimVerdict.REPRODUCED: "green",
    ClaimVerdict.NOT_REPRODUCED: "magenta",
    ClaimVerdict.NEEDS_DATA: "bright_black",
    ClaimVerdict.CANNOT_RUN: "bright_black",
}


def verdict_text(row: LedgerRow) -> str:
    """The derived verdict, or why there is none."""
    return row.derived.value if row.holds and row.derived else f"NO VERDICT: {row.failure}"


def figures(row: LedgerRow) -> str:
    """How many of the paper's figures came out the same; empty where there are none."""
    found = [check for check in row.checks if check.role is Role.FIGURE]
    if not found:
        return ""
    return f"{sum(bool(check.agrees) for check in found)} of {len(found)} figures agree"


def _evidence(row: LedgerRow) -> str:
    methods = Counter(check.method.value for check in row.checks)
    counted = ", ".join(f"{count} {name}" for name, count in methods.items())
    return "; ".join(part for part in (counted, figures(row)) if part)


def print_table(rows: Sequence[LedgerRow], console: Console) -> None:
    """One line a claim.

    Args:
        rows: the ledger.
        console: where to print.
    """
    table = Table(title="The claims ledger", show_lines=False)
    for heading in ("claim", "what it says", "verdict", "evidence", "s"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "s" else "left")
    for row in rows:
        colour = _COLOURS[row.derived] if row.holds and row.derived else "bold white on red"
        table.add_row(
            row.key,
            row.title,
            f"[{colour}]{verdict_text(row)}[/]",
            _evidence(row),
            f"{row.seconds:.1f}",
        )
    console.print(table)
    console.print(summary(rows))


def print_detail(row: LedgerRow, console: Console) -> None:
    """Everything about one claim.

    Args:
        row: its row.
        console: where to print.
    """
    console.print(f"[bold]{row.key}[/]  {row.title}  ({row.source})", highlight=False)
    console.print(f"  printed:   {row.printed}", highlight=False, markup=False)
    if row.corrected:
        console.print(f"  corrected: {row.corrected}", highlight=False, markup=False)
    for assumption in (*row.assumptions, *row.added):
        kind = "added condition" if assumption in row.added else "assumption"
        text = f"  {kind} ({assumption.key}): {assumption.text}"
        console.print(text, highlight=False, markup=False)
    table = Table("check", "found", "stated", "how", "holds")
    for check in row.checks:
        mark = "yes" if check.holds else "NO"
        if check.agrees is not None:
            mark = "agrees" if check.agrees else "differs"
        table.add_row(check.name, check.left, check.right, check.method.value, mark)
    console.print(table, markup=False)
    for check in row.counterexamples:
        line = f"  counterexample: {check.name}: found {check.left}, stated {check.right}"
        console.print(line, highlight=False, markup=False)
    for label, text in (
        ("not here", row.missing), ("by hand", row.by_hand), ("remark", row.remark)
    ):  # fmt: skip
        if text:
            console.print(f"  {label}: {text}", highlight=False, markup=False)
    console.print(f"  verdict: {verdict_text(row)}", highlight=False, markup=False)


def summary(rows: Sequence[LedgerRow]) -> str:
    """How many claims have which verdict, in one line."""
    counts = Counter(row.derived for row in rows if row.holds)
    parts = [f"{counts[verdict]} {verdict.value}" for verdict in ClaimVerdict if counts[verdict]]
    failed = sum(not row.holds for row in rows)
    if failed:
        parts.append(f"{failed} WITHOUT A VERDICT")
    return f"{len(rows)} claims: {', '.join(parts)}"


def _check_record(check: Check) -> dict[str, object]:
    return {
        "name": check.name,
        "role": check.role.value,
        "method": check.method.value,
        "found": check.left,
        "stated": check.right,
        "holds": check.holds,
        "agrees": check.agrees,
    }


def to_json(rows: Sequence[LedgerRow]) -> str:
    """The ledger for a program.

    Args:
        rows: the ledger.

    Returns:
        A JSON object with the rows in order, and whether all evidence holds.
    """
    records = [
        {
            "claim": row.key,
            "source": row.source,
            "title": row.title,
            "printed": row.printed,
            "corrected": row.corrected or None,
            "verdict": row.derived.value if row.derived else None,
            "holds": row.holds,
            "failure": row.failure or None,
            "evidence": [_check_record(check) for check in row.checks],
            "counterexamples": [_check_record(check) for check in row.counterexamples],
            "assumptions": [a.text for a in row.assumptions],
            "added_conditions": [a.text for a in row.added],
            "missing": row.missing or None,
            "argued_by_hand": row.by_hand or None,
            "remark": row.remark or None,
            "command": row.command,
            "seconds": round(row.seconds, 3),
        }
        for row in rows
    ]
    whole = {"holds": all(row.holds for row in rows), "claims": records}
    return json.dumps(whole, indent=2, ensure_ascii=False)


_HEADINGS = {
    "eq": "Equations",
    "thm": "Theorems",
    "alg": "Algorithm",
    "tab": "Tables",
    "fig": "Figures",
    "text": "Statements of the text",
    "franceschi": "Franceschi et al. (2018)",
    "field": "Established results the others rest on",
}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("*", "\\*")


def _comparison(check: Check) -> str:
    stated = f"{_cell(check.left)} against {_cell(check.right)}"
    return f"{_cell(check.name)}: {stated}"


def to_markdown(rows: Sequence[LedgerRow]) -> str:
    """The ledger's page of the docs.

    Args:
        rows: the ledger.

    Returns:
        A Markdown page: a table of verdicts, then every claim with its evidence.
    """
    lines = [
        "# The claims ledger",
        "",
        "Generated by `python -m proofs_check --markdown`; not written by hand. Every verdict is",
        "derived from evidence that was executed. Numbers such as (22) and Theorem 2 are those of",
        "Kim and Hospedales, *A Stochastic Approach to Bi-Level Optimization for Hyperparameter",
        "Optimization and Meta Learning*. Statements are in our own words.",
        "",
        f"{summary(rows)}.",
        "",
    ]
    for kind, heading in _HEADINGS.items():
        chosen = [row for row in rows if row.key.partition("-")[0] == kind]
        if not chosen:
            continue
        lines += [f"## {heading}", "", "| claim | what it is about | verdict |", "|---|---|---|"]
        lines += [
            f"| [{row.key}](#{row.key}) | {_cell(row.title)} | {_cell(verdict_text(row))} |"
            for row in chosen
        ]
        lines.append("")
        for row in chosen:
            lines += _section(row)
    return "\n".join(lines).rstrip() + "\n"


def _section(row: LedgerRow) -> list[str]:
    lines = [f"({row.key})=", f"### {row.key}: {_cell(row.title)}", ""]
    lines += [f"**{_cell(verdict_text(row))}** · `{row.command}`", ""]
    lines += [f"Printed: {_cell(row.printed)}", ""]
    if row.corrected:
        lines += [f"Holds instead: {_cell(row.corrected)}", ""]
    for assumption in row.assumptions:
        lines += [f"Assumed: {_cell(assumption.text)}.", ""]
    for assumption in row.added:
        lines += [f"Added condition: {_cell(assumption.text)}.", ""]
    plain = [check for check in row.checks if check.role is not Role.FIGURE]
    for check in plain:
        lines.append(f"- {_comparison(check)} ({check.method.value}; {check.role.value})")
    for check in row.counterexamples:
        if check not in row.checks:
            lines.append(f"- counterexample: {_comparison(check)}")
    shown = [check for check in row.checks if check.role is Role.FIGURE]
    if shown:
        lines += ["", "| figure | the paper's | ours | |", "|---|---|---|---|"]
        for check in shown:
            word = "agrees" if check.agrees else "differs"
            lines.append(f"| {_cell(check.name)} | {check.right} | {check.left} | {word} |")
    for label, text in (
        ("Not here", row.missing), ("Argued by hand", row.by_hand), ("Remark", row.remark)
    ):  # fmt: skip
        if text:
            lines += ["", f"{label}: {_cell(text)}"]
    lines.append("")
    return lines
