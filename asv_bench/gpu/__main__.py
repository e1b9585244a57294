"""`python -m asv_bench.gpu`: run the parts that an archive lacks, the most valuable first."""

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from asv_bench.gpu.archive import ROOT, Archive, PartResult, archives, facts
from asv_bench.gpu.page import PAGE, page
from asv_bench.gpu.parts import LIMIT, PARTS, Part, chosen
from refblo.errors import ArgumentError
from refblo.files import write_atomically

REPOSITORY = Path(__file__).resolve().parents[2]
KEPT = 4000
"""Characters of a part's output that are kept."""


def missing(parts: Sequence[Part]) -> list[str]:
    """Packages that are not installed here."""
    return sorted(
        {name for part in parts for name in part.needs if importlib.util.find_spec(name) is None}
    )


def run(part: Part, device: str, *, small: bool, limit: float = LIMIT) -> PartResult:
    """Run one part in a process of its own."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "found.json"
        command = part.command(device, str(result), small=small)
        try:
            done = subprocess.run(
                command,
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=limit,
                check=False,
            )
            status, output = done.returncode, done.stdout
        except subprocess.TimeoutExpired as error:
            # The text of a process that was ended comes as bytes, whatever was asked for.
            printed: object = error.stdout
            output = printed.decode(errors="replace") if isinstance(printed, bytes) else ""
            status = None
        found = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    seconds = time.monotonic() - begun
    return PartResult(part.name, seconds, time.time(), status, output[-KEPT:], found)


def commit_of(given: str | None) -> str:
    """The commit that was named, or that of the repository.

    Raises:
        ArgumentError: if none was named, and this is a plain copy of the source.
    """
    if given:
        return given
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ArgumentError(
            "--commit must be given where the source is no git repository, got none; on the command line of "
            "make it is COMMIT=..."
        ) from error
    return done.stdout.strip()


@click.command()
@click.argument("names", nargs=-1)
@click.option("--device", default="cuda", show_default=True)
@click.option("--commit", default=None, help="Of the source; needed where git does not know it.")
@click.option(
    "--archive",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="The archive; by the machine and the commit under asv_bench/results/gpu if not given.",
)
@click.option("--minutes", type=click.FloatRange(min=0), default=25, show_default=True)
@click.option("--small", is_flag=True, help="Small sizes, to try everything on a CPU.")
@click.option("--page/--no-page", "write_page", default=True, help="Write docs/on-a-gpu.md.")
@click.option("--list", "list_them", is_flag=True, help="List the parts and stop.")
def main(
    names: tuple[str, ...],
    device: str,
    commit: str | None,
    folder: Path | None,
    minutes: float,
    *,
    small: bool,
    write_page: bool,
    list_them: bool,
) -> None:
    """Run the parts NAMES, all of them if none is named; what has ended in the archive is kept.

    Nothing is installed. A part takes at most 8 minutes, and none is begun that is not expected to end
    within --minutes.
    """
    if list_them:
        for part in PARTS:
            click.echo(f"{part.name:18} {part.expected:4} s  {part.what}")
        return
    try:
        status = _session(names, device, commit, folder, minutes, small=small)
    except ArgumentError as error:
        raise click.UsageError(str(error)) from error
    if write_page:
        write_atomically(PAGE, page(archives()))
        click.echo(f"written: {PAGE.relative_to(REPOSITORY)}")
    sys.exit(status)


def _session(
    names: tuple[str, ...],
    device: str,
    commit: str | None,
    folder: Path | None,
    minutes: float,
    *,
    small: bool,
) -> int:
    """Run what is to be run; the exit status."""
    known = [part.name for part in PARTS]
    if unknown := set(names) - set(known):
        raise ArgumentError(
            f"NAMES must be among {', '.join(known)}, got {', '.join(sorted(unknown))}"
        )
    where = torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(
            "--device must be one that torch sees, got cuda and no GPU; give --device cpu --small to try the "
            "command"
        )
    parts = chosen(names)
    if lacking := missing(parts):
        raise ArgumentError(
            f"packages must be installed for {sys.executable}, got no {', '.join(lacking)}; install them, or "
            "name the parts that do without"
        )
    machine = facts(where, commit_of(commit))
    archive = Archive(folder or ROOT / machine.folder)
    archive.begin(machine)
    begun, status = time.monotonic(), 0
    for part in parts:
        before = archive.load(part.name)
        if before is not None and before.ended:
            click.echo(f"{part.name:18} there already")
            continue
        left = 60 * minutes - (time.monotonic() - begun)
        if left < (5 if small else part.expected):
            click.echo(f"{part.name:18} not begun: {left:.0f} s left, {part.expected} s expected")
            status = 1
            continue
        result = run(part, device, small=small, limit=min(LIMIT, left))
        archive.save(result)
        ended = "ended" if result.ended else f"status {result.status}"
        click.echo(f"{part.name:18} {ended}, {result.seconds:.0f} s")
        if not result.ended:
            status = 1
    click.echo(f"archive: {archive.folder}; {time.monotonic() - begun:.0f} s")
    return status


if __name__ == "__main__":
    main()
