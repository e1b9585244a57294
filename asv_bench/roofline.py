"""What this machine can do, what each estimator needs, and what it reaches: `python -m asv_bench.roofline`.

A run cannot take less than its operations over the rate of matrix products, nor than the bytes that its
kernels move over the bandwidth of memory; the larger of the two is its roof. Both rates are measured here, in
the same process, on processor time of one thread. Bytes are counted kernel by kernel, as if no cache kept
anything between two, so that what stays in a cache can be faster than its roof.

The result is the page docs/roofline.md.
"""

import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from rich.console import Console
from torch import Tensor

from asv_bench.benchmarks.problems import Setting, network_with_weight_decay, quadratic, separable
from refblo.chain import Langevin, Schedule
from refblo.cost import Cost, measure
from refblo.cost.predict import in_words
from refblo.estimators import (
    FMD,
    HPOSGLD,
    RMD,
    Estimator,
    IFTConjugateGradient,
    IFTNeumann,
    RMDFirstOrder,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "roofline.md"
ROUNDS = 7


@final
@dataclass(frozen=True)
class Machine:
    """Measured rates of one thread.

    Attributes:
        flops: operations a second of a matrix product, by dtype.
        bandwidth: bytes a second, read and written, of a copy that no cache holds.
        call: seconds of the smallest kernel call.
    """

    flops: dict[torch.dtype, float]
    bandwidth: float
    call: float


@final
@dataclass(frozen=True)
class Reached:
    """One run held against its roof.

    Attributes:
        name: of the estimator.
        where: the problem.
        cost: counted operations and bytes.
        seconds: the fastest of some rounds.
        compute: seconds that its operations take at the matrix rate.
        memory: seconds that its bytes take at the bandwidth.
        calls: seconds that its kernel calls take at least.
    """

    name: str
    where: str
    cost: Cost
    seconds: float
    compute: float
    memory: float
    calls: float

    @property
    def roof(self) -> tuple[str, float]:
        """What bounds it, and the seconds."""
        bounds = {"compute": self.compute, "memory": self.memory, "calls": self.calls}
        name = max(bounds, key=bounds.__getitem__)
        return name, bounds[name]


def fastest(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The least processor seconds of some rounds, after one that warms up."""
    run()
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def machine(size: int = 1024, numbers: int = 2**24) -> Machine:
    """Measure the rates: a square product, a copy of `numbers` float64 entries, tiny additions."""
    rates = {}
    for dtype in (torch.float32, torch.float64):
        left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
        out = torch.empty_like(left)
        product = _matmul(left, right, out)
        rates[dtype] = 2 * size**3 / fastest(product)
    source = torch.ones(numbers, dtype=torch.float64)
    target = torch.empty_like(source)
    bandwidth = 2 * 8 * numbers / fastest(lambda: target.copy_(source))
    tiny = torch.ones(1, dtype=torch.float64)

    def additions() -> None:
        for _ in range(1000):
            torch.add(tiny, tiny)

    return Machine(rates, bandwidth, statistics.median([fastest(additions, 3)]) / 1000)


def _matmul(left: Tensor, right: Tensor, out: Tensor) -> Callable[[], Tensor]:
    return lambda: torch.mm(left, right, out=out)


def runs() -> list[tuple[str, Setting, Estimator]]:
    """What is held against its roof: problem, where, and the estimator."""
    dense, wide = quadratic(), separable(100_000)
    network = network_with_weight_decay(256, closed_form=True)
    slow, fast, last = Langevin(1e-3), Langevin(0.05), Schedule.last(20)
    return [
        ("network, n = p = 10⁶, batch 256", network, HPOSGLD(slow, Schedule.last(3))),
        ("network, n = p = 10⁶, batch 256", network, RMDFirstOrder(slow, Schedule.last(3))),
        ("network, n = p = 10⁶, batch 256", network, RMD(slow, Schedule.last(3), graph_bytes=0)),
        ("separable, n = p = 10⁵", wide, HPOSGLD(fast, last)),
        ("separable, n = p = 10⁵", wide, RMD(fast, last)),
        ("separable, n = p = 10⁵", wide, IFTConjugateGradient(fast, 20, 10)),
        ("quadratic, n = 100, p = 60", dense, HPOSGLD(fast, last)),
        ("quadratic, n = 100, p = 60", dense, RMD(fast, last)),
        ("quadratic, n = 100, p = 60", dense, FMD(fast, last)),
        ("quadratic, n = 100, p = 60", dense, IFTConjugateGradient(fast, 20, 10)),
        ("quadratic, n = 100, p = 60", dense, IFTNeumann(fast, 20, 0.05, 20)),
    ]


def reach(rates: Machine, where: str, setting: Setting, method: Estimator) -> Reached:
    """Count a run, time it, and hold it against the rates."""

    def run() -> object:
        return method.estimate(setting.problem, setting.lam)

    cost = measure(run)
    return Reached(
        method.name,
        where,
        cost,
        fastest(run),
        cost.flops / rates.flops[setting.lam.dtype],
        cost.moved / rates.bandwidth,
        cost.kernels * rates.call,
    )


def page(rates: Machine, found: list[Reached]) -> str:
    """The page, in Markdown."""
    single, double = (in_words(rates.flops[d], "FLOP/s", 1000) for d in rates.flops)
    lines = [
        "# Roofline",
        "",
        "Written by `python -m asv_bench.roofline`, which measures all of it; no figure is typed by hand.",
        "",
        f"One thread of {platform.machine()} reaches {single} in float32 and {double} in float64 on matrix",
        f"products, moves {in_words(rates.bandwidth, 'B/s', 1000)} (read and written) through memory, and",
        f"spends {rates.call * 1e6:.2f} µs on the smallest kernel call from Python. A run's roof is the",
        "longest of the times that its operations, its bytes and its calls take at these rates; bytes are",
        "counted kernel by kernel as if no cache kept any, so a run whose vectors stay in a cache can beat a",
        "memory roof.",
        "",
        "| problem | estimator | FLOPs | bytes moved | calls | bound by | roof, ms | took, ms | reached |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for one in found:
        name, roof = one.roof
        words = (
            one.where,
            one.name,
            in_words(one.cost.flops, "", 1000),
            in_words(one.cost.moved),
            f"{one.cost.kernels:,}",
            name,
            f"{roof * 1e3:.2f}",
            f"{one.seconds * 1e3:.2f}",
            f"{roof / one.seconds:.0%}",
        )
        lines.append("| " + " | ".join(words) + " |")
    lines += [
        "",
        "No GPU was at hand when this page was written: what a GPU can do and what is reached there is "
        "missing."
        if not torch.cuda.is_available()
        else "The page is about the processor alone; what a GPU can do is not measured here.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure and write the page."""
    torch.set_num_threads(1)
    console = Console()
    with console.status("measuring the machine") as status:
        rates = machine()
        found = []
        for where, setting, method in runs():
            status.update(f"{method.name}, {where}")
            found.append(reach(rates, where, setting, method))
    text = page(rates, found)
    PAGE.write_text(text, encoding="utf-8")
    console.print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
