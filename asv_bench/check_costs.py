"""Measure what `hypergradcheck` costs on 10⁵ and 10⁶ hyperparameters: `python -m asv_bench.check_costs`.

The time of a check is compared with the time of one unrolled hypergradient of the same problem: both run in
turns, in one process on one thread, and each round gives one ratio of processor times. The memory of a check
is counted in vectors of n numbers. Problems, measurements and limits are in `asv_bench.measuring.checking`.
What a check looks at is counted as well: to look at less would be cheaper too.

Prints a table and writes asv_bench/results/check_costs.json. Exit status 1 if a measurement exceeds its
limit.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from asv_bench.core_costs import show, versions
from asv_bench.measuring.check_counts import check_counts
from asv_bench.measuring.checking import check_memory, check_time, check_time_diagonal
from asv_bench.measuring.measures import Measurement

OUTPUT = Path(__file__).parent / "results" / "check_costs.json"
BATCHES = (32, 128)


def measure(console: Console) -> list[Measurement]:
    """All measurements."""
    found: list[Measurement] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(BATCHES) + 2)
        for batch_size in BATCHES:
            progress.update(task, description=f"time of a check, batch {batch_size}")
            found.append(check_time(batch_size))
            progress.advance(task)
        progress.update(task, description="time of a check, diagonal")
        found.append(check_time_diagonal())
        progress.advance(task)
        progress.update(task, description="memory of a check")
        found += check_memory()
    return found


def main() -> int:
    """Measure, print, write; the exit status."""
    torch.set_num_threads(1)
    console = Console()
    found = measure(console)
    show(console, found, {})
    counts = check_counts()
    for one in counts:
        console.print(one)
    document = {
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "counts": [asdict(one) for one in counts],
        "measurements": [{**asdict(each), "holds": each.holds} for each in found],
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"written to {OUTPUT.relative_to(OUTPUT.parents[2])}")
    return 0 if all(one.holds for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
