"""Today's deterministic benchmarks on earlier commits: `python -m asv_bench.history --commits N`.

Each commit is checked out beside the repository, and its refblo is measured with the benchmarks and the
environment of today. A commit that has results already is skipped, so an interrupted run goes on where it
stopped; one that today's benchmarks do not fit is said, and has none.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from asv_bench.tidy import tidy

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "asv_bench" / "results" / "asv"
BENCHMARKS = r"Counts.track_(flops|peak_bytes)|CountsAtScale"


def commits(number: int) -> list[str]:
    """The last commits' hashes, the oldest first."""
    listed = _git("rev-list", "--first-parent", f"--max-count={number}", "HEAD")
    return listed.split()[::-1]


def measured(commit: str) -> bool:
    """Whether there is a result file of this commit."""
    return any(RESULTS.glob(f"*/{commit[:8]}-*.json"))


def asv_command(commit: str) -> list[str]:
    """What measures one commit."""
    return [
        *(sys.executable, "-m", "asv", "--config", str(ROOT / "asv_bench" / "asv.conf.json")),
        *("run", "--environment", f"existing:{sys.executable}", "--set-commit-hash", commit),
        *("--quick", "--bench", BENCHMARKS),
    ]


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise click.ClickException(f"git {words[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def measure(commit: str) -> int:
    """Measure one commit in a checkout of its own; asv's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--detach", str(tree), commit)
        try:
            environment = {**os.environ, "ASV_PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
            status = subprocess.run(asv_command(commit), env=environment, check=False).returncode
            tidy(RESULTS)
            return status
        finally:
            _git("worktree", "remove", "--force", str(tree))


@click.command()
@click.option("--commits", "number", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--list", "only_list", is_flag=True, help="Only say what would be measured.")
def history(number: int, only_list: bool) -> None:
    """Measure the last commits, the oldest first."""
    failed = []
    for commit in commits(number):
        subject = _git("show", "--no-patch", "--format=%h %s", commit)
        if measured(commit):
            click.echo(f"{subject}: measured already")
        elif only_list:
            click.echo(f"{subject}: to be measured")
        else:
            click.echo(subject)
            if measure(commit) != 0:
                failed.append(subject)
    for subject in failed:
        click.echo(f"today's benchmarks do not fit {subject}", err=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    history()
