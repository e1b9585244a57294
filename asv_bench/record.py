"""Figures in the files that asv keeps: one for each commit and machine, and a list of the benchmarks."""

import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asv.results import Results
from asv.runner import BenchmarkResult
from asv.util import get_cpu_info, get_memsize

from asv_bench.machine import ANY
from refblo.files import write_atomically

HERE = Path(__file__).resolve().parent
ONE_PROCESS = HERE / "one_process.py"
ENVIRONMENT = "existing"
FORMAT = 2
"""Of asv's list of benchmarks."""
FAILED, NO_ANSWER = 2, 1


def record(results: Path, tree: Path, commit: str, pattern: str, machine: str) -> int:
    """Measure the refblo in a folder in one process, and keep the figures as those of a commit.

    Args:
        results: asv's folder of results.
        tree: the folder with refblo.
        commit: the full hash.
        pattern: a regular expression for the names of benchmarks whose figures are all in a cache.
        machine: the name under which the figures are kept.

    Returns:
        0 if all is well, 2 if some figures failed, 1 if nothing could be measured.
    """
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    begun = datetime.now(UTC)
    command = [sys.executable, str(ONE_PROCESS), pattern]
    done = subprocess.run(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in {0, FAILED}:
        return NO_ANSWER
    answer = json.loads(done.stdout)
    keep(results, commit, _date(tree, commit), machine, answer, begun)
    return done.returncode


def keep(
    results: Path,
    commit: str,
    date: int,
    machine: str,
    answer: dict[str, Any],
    begun: datetime,
) -> None:
    """Write what `one_process` answered, beside what is kept of the commit already.

    Args:
        results: asv's folder of results.
        commit: the full hash.
        date: of the commit, in milliseconds since 1970.
        machine: the name under which the figures are kept.
        answer: the benchmarks and their figures.
        begun: when measuring began.
    """
    known = facts(machine)
    parameters = {**known, "python": ENVIRONMENT}
    kept = Results(parameters, {}, commit, date, ENVIRONMENT, ENVIRONMENT, {})
    kept.load_data(str(results))
    benchmarks = {each["name"]: each for each in answer["benchmarks"]}
    for name, values in answer["figures"].items():
        nothing = [None] * len(values)
        failed = FAILED if None in values else 0
        result = BenchmarkResult(values, nothing, nothing, failed, "", None)
        kept.add_result(benchmarks[name], result, started_at=begun)
    (results / machine).mkdir(parents=True, exist_ok=True)
    kept.save(str(results))
    _write(results / machine / "machine.json", {**known, "version": 1})
    _write(results / "benchmarks.json", {**dict(sorted(benchmarks.items())), "version": FORMAT})


def facts(machine: str) -> dict[str, str]:
    """What asv keeps of a machine; where counts are kept, nothing is known of it."""
    found = {
        "arch": platform.machine(),
        "cpu": get_cpu_info(),
        "num_cpu": str(multiprocessing.cpu_count()),
        "os": f"{platform.system()} {platform.release()}",
        "ram": str(get_memsize()),
    }
    if machine == ANY:
        found = dict.fromkeys(found, "any")
    return {**found, "machine": machine}


def _date(tree: Path, commit: str) -> int:
    # When it was committed: when it was written may be out of order on the branch.
    command = ["git", "-C", str(tree), "show", "--no-patch", "--format=%ct", commit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return 1000 * int(done.stdout.strip() or time.time())


def _write(path: Path, document: object) -> None:
    write_atomically(path, json.dumps(document, indent=1, sort_keys=True) + "\n")
