"""`python -m tests.plants`: plant the errors, and write which check rejected each."""

import fcntl
import json
import os
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import click
import torch

from tests.plants.checks import prepare
from tests.plants.page import read, to_page
from tests.plants.plant import Plant, plants
from tests.plants.run import PlantVerdict, judge

OUTPUT = Path(__file__).with_name("results.json")


@click.command()
@click.option("--only", multiple=True, metavar="PATTERN", help="Plants of this name; repeatable.")
@click.option("--missing", is_flag=True, help="Only plants that the output has no rejection of.")
@click.option("--shard", default="1/1", show_default=True, help="i/n: every n-th plant.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--output", type=click.Path(path_type=Path), default=OUTPUT, show_default=True)
@click.option("--page", is_flag=True, help="Print the page of the docs from the output and stop.")
def main(
    only: tuple[str, ...], missing: bool, shard: str, jobs: int, output: Path, page: bool
) -> None:
    """Plant the errors one after another, and exit 0 if each is rejected.

    The results of other plants that the output holds already stay in it, so that shards add up.
    """
    if page:
        click.echo(to_page(read(output)), nl=False)
        return
    torch.set_num_threads(1)
    prepare()
    known = read(output) if missing and output.exists() else []
    done = {each["plant"] for each in known if each["by"] is not None}
    number, of = map(int, shard.split("/"))
    chosen = [
        plant
        for plant in plants()
        if plant.name not in done
        and (not only or any(fnmatchcase(plant.name, pattern) for pattern in only))
    ][number - 1 :: of]
    # Forks of this process: each has what was prepared.
    children = [_forked(chosen[at::jobs], output) for at in range(1, jobs)]
    failed = _plant_all(chosen[::jobs], output)
    for child in children:  # all are waited for
        failed |= os.waitpid(child, 0)[1] != 0
    sys.exit(1 if failed else 0)


def _forked(chosen: Sequence[Plant], output: Path) -> int:
    """Another process that plants a share; its exit status is not 0 if one is not rejected."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            status = int(_plant_all(chosen, output))
        finally:
            os._exit(status)
    return child


def _plant_all(chosen: Sequence[Plant], output: Path) -> bool:
    """Plant some errors, one after another. Returns whether any was not rejected."""
    failed = False
    for at, plant in enumerate(chosen, 1):
        found = judge(plant)
        failed |= found.by is None and not plant.equivalent
        click.echo(f"{at}/{len(chosen)} {found.seconds:5.1f} s  {_told(found):60}  {plant.name}")
        _keep(output, found)
    return failed


def _told(verdict: PlantVerdict) -> str:
    if verdict.by is None:
        return "THE TIME IS UP" if verdict.timed_out else "SURVIVED"
    return f"{verdict.by.where.value}: {verdict.by.name}"


def _keep(output: Path, verdict: PlantVerdict) -> None:
    """Write one result into the file, in the order of the plants; one process at a time."""
    with output.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        known = {each["plant"]: each for each in json.loads(text or "[]")}
        known[verdict.plant.name] = verdict.plain()
        ordered = [known[plant.name] for plant in plants() if plant.name in known]
        file.truncate(0)
        file.write(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
