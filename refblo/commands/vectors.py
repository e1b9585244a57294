"""`refblo vectors`."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from refblo.errors import ArgumentError
from refblo.files import one_process


@click.group()
def vectors() -> None:
    """Test vectors for implementers in any language: JSON files, every number with a rigorous radius."""


@vectors.command()
@click.argument(
    "directory", type=click.Path(path_type=Path, file_okay=False), default=Path("vectors")
)
def write(directory: Path) -> int:
    """Write all test vectors into DIRECTORY (./vectors unless given)."""
    from refblo.vectors.document import write as write_all

    with one_process("DIRECTORY", directory):
        for path in write_all(directory):
            click.echo(str(path))
    return 0


@vectors.command()
@click.argument("results", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--vectors",
    "directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The test vectors; otherwise those that come with refblo.",
)
@click.option(
    "--floor",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=1e-9,
    show_default=True,
    help="A relative deviation that passes as rounding.",
)
def verify(results: Path, directory: Path | None, floor: float) -> int:
    """Judge RESULTS, a JSON file: the id of a vector ↦ a list of decimal strings.

    Exit status 0 if every result is valid or acceptable and there is at least one, 1 if not, 2 if a file
    is malformed or was tampered with.
    """
    from refblo.vectors.read import in_directory, results_of, shipped
    from refblo.vectors.verify import verify as judge

    known = shipped() if directory is None else in_directory(directory)
    verdicts = judge(results_of(str(results), results.read_bytes()), known, floor)
    if not verdicts:
        raise ArgumentError(f"{results.name} must hold at least one result, got none")
    table = Table()
    table.add_column("vector", no_wrap=True)
    for heading in ("problem", "asked for", "verdict", "digits", "which is"):
        table.add_column(heading)
    for verdict in verdicts:
        vector = verdict.vector
        asked = (
            vector.estimand
            if vector.estimator == "exact"
            else f"{vector.estimand}: {vector.estimator}"
        )
        table.add_row(
            vector.id,
            vector.problem,
            asked,
            f"[{'green' if verdict.passed else 'red'}]{verdict.result}",
            f"{verdict.digits:.1f}",
            ", ".join(verdict.flags),
        )
    console = Console()
    console.print(table)
    failed = sum(not verdict.passed for verdict in verdicts)
    missing = len(known) - len(verdicts)
    console.print(
        f"{len(verdicts)} results, {failed} of them wrong; {missing} vectors have no result",
        highlight=False,
    )
    return 1 if failed else 0
