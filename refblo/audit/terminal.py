"""The audit in a terminal: what is going on while it runs, and its table once it has."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, final, runtime_checkable

from rich.console import Console, RenderableType
from rich.console import Group as Together
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from refblo.audit.run import Audit, AuditOutcome, AuditPlan, AuditRow
from refblo.audit.summary import (
    SYMBOLS,
    duration,
    figure,
    groups,
    headline,
    tally,
    troubled,
    used,
)
from refblo.theory.budget import ErrorBudget

STYLES = {
    AuditOutcome.HOLDS: "green",
    AuditOutcome.FAILS: "bold red",
    AuditOutcome.ERROR: "bold red",
}


@runtime_checkable
class Progress(Protocol):
    """Shows an audit while it runs."""

    def take(self, result: AuditRow | ErrorBudget) -> None:
        """Take note of what was just finished."""
        ...


@contextmanager
def progress(console: Console, plan: AuditPlan) -> Iterator[Progress]:
    """A live table where there is a terminal, a line for each row where there is none."""
    planned = [contract.name for _, contract in plan.tasks]
    if not console.is_terminal:
        yield Lines(console, len(planned))
        return
    board = Board(planned, len(plan.budget_cases))
    with Live(board, console=console, refresh_per_second=6, transient=True):
        yield board


@final
@dataclass
class Lines:
    """A line for each result, for logs."""

    console: Console
    planned: int
    finished: int = 0

    def take(self, result: AuditRow | ErrorBudget) -> None:
        """Print it."""
        if isinstance(result, AuditRow):
            self.finished += 1
            count = f"[{self.finished:>{len(str(self.planned))}}/{self.planned}]"
            line = f"{count} {_line(result)} {duration(result.seconds)}"
        else:
            line = f"error budget | {result.case}"
        self.console.print(Text(line), soft_wrap=True)


def _line(row: AuditRow) -> str:
    margin = "" if row.finding is None else f" ({used(row.finding.judgement.margin)} of bound)"
    return f"{row.outcome.value:5} {row.contract} | {row.case}{margin}"


@final
@dataclass
class Board:
    """A bar, the latest result, and one line for each contract; rich draws it several times a second.

    Attributes:
        planned: the contract of each planned row.
        budgets: how many error budgets there are to be.
    """

    planned: Sequence[str]
    budgets: int
    rows: list[AuditRow] = field(default_factory=list)
    budgets_done: int = 0
    started: float = field(default_factory=time.perf_counter)

    def take(self, result: AuditRow | ErrorBudget) -> None:
        """Take note of what was just finished."""
        if isinstance(result, AuditRow):
            self.rows.append(result)
        else:
            self.budgets_done += 1

    def __rich_console__(self, console: Console, _: object) -> Iterator[RenderableType]:
        """Draw it; the bar stands first, so that a low terminal cuts off the table and not the bar."""
        done, planned = len(self.rows), len(self.planned)
        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(no_wrap=True)
        bar = ProgressBar(total=planned, completed=done)
        elapsed = duration(time.perf_counter() - self.started)
        head.add_row(Text(f"audit {done}/{planned}"), bar, Text(elapsed, "dim"))
        yield head
        yield Text(f"  {self._latest()}", style="dim", no_wrap=True, overflow="ellipsis")
        yield self._table(max(1, console.height - 5))

    def _latest(self) -> str:
        if not self.rows:
            return "starting the worker processes"
        if len(self.rows) == len(self.planned):
            return f"error budgets {self.budgets_done}/{self.budgets}"
        return f"latest: {_line(self.rows[-1])}"

    def _table(self, height: int) -> Table:
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        table.add_column("contract", no_wrap=True, overflow="ellipsis", ratio=1)
        for name in ("done", "holds", "fails", "error", "of bound", "time"):
            table.add_column(name, justify="right", no_wrap=True)
        planned = Counter(self.planned)
        finished = {group.contract: group.rows for group in groups(self.rows)}
        names = list(planned)
        if len(names) > height:  # what is done and holds can be missed most easily
            names = [name for name in names if not _is_done(finished.get(name, ()), planned[name])]
        for name in names[:height]:
            rows = finished.get(name, ())
            number = {it: sum(row.outcome is it for row in rows) for it in AuditOutcome}
            margins = [row.finding.judgement.margin for row in rows if row.finding is not None]
            table.add_row(
                Text(name),
                f"{len(rows)}/{planned[name]}",
                *(_count(number[it], it) for it in AuditOutcome),
                used(max(margins)) if margins else "",
                duration(sum(row.seconds for row in rows)) if rows else "",
                style="" if rows else "dim",
            )
        return table


def _is_done(rows: Sequence[AuditRow], planned: int) -> bool:
    return len(rows) == planned and not troubled(rows)


def _count(number: int, outcome: AuditOutcome) -> Text:
    return Text(str(number), STYLES[outcome]) if number else Text("·", "dim")


def _verdict(outcome: AuditOutcome) -> Text:
    return Text(f"{SYMBOLS[outcome]} {outcome.value}", STYLES[outcome])


def show(console: Console, audit: Audit) -> None:
    """Print the table of an audit, finished or not; what does not hold stands last, where it is seen."""
    width = console.width
    if audit.rows:
        console.print(_rows((), audit, width))
    estimator = ""
    for group in groups(audit.rows):
        if group.estimator != estimator:
            estimator = group.estimator
            console.print()
            console.print(Text(f"━━ {estimator} ", "bold"), soft_wrap=True)
        console.print()
        text = Text(group.contract, "bold").append(f": {group.claim}", "not bold dim")
        console.print(text)
        console.print(_rows(group.rows, audit, width))
    if audit.budgets:
        console.print()
        console.print(_budgets(audit.budgets))
    for row in troubled(audit.rows):
        console.print()
        console.print(_trouble(row))
    console.print()
    style = "bold green" if audit.passed else "bold red"
    console.print(Text(headline(audit), style).append(f". {tally(audit)}.", "not bold default"))


def _rows(rows: Sequence[AuditRow], audit: Audit, width: int) -> Padding:
    """The rows of one contract, or the head above them all when there are none.

    All these tables have the same columns, so that they stand in line.
    """
    wide = width >= 120
    table = Table(box=None, padding=(0, 1), pad_edge=False, show_header=not rows, expand=True)
    longest = max(len(row.case) for row in audit.rows)
    table.add_column("case", width=min(longest, width // 4), overflow="fold")
    table.add_column("verdict", width=7, no_wrap=True)
    table.add_column("measured" if wide else "measured, predicted", ratio=1)
    if wide:
        table.add_column("predicted", ratio=1, style="dim")
    table.add_column("of bound", width=8, justify="right", no_wrap=True)
    table.add_column("time", width=8, justify="right", no_wrap=True, style="dim")
    for row in rows:
        if row.finding is None:
            words = [Text(row.message.strip().splitlines()[-1] if row.message else "")]
            margin, predicted = "", Text()
        else:
            judgement = row.finding.judgement
            words, predicted = [Text(judgement.measured)], Text(judgement.predicted)
            margin = used(judgement.margin)
        if wide:
            words.append(predicted)
        elif predicted:
            words[0].append(f"\n{predicted}", "dim")
        time_taken = duration(row.seconds)
        table.add_row(Text(row.case), _verdict(row.outcome), *words, margin, time_taken)
    return Padding(table, (0, 0, 0, 2))


def _budgets(budgets: Sequence[ErrorBudget]) -> Table:
    title = "error budget of HPO-SGLD: norms over that of the implicit hypergradient"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("case")
    for part in budgets[0].shares:
        table.add_column(part, justify="right")
    for budget in budgets:
        table.add_row(Text(budget.case), *(figure(share) for share in budget.shares.values()))
    return table


def _trouble(row: AuditRow) -> Together:
    """Everything there is to know about a row that does not hold."""
    head = _verdict(row.outcome).append(f"  {row.contract}, {row.case}", "bold default")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    grid.add_row("claim", Text(row.claim))
    if row.finding is None:
        grid.add_row("message", Text(row.message.strip()))
    else:
        grid.add_row("measured", Text(row.finding.judgement.measured))
        grid.add_row("predicted", Text(row.finding.judgement.predicted))
        for it in row.finding.comparisons:
            verdict = "within" if it.within else "not within"
            text = f"{it.distance:.2e} off, {verdict} {it.bound:.2e} ({it.kind.value})"
            grid.add_row(Text(it.oracle), Text(text))
    return Together(head, Padding(grid, (0, 0, 0, 2)))
