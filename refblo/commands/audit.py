"""`refblo audit`."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import final

import click
import torch
from rich.console import Console
from rich.text import Text

from refblo.audit.html import render
from refblo.audit.json_report import to_json
from refblo.audit.run import Audit, AuditPlan, AuditRow, AuditSettings, plan
from refblo.audit.terminal import progress, show
from refblo.commands.console import standard_output
from refblo.errors import ArgumentError
from refblo.files import require_writable, write_atomically
from refblo.theory.budget import ErrorBudget

DTYPES = {"float64": torch.float64, "float32": torch.float32}
FILE = click.Path(dir_okay=False, writable=True, path_type=Path)

FAILED = 1
INTERRUPTED = 130
"""What a shell reports for a program that Ctrl-C ended."""


@final
@dataclass
class _Run:
    """An audit as far as it has come, and where it is written after every row."""

    plan: AuditPlan
    audit: Audit
    json_file: Path | None
    finished: bool = False

    def add(self, result: AuditRow | ErrorBudget) -> None:
        """Take note of a result. They come in any order, and stand in that of the plan."""
        if isinstance(result, AuditRow):
            order = {(it.name, case.name): n for n, (case, it) in enumerate(self.plan.tasks)}
            last = len(order)  # a budget that could not be made is no planned row
            rows = sorted(
                (*self.audit.rows, result),
                key=lambda row: order.get((row.contract, row.case), last),
            )
            self.audit = replace(self.audit, rows=tuple(rows))
        else:
            places = {case.name: n for n, case in enumerate(self.plan.budget_cases)}
            budgets = sorted((*self.audit.budgets, result), key=lambda it: places[it.case])
            self.audit = replace(self.audit, budgets=tuple(budgets))

    def write(self) -> None:
        """Bring the JSON file up to date."""
        if self.json_file is not None:
            text = to_json(self.audit, finished=self.finished, written=datetime.now(UTC))
            write_atomically(self.json_file, text)


def _device(_: click.Context, __: click.Parameter, value: str) -> str:
    """Refuse a device that cannot hold a number, before anything is computed on it."""
    try:
        torch.zeros((), device=value).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise click.BadParameter(
            f"must be a torch device of this machine, got {value!r} ({reason}); use cpu"
        ) from error
    return value


def _seed(_: click.Context, __: click.Parameter, value: int) -> int:
    # The range of refblo.noise.Draws.
    if not 0 <= value < 2**63:
        raise click.BadParameter(f"must lie in [0, 2^63), got {value}; choose such a seed")
    return value


@click.command("audit", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--quick/--full",
    "quick",
    default=True,
    show_default=True,
    help="The quick audit, of about a minute, or the full one.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Only rows whose contract, estimator or case matches, e.g. 'hpo*'; repeatable.",
)
@click.option(
    "--seed", default=1, show_default=True, callback=_seed, help="The seed of every random draw."
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    callback=_device,
    help="The torch device of the problems.",
)
@click.option(
    "--dtype",
    type=click.Choice(list(DTYPES)),
    default="float64",
    show_default=True,
    help="The dtype of the problems.",
)
@click.option(
    "--json",
    "json_file",
    type=FILE,
    metavar="FILE",
    help="Write the results here, after every row.",
)
@click.option(
    "--html", "html_file", type=FILE, metavar="FILE", help="Write a page with plots here."
)
@click.pass_context
def audit(
    context: click.Context,
    quick: bool,
    only: tuple[str, ...],
    seed: int,
    device: str,
    dtype: str,
    json_file: Path | None,
    html_file: Path | None,
) -> None:
    """Check every estimator against every truth, on problems with known answers and on real data.

    Exits with 0 if every contract holds, 1 if one does not, 2 if the command line is wrong, and 130 if it
    was interrupted; what was finished by then is shown and written all the same.
    """
    require_writable((("--json", json_file), ("--html", html_file)))
    console = standard_output()
    settings = AuditSettings(not quick, only, seed, device, DTYPES[dtype])
    try:
        with console.status("laying out the audit"):
            planned = plan(settings)
        run = _Run(planned, planned.start(), json_file)
        run.write()
    except ArgumentError as error:
        raise click.UsageError(str(error), context) from error
    interrupted = False
    try:
        with _terminable():
            _carry_out(run, console)
    except KeyboardInterrupt:
        interrupted = True
    finally:  # a crash of the audit itself must not take the results along
        show(console, run.audit)
        run.write()
        if html_file is not None:
            with console.status("drawing the report"):
                page = render(run.audit, finished=run.finished, written=datetime.now(UTC))
                write_atomically(html_file, page)
        for file in (json_file, html_file):
            if file is not None:
                console.print(Text(f"written: {file}"), soft_wrap=True)
    if interrupted:
        console.print(Text("interrupted: the rows above were finished", "bold"))
        context.exit(INTERRUPTED)
    context.exit(0 if run.audit.passed else FAILED)


@contextmanager
def _terminable() -> Iterator[None]:
    """Take a request to terminate, as a build server sends it, for an interruption from the keyboard."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _carry_out(run: _Run, console: Console) -> None:
    results = run.plan.run(workers=os.cpu_count() or 1)
    # Closed whatever happens, which ends the workers.
    with closing(results), progress(console, run.plan) as shown:
        for result in results:
            run.add(result)
            shown.take(result)
            run.write()
    run.finished = True
