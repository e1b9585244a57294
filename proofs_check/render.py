"""The ledger as a terminal table, as JSON, as a page of the docs."""

import json
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from proofs_check.claim import ClaimSource, ClaimVerdict
from proofs_check.evidence import Check, Role
from proofs_check.ledger import LedgerRow

_COLOURS = {
    ClaimVerdict.HOLDS: "green",
    ClaimVerdict.CONDITIONAL: "yellow",
    ClaimVerdict.REFUTED: "red",
    ClaimVerdict.VACUOUS: "red",
    ClaimVerdict.TYPOGRAPHICAL: "cyan",
    ClaimVerdict.REPRODUCED: "green",
    ClaimVerdict.COMPATIBLE: "yellow",
    ClaimVerdict.NOT_REPRODUCED: "magenta",
    ClaimVerdict.NEEDS_DATA: "bright_black",
    ClaimVerdict.IMAGE_ONLY: "bright_black",
    ClaimVerdict.CANNOT_RUN: "bright_black",
    ClaimVerdict.CONFIRMED_SMALL: "green",
    ClaimVerdict.REFUTED_SMALL: "red",
    ClaimVerdict.UNDECIDED_SMALL: "yellow",
}


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
    for heading in ("claim", "what it says", "verdict", "strength", "evidence", "s"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "s" else "left")
    for row in rows:
        colour = _COLOURS[row.derived] if row.holds and row.derived else "bold white on red"
        table.add_row(
            row.key,
            row.title,
            f"[{colour}]{row.word}[/]",
            row.strength.words if row.strength is not None else "",
            _evidence(row),
            f"{row.seconds:.1f}",
        )
    console.print(table)
    counts = Table(*(count_table(rows)[0]), title="Distinct claims by verdict and strength")
    for line in count_table(rows)[1:]:
        counts.add_row(*line)
    console.print(counts)
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
    console.print(f"  stated for: {row.scope}", highlight=False, markup=False)
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
    for label, text in _labelled(row):
        console.print(f"  {label}: {text}", highlight=False, markup=False)
    console.print(f"  verdict: {row.word}", highlight=False, markup=False)
    if row.strength is not None:
        weakest = f" (weakest number: {row.weakest})" if row.weakest else ""
        console.print(f"  strength: {row.strength.words}{weakest}", highlight=False, markup=False)


def _labelled(row: LedgerRow) -> list[tuple[str, str]]:
    """What is said of a row beside its evidence."""
    pairs = [("not here", row.missing)]
    pairs += [("by hand", step) for step in row.steps]
    instance = row.strength is not None and not row.strength.proves
    pairs += [("executed on", row.on if instance else ""), ("same claim as", row.repeats)]
    pairs += [("remark", row.remark)]
    return [(label, text) for label, text in pairs if text]


def distinct(rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    """The rows without those that state another row's claim again, so that each counts once."""
    keys = {row.key for row in rows}
    return [row for row in rows if row.repeats not in keys]


def summary(rows: Sequence[LedgerRow]) -> str:
    """How many claims have which verdict, in one line; a claim stated twice is counted once."""
    kept = distinct(rows)
    counts = Counter(_counted(row) for row in kept if row.holds)
    parts = [f"{count} {name}" for name, count in sorted(counts.items(), key=_by_count)]
    failed = sum(not row.holds for row in rows)
    if failed:
        parts.append(f"{failed} WITHOUT A VERDICT")
    return f"{len(rows)} rows, {len(kept)} distinct claims: {', '.join(parts)}"


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _counted(row: LedgerRow) -> str:
    return row.word.replace(f"checked on {row.on}", "checked on instances")


def count_table(rows: Sequence[LedgerRow]) -> list[list[str]]:
    """Distinct claims by verdict and strength.

    Args:
        rows: the ledger.

    Returns:
        A table of text with a row of headings: one row a verdict, one column a strength.
    """
    kept = [row for row in distinct(rows) if row.holds]
    strengths = sorted({row.strength for row in kept if row.strength is not None}, reverse=True)
    counts = Counter((row.derived, row.strength) for row in kept)
    table = [["verdict", *(strength.words for strength in strengths), "all"]]
    for verdict in ClaimVerdict:
        found = [counts[verdict, strength] for strength in strengths]
        if sum(found):
            table.append([verdict.value, *(str(n or "") for n in found), str(sum(found))])
    return table


def source_table(rows: Sequence[LedgerRow]) -> list[list[str]]:
    """Distinct claims by where they are made and the word of their verdict."""
    kept = [row for row in distinct(rows) if row.holds]
    words = sorted({_counted(row) for row in kept})
    table = [["verdict", *(source.value for source in ClaimSource)]]
    for said in words:
        found = [
            sum(row.source == source.value and _counted(row) == said for row in kept)
            for source in ClaimSource
        ]
        table.append([said, *(str(n or "") for n in found)])
    return table


def _markdown_table(table: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in table]
    return [lines[0], "|---" * len(table[0]) + "|", *lines[1:], ""]


def _check_record(check: Check) -> dict[str, object]:
    return {
        "name": check.name,
        "role": check.role.value,
        "method": check.method.value,
        "found": check.left,
        "stated": check.right,
        "holds": check.holds,
        "agrees": check.agrees,
        "power": check.power,
        "general_in": {name: cover.text(name) for name, cover in check.over},
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
            "word": row.word,
            "strength": row.strength.words if row.strength is not None else None,
            "weakest_number": row.weakest or None,
            "scope": row.scope,
            "executed_on": row.on or None,
            "same_claim_as": row.repeats or None,
            "holds": row.holds,
            "failure": row.failure or None,
            "evidence": [_check_record(check) for check in row.checks],
            "counterexamples": [_check_record(check) for check in row.counterexamples],
            "assumptions": [a.text for a in row.assumptions],
            "added_conditions": [a.text for a in row.added],
            "missing": row.missing or None,
            "argued_by_hand": list(row.steps),
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


def cell(text: str) -> str:
    """A text without what Markdown would take for its own."""
    plain = text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("*", "\\*")
    return plain.replace("](", "\\](")  # an index before an argument is no link


def _strength(row: LedgerRow) -> str:
    return row.strength.words if row.strength is not None else ""


def _comparison(check: Check) -> str:
    stated = f"{cell(check.left)} against {cell(check.right)}"
    return f"{cell(check.name)}: {stated}"


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
        "A verdict has a strength. *Proved* needs evidence that is general (symbols, operators that do",
        "not commute, or an induction whose base and step were executed), perhaps with steps by hand,",
        "each of which is named; otherwise the word is *checked on*, with what it was checked on. The",
        "strength of a statement is that of its weakest number: the strongest check that notices when",
        "that number is changed. A claim that is stated several times is counted once.",
        "",
        f"{summary(rows)}.",
        "",
        *_markdown_table(count_table(rows)),
        *_markdown_table(source_table(rows)),
    ]
    for kind, heading in _HEADINGS.items():
        chosen = [row for row in rows if row.key.partition("-")[0] == kind]
        if not chosen:
            continue
        lines += [f"## {heading}", "", "| claim | what it is about | verdict | strength |"]
        lines += ["|---|---|---|---|"]
        lines += [
            f"| [{row.key}](#{row.key}) | {cell(row.title)} | {cell(row.word)} | {_strength(row)} |"
            for row in chosen
        ]
        lines.append("")
        for row in chosen:
            lines += _section(row)
    return "\n".join(lines).rstrip() + "\n"


def _section(row: LedgerRow) -> list[str]:
    lines = [f"({row.key})=", f"### {row.key}: {cell(row.title)}", ""]
    lines += [f"**{cell(row.word)}** · {_strength(row)} · `{row.command}`", ""]
    lines += [f"Stated for: {cell(row.scope)}.", ""]
    lines += [f"Printed: {cell(row.printed)}", ""]
    if row.corrected:
        lines += [f"Holds instead: {cell(row.corrected)}", ""]
    for assumption in row.assumptions:
        lines += [f"Assumed: {cell(assumption.text)}.", ""]
    for assumption in row.added:
        lines += [f"Added condition: {cell(assumption.text)}.", ""]
    for assumption in row.unneeded:
        lines += [f"Stated, and not needed: {cell(assumption.text)}.", ""]
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
            lines.append(f"| {cell(check.name)} | {check.right} | {check.left} | {word} |")
    for label, text in _labelled(row):
        lines += ["", f"{label[0].upper()}{label[1:]}: {cell(text)}"]
    lines.append("")
    return lines
