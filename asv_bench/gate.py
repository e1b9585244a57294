"""The regression gate: `python -m asv_bench.gate` (`make gate`).

Measures the deterministic figures of every benchmark and compares them with asv_bench/results/baseline.json:
counts by equality, since they do not depend on the machine; errors and values within rounding. Any other
difference fails, an improvement too, so that the baseline always says what the code does:
`--update` writes it anew, and the change is then reviewed like any other.
"""

import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import click
import torch
from rich.console import Console
from rich.table import Table

from asv_bench.benchmarks.counted import (
    COUNTS,
    ROUNDING,
    WrongAnswerError,
    grid,
    key,
    measured,
)
from asv_bench.benchmarks.timing import quick_collections
from refblo.files import write_atomically

BASELINE = Path(__file__).parent / "results" / "baseline.json"
UPDATE = "write it with `make gate ARGS=--update`, look at the difference, and commit it"
FAILED, USAGE, INTERRUPTED = 1, 2, 130

Rows = Mapping[str, Mapping[str, Any]]


@final
@dataclass(frozen=True)
class Difference:
    """One figure that is not what the baseline says.

    Attributes:
        row: the row's name.
        figure: the figure's name.
        was: in the baseline; None if it is not there.
        now: measured; None if it was not.
        worse: whether it is a regression; otherwise an improvement, or a change of the grid.
    """

    row: str
    figure: str
    was: object
    now: object
    worse: bool


class BaselineError(Exception):
    """There is no baseline that can be compared with."""


def compare(baseline: Rows, found: Rows) -> list[Difference]:
    """Every figure that differs."""
    return [
        difference
        for name in sorted(baseline.keys() | found.keys())
        for difference in _row(name, baseline.get(name), found.get(name))
    ]


def _row(
    name: str, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> Iterator[Difference]:
    if was is None or now is None:
        gone = now is None
        yield Difference(name, "row", None if was is None else "there", gone and "gone", gone)
        return
    for figure in COUNTS:
        before, after = was.get(figure), now[figure]
        if before != after:
            yield Difference(name, figure, before, after, before is None or after > before)
    yield from _answer(name, was, now)


def _answer(name: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    before, after = was.get("error"), now["error"]
    if before is None or after is None:
        if before is not after:
            yield Difference(name, "error", before, after, True)
        return
    if not abs(after - before) <= ROUNDING:  # a figure that is not a number differs
        yield Difference(name, "error", before, after, not after < before)
    pairs = zip(was["value"], now["value"], strict=True)
    if not all(abs(one - other) <= ROUNDING for one, other in pairs):
        yield Difference(name, "value", was["value"], now["value"], True)


def load(path: Path) -> dict[str, Any]:
    """The baseline.

    Raises:
        BaselineError: if it is missing or no baseline, with what to do.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BaselineError(f"there is no baseline at {path.name}: {UPDATE}") from error
    except (OSError, ValueError) as error:
        raise BaselineError(
            f"the baseline {path.name} cannot be read ({error}): {UPDATE}"
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("rows"), dict):
        raise BaselineError(f"the baseline {path.name} has no rows: {UPDATE}")
    return document


def save(path: Path, found: Rows) -> None:
    """Write a baseline, whole or not at all."""
    document = {"versions": versions(), "rows": found}
    write_atomically(path, json.dumps(document, indent=1) + "\n")


def versions() -> dict[str, str]:
    """What the figures were measured with."""
    return {"torch": torch.__version__.split("+")[0], "machine": platform.machine()}


def show(console: Console, differences: list[Difference]) -> None:
    """One row a difference."""
    table = Table("row", "figure", "baseline", "now", "", title="Figures that changed")
    for one in differences:
        table.add_row(
            one.row,
            one.figure,
            _shown(one.was),
            _shown(one.now),
            "WORSE" if one.worse else "changed",
        )
    console.print(table)


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def measure_all(console: Console) -> dict[str, dict[str, Any]]:
    """The grid, with progress."""
    from dataclasses import asdict

    torch.set_num_threads(1)
    found: dict[str, dict[str, Any]] = {}
    with console.status("measuring") as status, quick_collections():
        for where in grid():
            name = key(*where)
            status.update(name)
            # Through JSON, so that what is compared is what a file can hold.
            found[name] = json.loads(json.dumps(asdict(measured(*where))))
    return found


@click.command()
@click.option("--update", is_flag=True, help="Write the baseline anew.")
@click.option(
    "--baseline", type=click.Path(dir_okay=False, path_type=Path), default=BASELINE, hidden=True
)
def gate(update: bool, baseline: Path) -> None:
    """Compare the deterministic costs with the committed baseline."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        before = None if update else load(baseline)
        found = measure_all(console)
    except (BaselineError, WrongAnswerError) as error:
        click.echo(f"gate: {error}", err=True)
        sys.exit(FAILED if isinstance(error, WrongAnswerError) else USAGE)
    except KeyboardInterrupt:
        click.echo("gate: interrupted; the baseline is as it was", err=True)
        sys.exit(INTERRUPTED)
    if before is None:
        save(baseline, found)
        console.print(f"{len(found)} rows written to {os.path.relpath(baseline)}")
        return
    if before.get("versions") != versions():
        console.print(
            f"the baseline was measured with {before.get('versions')}, this is {versions()}: "
            "kernels may differ for that reason"
        )
    differences = compare(before["rows"], found)
    if not differences:
        console.print(f"{len(found)} rows as in the baseline")
        return
    show(console, differences)
    worse = sum(difference.worse for difference in differences)
    console.print(
        f"{len(differences)} figures changed, {worse} for the worse. If it is meant: {UPDATE}"
    )
    sys.exit(FAILED)


if __name__ == "__main__":
    gate()
