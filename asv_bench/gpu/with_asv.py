"""The benchmarks of asv that need a GPU, by asv in fresh processes, since CUDA survives no fork.

asv wants a git repository. In a plain copy of the source the benchmarks are run without it.
"""

import json
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import click

from asv_bench.benchmarks.estimators import OnAGPU
from refblo.files import write_atomically

FOLDER = Path(__file__).resolve().parents[1]


def by_asv(commit: str) -> tuple[dict[str, Any], int]:
    """asv's results as they are, by file, and its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        configuration = json.loads((FOLDER / "asv.conf.json").read_text(encoding="utf-8"))
        configuration |= {
            "repo": str(FOLDER.parent),
            "benchmark_dir": str(FOLDER / "benchmarks"),
            "results_dir": folder,
        }
        path = Path(folder) / "asv.conf.json"
        path.write_text(json.dumps(configuration), encoding="utf-8")
        asv = [sys.executable, "-m", "asv", "--config", str(path)]
        subprocess.run([*asv, "machine", "--yes"], check=True)
        run = ["run", "--launch-method", "spawn", "--python", sys.executable, "--bench", "OnAGPU"]
        done = subprocess.run([*asv, *run, "--set-commit-hash", commit], check=False)
        results = {
            found.stem: json.loads(found.read_text(encoding="utf-8"))["results"]
            for found in sorted(Path(folder).glob("*/*.json"))
            if found.name != "machine.json"
        }
    return results, done.returncode


def by_hand() -> dict[str, Any]:
    """The same figures without asv; None where a benchmark says that it is not for this machine."""
    found: dict[str, Any] = {}
    for problem, estimator, steps in product(*OnAGPU.params):
        benchmark = OnAGPU()
        figures = {}
        try:
            benchmark.setup(problem, estimator, steps)
        except NotImplementedError:
            found[f"{problem} | {estimator} | T = {steps}"] = None
            continue
        for name in ("track_milliseconds", "track_allocated"):
            figures[name] = getattr(benchmark, name)(problem, estimator, steps)
        found[f"{problem} | {estimator} | T = {steps}"] = figures
    return found


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(output: Path) -> None:
    """Run `OnAGPU`, and write the results."""
    commit, status = _commit(), 0
    if commit is None:
        document: dict[str, Any] = {"by": "hand", "results": by_hand()}
    else:
        results, status = by_asv(commit)
        document = {"by": "asv", "results": results}
    write_atomically(output, json.dumps(document, indent=1) + "\n")
    raise SystemExit(status)


def _commit() -> str | None:
    """Of the repository; None in a plain copy."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    main()
