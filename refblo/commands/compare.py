"""`refblo compare`: the table, the plot and the JSON of a comparison of all methods on one problem."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click
from matplotlib.ticker import NullFormatter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refblo.conformance.suite.visible import visible
from refblo.equal_cost.methods import METHODS
from refblo.equal_cost.run import MIN_BUDGET, MethodComparison, Point, compare_methods
from refblo.equal_cost.targets import Target, target
from refblo.errors import RefbloError
from refblo.files import require_writable, write_atomically
from refblo.noise import Draws
from refblo.plotting import COLOURS, drawing
from refblo.problems import build
from refblo.problems.catalogue import catalogue
from refblo.types import Estimand

LINES, MARKERS = ("-", "--", ":"), ("o", "s", "^", "D")
"""A method is told by its colour and, where that comes again, by its line and its marker."""

TRUTHS = {estimand.name.lower(): estimand for estimand in Estimand}


@click.command()
@click.argument("problem")
@click.option(
    "--budget",
    type=click.IntRange(min=MIN_BUDGET),
    default=2000,
    show_default=True,
    help="The most derivative evaluations of one run.",
)
@click.option(
    "--truth",
    type=click.Choice(list(TRUTHS)),
    help="The truth to compare with; by default the implicit one, or the unrolled one if θ⁰ depends on λ.",
)
@click.option(
    "--target",
    "named",
    multiple=True,
    metavar="TARGET",
    help="Another implementation to run too, as for `refblo check`: file.py:function; repeatable.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a plot to this file."
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def compare(
    problem: str,
    budget: int,
    truth: str | None,
    named: tuple[str, ...],
    seed: int,
    plot: Path | None,
    json_file: Path | None,
) -> None:
    """Run all methods on PROBLEM at equal cost and show how far each is from the truth.

    PROBLEM is a case of the catalogue; `refblo list` shows them. Targets run in this process, without the
    guards of `refblo check`: name those that you trust.
    """
    known = list(catalogue())
    if problem not in known:
        raise click.UsageError(f"PROBLEM must be one of {', '.join(known)}, got {problem!r}")
    require_writable((("--plot", plot), ("--json", json_file)))
    console = Console()
    estimand = None if truth is None else TRUTHS[truth]
    targets = tuple(_loaded(text) for text in named)
    comparison: MethodComparison | None = None
    with console.status("starting") as status:
        for found in compare_methods(
            build(problem), budget, estimand, Draws(seed), targets=targets
        ):
            if isinstance(found, MethodComparison):
                comparison = found
            else:
                status.update(f"{found.method}: {found.evaluations} evaluations")
    if comparison is None:
        raise click.ClickException("nothing was compared: allow a larger budget")
    console.print(table(comparison, budget))
    console.print(
        "[bold]*[/bold] no other run has both fewer evaluations (or bytes) and a smaller error. "
        f"Truth: {comparison.oracle}, itself off by at most {comparison.floor:.0e}."
    )
    for name, remark in _without_errors(comparison):
        console.print(Text(visible(f"{name}: {remark}")), soft_wrap=True)
    if plot is not None:
        draw(comparison, plot)
        console.print(f"Plot: {plot}")
    if json_file is not None:
        write_atomically(json_file, json.dumps(as_json(comparison), indent=2) + "\n")
        console.print(f"JSON: {json_file}")


def _loaded(text: str) -> Target:
    """A target that was named on the command line.

    Raises:
        UsageError: if it cannot be imported, or be used here.
    """
    try:
        return target(text)
    except (Exception, SystemExit) as error:  # whatever importing it raises
        told = str(error) if isinstance(error, RefbloError) else f"{type(error).__name__}: {error}"
        raise click.UsageError(visible(f"--target {text} cannot be used: {told}")) from error


def _without_errors(comparison: MethodComparison) -> Iterator[tuple[str, str]]:
    """The targets of which no run could be compared, with the first reason."""
    for name in comparison.targets:
        runs = [point for point in comparison.points if point.method == name]
        if all(point.error is None for point in runs):
            yield name, runs[0].remark


def _evaluations(point: Point) -> int:
    return point.evaluations


def _bytes(point: Point) -> int:
    return point.bytes


def table(comparison: MethodComparison, budget: int) -> Table:
    """A row for each method: its best error within a hundredth, a tenth and all of the budget."""
    shares = sorted({max(MIN_BUDGET, budget // 100), max(MIN_BUDGET, budget // 10), budget})
    shown = Table(title=f"{comparison.case}: relative error, {comparison.estimand.value} truth")
    shown.add_column("method")
    shown.add_column("settings")
    for share in shares:
        shown.add_column(f"≤ {share}", justify="right")
    shown.add_column("of evaluations", justify="right")
    shown.add_column("peak bytes", justify="right")
    shown.add_column("of both", justify="center")
    cheap, small = comparison.front(_evaluations), comparison.front(_bytes)
    ran = {point.method for point in comparison.points}
    settings = {method.name: method.setting for method in METHODS if method.name in ran}
    settings |= dict.fromkeys(comparison.targets, "not refblo's")
    for name, setting in settings.items():
        cells = []
        for share in shares:
            best = comparison.best(name, share)
            cells.append("–" if best is None else f"{best.error:.1e}")
        best = comparison.best(name, budget)
        spent = ("–", "–") if best is None else (str(best.evaluations), str(best.bytes))
        marks = ("e" if name in cheap else "") + ("b" if name in small else "")
        shown.add_row(name, setting, *cells, *spent, marks and f"* {marks}")
    return shown


def draw(comparison: MethodComparison, path: Path) -> None:
    """Error against evaluations on the left, against bytes on the right, both logarithmic."""
    with drawing(path, columns=2, width=11, height=5) as (left, right):
        for index, name in enumerate((*(method.name for method in METHODS), *comparison.targets)):
            runs = [p for p in comparison.points if p.method == name and p.error is not None]
            if not runs:
                continue
            turn, place = divmod(index, len(COLOURS))
            marker = "x" if name in comparison.targets else MARKERS[turn % len(MARKERS)]
            errors = [max(p.error or 0.0, 1e-17) for p in runs]
            for axes, cost in ((left, _evaluations), (right, _bytes)):
                axes.plot(
                    [cost(run) for run in runs],
                    errors,
                    label=name,
                    color=COLOURS[place],
                    linestyle=LINES[turn % len(LINES)],
                    marker=marker,
                    markersize=7 if marker == "x" else 4.5,
                )
        for axes, label in ((left, "derivative evaluations"), (right, "peak live bytes")):
            axes.set_xscale("log")
            axes.set_yscale("log")
            least, most = axes.get_xlim()
            if most > 10 * least:  # powers of ten are labels enough
                axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(label)
            axes.set_ylabel("relative error")
            axes.axhline(max(comparison.floor, 1e-17), color="#555555", linewidth=0.8)
        left.set_title(f"{comparison.case}, {comparison.estimand.value} truth")
        right.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def as_json(comparison: MethodComparison) -> dict[str, object]:
    """The comparison as plain numbers and texts."""
    return {**asdict(comparison), "estimand": comparison.estimand.value}
