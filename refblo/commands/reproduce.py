"""`refblo reproduce`: a table or figure of the papers, run again, beside what is printed."""

from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from refblo.errors import ArgumentError, ArgumentTypeError, MissingExtraError
from refblo.experiments.durations import announcement
from refblo.experiments.registry import APART, everything, find, registry
from refblo.experiments.report import Experiment, ExperimentReport, ExperimentVerdict, Scale
from refblo.experiments.run_options import RunOptions
from refblo.experiments.store import forget, require_room
from refblo.experiments.study_report import StudyTable
from refblo.files import one_process

EVERYTHING = "all"
_COLOURS = {
    ExperimentVerdict.REPRODUCED: "green",
    ExperimentVerdict.WITHIN_SPREAD: "green",
    ExperimentVerdict.NOT_REPRODUCED: "red",
    ExperimentVerdict.OTHER_SETTINGS: "yellow",
    ExperimentVerdict.TRIED: "dim",
    ExperimentVerdict.MEASURED: "default",
    ExperimentVerdict.LEFT_OUT: "dim",
    ExperimentVerdict.ELSEWHERE: "default",
}


@click.command()
@click.argument("name", required=False)
@click.option(
    "--scale",
    type=click.Choice([scale.value for scale in Scale]),
    default=Scale.SMOKE.value,
    show_default=True,
    help="smoke: under a minute each; small: minutes, or up to 30 of one core for a table with training "
    "runs; paper: the paper's own settings.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("reproduced"),
    show_default=True,
    help="Folder for plots, JSON reports and finished parts; finished parts are not run again.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="The seed of every random draw."
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder with the paper's data sets, for --scale paper.",
)
@click.option(
    "--seeds",
    type=int,
    help="Pairs of runs for each comparison, in tables that train networks; each table has its own default.",
)
@click.option(
    "--jobs",
    type=int,
    default=1,
    show_default=True,
    help="Processes that run at the same time, in tables that train networks.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where networks are trained; the committed pages were all made on the CPU.",
)
@click.option(
    "--resume/--afresh",
    default=True,
    show_default=True,
    help="Continue with the finished parts in the output folder, or remove them first.",
)
@click.option("--list", "list_them", is_flag=True, help="List the names and stop.")
def reproduce(
    name: str | None,
    scale: str,
    output: Path,
    seed: int,
    data: Path | None,
    seeds: int | None,
    jobs: int,
    device: str,
    *,
    resume: bool,
    list_them: bool,
) -> None:
    """Run a table or figure of the papers again and print it beside the printed one.

    NAME is one of those that --list shows, or "all".
    """
    console = Console()
    if list_them:
        for known in registry().values():
            left_out = f" (not part of {EVERYTHING})" if known.name in APART else ""
            console.print(Text.assemble((f"{known.name:17}", "bold"), known.what, left_out))
        return
    if name is None:
        raise click.UsageError(
            f"NAME must be given: one of {', '.join(registry())}, or {EVERYTHING}"
        )
    try:
        options = RunOptions(data, seeds, jobs, device)
        experiments = everything() if name == EVERYTHING else [find(name)]
        chosen = [_configured(each, options, alone=name != EVERYTHING) for each in experiments]
        with one_process("--output", output):
            # Data are looked at before any of them runs, and room on the disk as well.
            for experiment in chosen:
                if isinstance(experiment, StudyTable):
                    experiment.require_data(Scale(scale), data)
            require_room(output)
            console.print(Text(announcement(chosen, Scale(scale), options)))
            for experiment in chosen:
                if not resume:
                    forget(output, experiment.name, Scale(scale))
                _run(experiment, Scale(scale), output, seed, console)
    except (ArgumentError, ArgumentTypeError, MissingExtraError) as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        console.print(
            f"Interrupted. What is finished is kept in {output}; run the same command again."
        )
        raise


def _configured(experiment: Experiment, options: RunOptions, *, alone: bool) -> Experiment:
    """The experiment with the options, where it takes any.

    Raises:
        ArgumentError: for options that the one experiment that is asked for does not take.
    """
    if isinstance(experiment, StudyTable):
        return experiment.configured(options)
    if alone and options != RunOptions(jobs=options.jobs):
        raise ArgumentError(
            f"--data, --seeds and --device must be left out for {experiment.name}, which trains no network, "
            "got one of them; leave it out"
        )
    return experiment


def _run(experiment: Experiment, scale: Scale, output: Path, seed: int, console: Console) -> None:
    """Run one experiment, and show its report."""
    with console.status(f"{experiment.name}: starting") as status:

        def progress(line: str) -> None:
            # A log has no line to rewrite, so it gets every line.
            if console.is_terminal:
                status.update(Text(line))
            else:
                click.echo(line, err=True)

        report = experiment.run(scale, output, progress, seed)
    show(report, output, console)


def show(report: ExperimentReport, output: Path, console: Console) -> None:
    """Print a report: figures side by side, then every setting, findings and files."""
    title = f"{report.experiment} ({report.scale.value} scale, seed {report.seed}): {report.what}"
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    for column in ("row", "figure", "paper", "ours", "percentile", "verdict"):
        table.add_column(column, justify="right" if column == "percentile" else "left")
    previous = None
    for row in report.rows:
        if previous is not None and row.label != previous:
            table.add_section()
        place = "" if row.percentile is None else f"{row.percentile:.1f} of {row.runs}"
        table.add_row(
            Text("" if row.label == previous else row.label),
            row.quantity,
            row.printed_text,
            row.ours_text,
            place,
            Text(row.verdict.value, style=_COLOURS[row.verdict]),
        )
        previous = row.label
    console.print(table)
    if report.claims:
        console.print("Claims, stated before the runs (ours − theirs)", style="bold")
    for line in _claims(report):
        console.print(Padding(line, (0, 0, 0, 2)))
    console.print("Settings", style="bold")
    # Rows of one label share their setting as a rule; where they do not, each is told.
    for label, setting, note in dict.fromkeys((r.label, r.setting, r.note) for r in report.rows):
        line = Text.assemble((f"{label}: ", "bold"), setting, (f" [{note}]" if note else "", "dim"))
        console.print(Padding(line, (0, 0, 0, 2)))
    console.print("Findings", style="bold")
    for finding in report.findings:
        console.print(Padding(Text(f"• {finding}"), (0, 0, 0, 2)))
    for plot in (*report.plots, f"{report.experiment}/report.json"):
        console.print(Text(f"wrote {output / plot}"))
    console.print(Text(f"{report.seconds:.1f} s"))


def _claims(report: ExperimentReport) -> Iterator[Text]:
    """The comparisons that were stated before the runs, and what the runs said."""
    for judged in report.claims:
        yield Text.assemble(
            f"• {judged.endpoint.claim} {judged.endpoint.comparison}, margin "
            f"{judged.endpoint.margin:g}: {judged.difference:.3g} ({judged.low:.3g} to "
            f"{judged.high:.3g}) over {judged.seeds} seeds: ",
            (judged.verdict, "bold"),
        )
