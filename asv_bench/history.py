"""Today's benchmarks on earlier commits: `python -m asv_bench.history --commits N`.

Each commit is checked out beside the repository, and its refblo is measured with the benchmarks and the
environment of today: counts under the name of no machine, and times, with --times, under that of this
machine's processor. A commit that has results already is skipped, so an interrupted run goes on where it
stopped.

Which commits: the oldest and the newest of those that touch refblo, then always the middle one of a span, the
spans across which a count changed first, the longest first. So the commits in which something changed are
among them, with fewer runs than there are commits.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import click

from asv_bench.machine import ANY, processor
from asv_bench.record import facts, record
from asv_bench.tidy import tidy

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "asv_bench" / "results" / "asv"
FIRST = "9e94dc8"
"""The first commit that can count a run."""

COUNTS, TIMES = r"^counts\.", r"^times\."
COMPARED = "counts.Counts."
"""What every counted commit has, and changes are looked for in."""
ANSWERS = "counts.Counts.track_error"
"""What is no count, and may differ in its last digits from one run to the next."""


def candidates() -> list[str]:
    """The commits that touch refblo since counts exist, the oldest first."""
    listed = _git("rev-list", "--first-parent", f"{FIRST}^..HEAD", "--", "refblo")
    return listed.split()[::-1]


def figures(commit: str, machine: str) -> dict[str, list[object]]:
    """What was measured at a commit: benchmark → values; nothing if it was not."""
    found: dict[str, list[object]] = {}
    for path in RESULTS.joinpath(machine).glob(f"{commit[:8]}-*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        column = document["result_columns"].index("result")
        found |= {name: columns[column] for name, columns in document["results"].items()}
    return found


def following(commits: Sequence[str], known: Mapping[str, object]) -> str | None:
    """Which commit to measure next, or None if all are known.

    Args:
        commits: in their order.
        known: commit → its figures, for those that were measured.
    """
    for end in (commits[0], commits[-1]):
        if end not in known:
            return end
    places = [place for place, commit in enumerate(commits) if commit in known]
    spans = [
        (known[commits[left]] != known[commits[right]], right - left, left)
        for left, right in pairwise(places)
        if right - left > 1
    ]
    if not spans:
        return None
    _, length, left = max(spans, key=lambda span: (span[0], span[1], -span[2]))
    return commits[left + length // 2]


def spread(commits: Sequence[str], number: int) -> list[str]:
    """So many of the commits, at equal distances, with the first and the last."""
    if number >= len(commits):
        return list(commits)
    last = len(commits) - 1
    return [commits[round(place * last / max(1, number - 1))] for place in range(number)]


def asv_command(commit: str, benchmarks: str, machine: str) -> list[str]:
    """What measures one commit."""
    return [
        *asv("run", "--environment", f"existing:{sys.executable}", "--set-commit-hash", commit),
        *("--machine", machine, "--bench", benchmarks),
    ]


def asv(*words: str) -> list[str]:
    """A command of asv with the configuration of this repository."""
    configuration = ROOT / "asv_bench" / "asv.conf.json"
    return [sys.executable, "-m", "asv", "--config", str(configuration), *words]


def know_machine(machine: str) -> None:
    """Tell asv what there is to know of a machine."""
    words = [word for name, value in facts(machine).items() for word in (f"--{name}", value)]
    subprocess.run(asv("machine", "--yes", *words), check=True)


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise click.ClickException(f"git {words[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def measure(commit: str, benchmarks: str, machine: str) -> int:
    """Measure one commit in a checkout of its own; asv's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--detach", str(tree), commit)
        try:
            return measure_tree(tree, commit, benchmarks, machine)
        finally:
            _git("worktree", "remove", "--force", str(tree))


def measure_tree(tree: Path, commit: str, benchmarks: str, machine: str) -> int:
    """Measure the refblo in a folder as that of a commit; asv's exit status."""
    if machine == ANY or benchmarks == TIMES:
        return record(RESULTS, tree, commit, benchmarks, machine)
    know_machine(machine)
    environment = {**os.environ, "ASV_PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = asv_command(commit, benchmarks, machine)
    status = subprocess.run(command, env=environment, check=False).returncode
    tidy(RESULTS)
    return status


def counts_of(commit: str) -> str:
    """The exact figures of a commit that was measured, as one text that is compared; else nothing."""
    counts = {
        name: values
        for name, values in figures(commit, ANY).items()
        if name.startswith(COMPARED) and name != ANSWERS and values is not None
    }
    return json.dumps(counts, sort_keys=True) if counts else ""


def measure_counts(number: int, benchmarks: str = COUNTS) -> list[str]:
    """Count until so many commits have counts; those that today's benchmarks do not fit."""
    commits, failed = candidates(), []
    known = {commit: counts for commit in commits if (counts := counts_of(commit))}
    while len(known) < number and (commit := following(commits, known)) is not None:
        subject = _subject(commit)
        click.echo(subject)
        status = measure(commit, benchmarks, ANY)
        counts = counts_of(commit)
        if counts:
            known[commit] = counts
        else:
            commits.remove(commit)
        if status != 0:
            failed.append(subject)
    return failed


def measure_times(number: int) -> list[str]:
    """Time so many commits among those with counts; those that today's benchmarks do not fit."""
    machine, failed = processor(), []
    for commit in spread([one for one in candidates() if counts_of(one)], number):
        subject = _subject(commit)
        if figures(commit, machine):
            click.echo(f"{subject}: timed already")
            continue
        click.echo(subject)
        if measure(commit, TIMES, machine) != 0:
            failed.append(subject)
    return failed


def _subject(commit: str) -> str:
    return _git("show", "--no-patch", "--format=%h %s", commit)


@click.command()
@click.option("--commits", "number", type=click.IntRange(min=2), default=30, show_default=True)
@click.option("--counts", default=COUNTS, help="A regular expression: which of the counts.")
@click.option("--times", is_flag=True, help="Times on this machine, of commits that have counts.")
@click.option(
    "--here",
    default=None,
    help="A regular expression: the benchmarks to run at this commit.",
)
@click.option("--list", "only_list", is_flag=True, help="List the commits that have results.")
def history(number: int, counts: str, *, times: bool, here: str | None, only_list: bool) -> None:
    """Measure earlier commits until so many have results."""
    if only_list:
        for commit in candidates():
            machines = {"counts": ANY, "times": processor()}
            kinds = [kind for kind, machine in machines.items() if figures(commit, machine)]
            if kinds:
                click.echo(f"{_subject(commit)}: {' and '.join(kinds)}")
        return
    if here is not None:
        machine = ANY if here == COUNTS else processor()
        sys.exit(measure_tree(ROOT, _git("rev-parse", "HEAD"), here, machine))
    failed = measure_times(number) if times else measure_counts(number, counts)
    for subject in failed:
        click.echo(f"today's benchmarks do not fit {subject}", err=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    history()
