"""Every estimator of the gate on a device: its answer against the closed form, its peak, its time.

An answer that misses the closed form publishes no time. Peak bytes stand beside the bytes that were counted
on the CPU; a CUDA allocator rounds each piece up, so that the two need not be equal.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import click
import numpy as np
import torch
from torch import Tensor

from asv_bench.at_scale import clock, matrix_rate
from asv_bench.benchmarks.counted import ESTIMATORS, EXACT, NOISE_SCALE, ROUNDING
from refblo.chain import Langevin, Schedule
from refblo.cost import LiveBytes, measure
from refblo.estimators import HPOSGLD, Estimator
from refblo.files import write_atomically
from refblo.noise import Draws, Stream
from refblo.problems.case import Case
from refblo.problems.quadratic import case_of, instance
from refblo.types import Estimand

STEPS = 10
ROUNDS = 5


@final
@dataclass(frozen=True)
class OnDevice:
    """One estimator on the device.

    Attributes:
        estimator: the estimator's name.
        error: ‖h − closed form‖/‖closed form‖; None where the estimator is not exact.
        holds: whether an exact estimator is within rounding.
        seconds: least seconds of a hypergradient; None where the answer is wrong.
        roof: seconds that the counted operations take at the rate of a large matrix product.
        peak: most bytes alive, by the device's allocator on a GPU, counted elsewhere.
        counted: most bytes alive, counted on the CPU.
        transfers: counted transfers between host and device.
        host_synchronisations: counted waits of the host.
    """

    estimator: str
    error: float | None
    holds: bool
    seconds: float | None
    roof: float
    peak: int
    counted: int
    transfers: int
    host_synchronisations: int


def case_on(device: torch.device | str, size: int) -> Case:
    """The quadratic of the gate, n = size and p = 3/5 of it, in float64."""
    draws = Draws(20)
    numbers = instance(draws, size, max(1, 3 * size // 5), 10.0)
    return case_of("quadratic", numbers, draws, device=device, stated_in_sympy=False)


def truth(case: Case, method: Estimator, lam: Tensor) -> np.ndarray | None:
    """The closed form of what an estimator estimates; the noise is that of the default draws."""
    forms, n = case.closed_forms, case.problem.initial(case.lam).numel()
    assert forms is not None
    if method.estimand is Estimand.IMPLICIT:
        return forms.implicit(lam.numpy())
    noisy = isinstance(method, HPOSGLD) and method.dynamics.noise > 0
    rule = Langevin(case.dynamics.step_size, noise_scale=NOISE_SCALE if noisy else 0.0)
    like = torch.empty(n, dtype=torch.float64)
    noise = np.stack([Draws().normal(Stream.LANGEVIN, t, like).numpy() for t in range(STEPS)])
    return forms.unrolled(lam.numpy(), rule, Schedule.last(STEPS), noise)


def on_device(name: str, device: torch.device, size: int, rate: float) -> OnDevice:
    """Measure one estimator."""
    case, here = case_on(device, size), case_on("cpu", size)
    method = ESTIMATORS[name](Langevin(case.dynamics.step_size), STEPS)
    cost = measure(lambda: method.estimate(here.problem, here.lam))
    there = measure(lambda: method.estimate(case.problem, case.lam))
    value = method.estimate(case.problem, case.lam).value.cpu().numpy()
    closed = truth(case, method, here.lam)
    error = None
    if closed is not None:
        error = float(np.linalg.norm(value - closed) / np.linalg.norm(closed))
    exact = name in EXACT
    holds = not exact or (error is not None and error <= ROUNDING)
    return OnDevice(
        name,
        error if exact else None,
        holds,
        _seconds(lambda: method.estimate(case.problem, case.lam).value, device) if holds else None,
        cost.flops / rate,
        _peak(lambda: method.estimate(case.problem, case.lam), device),
        cost.peak_bytes,
        there.transfers,
        there.host_synchronisations,
    )


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    now, found = clock(device), []
    for _ in range(ROUNDS):
        start = now()
        run()
        found.append(now() - start)
    return min(found)


def _peak(run: Callable[[], object], device: torch.device) -> int:
    if device.type != "cuda":
        with LiveBytes() as memory:
            run()
        return int(memory.peak)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device) - before)


@click.command()
@click.option("--device", "where", default="cuda", show_default=True)
@click.option("--size", type=click.IntRange(min=2), default=1000, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(where: str, size: int, output: Path) -> None:
    """Measure every estimator of the gate, and write what was found; 1 if an answer is wrong."""
    device = torch.device(where)
    rate = matrix_rate(device, "float32", 2048 if device.type == "cuda" else 256)
    rows = [on_device(name, device, size, rate) for name in ESTIMATORS]
    document = {
        "size": size,
        "steps": STEPS,
        "finished": time.time(),
        "rows": list(map(asdict, rows)),
    }
    write_atomically(output, json.dumps(document, indent=1) + "\n")
    wrong = [row.estimator for row in rows if not row.holds]
    if wrong:
        raise SystemExit(
            f"{', '.join(wrong)} must agree with the closed form on {where}, got another answer"
        )


if __name__ == "__main__":
    main()
