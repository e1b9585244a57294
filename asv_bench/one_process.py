"""Run asv's benchmarks in this one process: `python asv_bench/one_process.py REGEX`, figures as JSON.

asv starts a process for each figure. Figures that are all in one cache need none: starting Python and torch
250 times takes longer than counting. This file is run by its path, so that refblo comes from PYTHONPATH.
"""

import contextlib
import io
import json
import math
import re
import sys
import traceback
from itertools import product
from pathlib import Path
from typing import Any

from asv_runner.benchmarks.mark import SkipNotImplemented
from asv_runner.discovery import disc_benchmarks, list_benchmarks

BENCHMARKS = Path(__file__).resolve().parent / "benchmarks"


def figures(pattern: str) -> dict[str, list[float | None]]:
    """The values of every benchmark whose name matches; None if it fails, not a number if it is n/a."""
    caches: dict[str | None, Any] = {None: None}
    found: dict[str, list[float | None]] = {}
    for benchmark in disc_benchmarks(str(BENCHMARKS)):
        if re.search(pattern, benchmark.name):
            if benchmark.setup_cache_key not in caches:
                caches[benchmark.setup_cache_key] = benchmark.do_setup_cache()
            benchmark.set_cache(caches[benchmark.setup_cache_key])
            combinations = len(list(product(*benchmark.params)))
            found[benchmark.name] = [_figure(benchmark, index) for index in range(combinations)]
    return found


def _figure(benchmark: Any, index: int) -> float | None:
    if benchmark.params:
        benchmark.set_param_idx(index)
    try:
        if benchmark.do_setup():
            return math.nan
        value: float = benchmark.do_run()
    except (NotImplementedError, SkipNotImplemented):
        return math.nan
    except Exception:
        traceback.print_exc()
        return None
    else:
        benchmark.do_teardown()
        return value


def main() -> int:
    """The command; 2 if a benchmark fails, as asv's."""
    listed = io.StringIO()
    list_benchmarks(str(BENCHMARKS), listed)
    with contextlib.redirect_stdout(sys.stderr):
        found = figures(sys.argv[1])
    json.dump({"benchmarks": json.loads(listed.getvalue()), "figures": found}, sys.stdout)
    return 2 if any(value is None for values in found.values() for value in values) else 0


if __name__ == "__main__":
    sys.exit(main())
