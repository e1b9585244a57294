"""Measure what the core promises about its cost: `python -m asv_bench.core_costs`.

Times are processor times of one thread, taken in turns in one process, and compared round by round. The
result is printed, written to asv_bench/results/core_costs.json, and 1 is returned if a limit is missed.
The public libraries are compared with where they can be imported; put a checkout of hypertorch on
PYTHONPATH, and run with an interpreter that has torchopt and higher.
"""

import importlib.metadata
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from asv_bench.measuring.measures import (
    STEP_LIMIT,
    Measurement,
    bytes_of_noise,
    hpo_sgld_step,
    live_bytes,
    reverse_mode,
    runs_side_by_side,
    tiny_problems,
)

OUTPUT = Path(__file__).parent / "results" / "core_costs.json"


def measure(console: Console) -> tuple[list[Measurement], dict[str, float]]:
    """All measurements, and the medians of the reverse-mode contenders."""
    found: list[Measurement] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("HPO-SGLD step, 10⁶ parameters", total=15)
        for batch_size, closed_form, noise_scale, limit in (
            (128, True, 0.0, STEP_LIMIT),
            (256, True, 0.0, STEP_LIMIT),
            (512, True, 0.0, STEP_LIMIT),
            (128, True, 1.0, None),
            (256, True, 1.0, STEP_LIMIT),
            (512, True, 1.0, STEP_LIMIT),
            # Given for comparison: what it costs to leave the regulariser to autograd.
            (256, False, 0.0, None),
            (512, False, 0.0, None),
            (512, False, 1.0, None),
        ):
            found.append(hpo_sgld_step(batch_size, closed_form, noise_scale, limit))
            progress.advance(task)
        progress.update(task, description="peak live bytes")
        found += [live_bytes(), live_bytes(noise_scale=1.0), bytes_of_noise()]
        progress.advance(task)
        progress.update(task, description="tiny problems")
        found += tiny_problems()
        progress.advance(task)
        progress.update(task, description="many runs")
        found.append(runs_side_by_side())
        progress.advance(task)
        progress.update(task, description="reverse mode against the libraries")
        against_libraries, medians = reverse_mode()
        if against_libraries is not None:
            found.append(against_libraries)
    return found, medians


def show(console: Console, found: list[Measurement], medians: dict[str, float]) -> None:
    """Two tables; the second only where there are contenders."""
    table = Table("what", "against", "ratio", "quartiles", "limit", "", title="Costs of the core")
    for one in found:
        table.add_row(
            one.name,
            one.against,
            f"{one.ratio.median:.3f}",
            f"{one.ratio.lower_quartile:.3f} … {one.ratio.upper_quartile:.3f}",
            "—" if one.limit is None else f"{one.limit:g}",
            "" if one.limit is None else ("holds" if one.holds else "MISSED"),
        )
    console.print(table)
    if not medians:
        return
    contenders = Table("reverse mode on the quadratic", "ms a hypergradient")
    for name, seconds in sorted(medians.items(), key=lambda item: item[1]):
        contenders.add_row(name, f"{seconds * 1e3:.1f}")
    console.print(contenders)


def versions() -> dict[str, str]:
    """What was measured with what."""
    names = ("torch", "numpy", "torchopt", "higher")
    found = {name: _version(name) for name in names}
    return {"python": platform.python_version(), "machine": platform.machine(), **found}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "n/a"


def main() -> int:
    """Measure, print, write; the exit status."""
    torch.set_num_threads(1)
    console = Console()
    found, medians = measure(console)
    show(console, found, medians)
    document = {
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "measurements": [{**asdict(one), "holds": one.holds} for one in found],
        "reverse_mode_seconds": medians,
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"written to {OUTPUT.relative_to(OUTPUT.parents[2])}")
    return 0 if all(one.holds for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
