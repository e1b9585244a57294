"""`python -m tests.mutation COVERAGE DURATIONS`: draw mutants, run their tests, write what survived."""

import json
import random
import tempfile
from collections import Counter
from pathlib import Path

import click

# What a fork must not import again; refblo itself must not be imported here, for a fork imports its own copy.
import hypothesis  # noqa: F401
import numpy  # noqa: F401
import scipy.optimize
import scipy.stats  # noqa: F401
import sympy  # noqa: F401
import torch

from tests.mutation.run import Verdict, copy_of, judge, require_passing
from tests.mutation.selection import read
from tests.mutation.sites import Site, sites

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = Path(__file__).with_name("results.json")


def drawn(root: Path, count: int, seed: int) -> list[Site]:
    """As many mutants of each folder as its share of the source asks for, at least five."""
    folders: dict[str, list[Site]] = {}
    for path in sorted((root / "refblo").glob("**/*.py")):
        name = path.relative_to(root).as_posix()
        folder = path.relative_to(root / "refblo").parts[0] if path.parent.name != "refblo" else "."
        folders.setdefault(folder, []).extend(sites(name, path.read_text(encoding="utf-8")))
    total = sum(map(len, folders.values()))
    generator = random.Random(seed)
    chosen = []
    for _, every in sorted(folders.items()):
        share = max(5, round(count * len(every) / total))
        chosen += generator.sample(every, min(share, len(every)))
    generator.shuffle(chosen)
    return chosen


def judged_before(output: Path) -> list[Verdict]:
    """What an earlier run wrote; nothing where there was none."""
    if not output.exists():
        return []
    return [Verdict.of(each) for each in json.loads(output.read_text(encoding="utf-8"))]


@click.command()
@click.argument("coverage", type=click.Path(exists=True, path_type=Path))
@click.argument("durations", type=click.Path(exists=True, path_type=Path))
@click.option("--count", type=click.IntRange(min=1), default=300, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--shard", default="1/1", show_default=True, help="i/n: every n-th mutant.")
@click.option("--output", type=click.Path(path_type=Path), default=OUTPUT, show_default=True)
@click.option("--resume", is_flag=True, help="Keep what the output holds, and go on after it.")
def main(
    coverage: Path,
    durations: Path,
    count: int,
    seed: int,
    shard: str,
    output: Path,
    resume: bool,
) -> None:
    """Draw mutants over all folders, run the tests of their lines, and write what became of each.

    COVERAGE is the file of a run of the suite under coverage, DURATIONS what pytest printed in it. The output
    is written after each mutant, so that an interrupted run can be resumed.
    """
    torch.set_num_threads(1)
    selection = read(coverage, durations, ROOT)
    number, of = map(int, shard.split("/"))
    chosen = drawn(ROOT, count, seed)[number - 1 :: of]
    verdicts = judged_before(output) if resume else []
    done = {each.site for each in verdicts}
    with tempfile.TemporaryDirectory() as folder:
        copy, log = Path(folder) / "copy", Path(folder) / "log"
        copy_of(ROOT, copy)
        first = next(filter(None, (selection.of(site.path, site.line) for site in chosen)), [])
        require_passing(first, copy, log)
        for site in chosen:
            if site in done:
                continue
            found = judge(site, selection.of(site.path, site.line), copy, log)
            verdicts.append(found)
            click.echo(f"{found.outcome.value:24} {found.seconds:6.1f} s  {site}")
            plain = [each.plain() for each in verdicts]
            output.write_text(
                json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )
    tally = Counter(each.outcome for each in verdicts)
    for outcome, many in tally.items():
        click.echo(f"{outcome.value}: {many}")


if __name__ == "__main__":
    main()
