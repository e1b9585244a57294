"""How the cost grows with n, p and T: `python -m asv_bench.scaling` writes asv_bench/results/scaling.json.

On the dense quadratic one size grows while the others stay. Operations, bytes, calls and peak memory are
counted; a time, the fastest of some runs on one thread, is measured beside them, and so are this machine's
rates. `docs/pictures.md` shows them.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import torch
from rich.console import Console

from asv_bench.benchmarks.problems import quadratic
from asv_bench.benchmarks.timing import quick_collections
from asv_bench.machine import processor
from asv_bench.roofline import Machine, fastest, machine
from refblo.chain import Langevin, Schedule
from refblo.cost import measure
from refblo.estimators import FMD, HPOSGLD, RMD, Estimator, IFTConjugateGradient, IFTNeumann
from refblo.files import write_atomically

RESULTS = Path(__file__).resolve().parent / "results" / "scaling.json"
STEP_SIZE = 0.05

METHODS: dict[str, Callable[[int], Estimator]] = {
    "HPO-SGLD": lambda T: HPOSGLD(Langevin(STEP_SIZE), Schedule.last(T)),
    "RMD": lambda T: RMD(Langevin(STEP_SIZE), Schedule.last(T)),
    "FMD": lambda T: FMD(Langevin(STEP_SIZE), Schedule.last(T)),
    "IFT-CG": lambda T: IFTConjugateGradient(Langevin(STEP_SIZE), T, 10),
    "IFT-Neumann": lambda T: IFTNeumann(Langevin(STEP_SIZE), T, STEP_SIZE, T),
}
"""Name → T to the estimator."""

FIXED = {"n": 100, "p": 20, "T": 20}
"""The sizes that do not grow."""
SWEEPS = {
    "n": (10, 30, 100, 300, 1000),
    "p": (3, 10, 30, 100, 300),
    "T": (5, 10, 20, 50, 100),
}
"""The size that grows → its values."""


@final
@dataclass(frozen=True)
class Point:
    """One estimator at one size.

    Attributes:
        grows: which of n, p and T.
        n: parameters.
        p: hyperparameters.
        T: inner steps.
        estimator: name of the estimator.
        flops: of matrix kernels.
        moved: bytes that kernels read and write.
        kernels: calls of kernels.
        peak_bytes: most bytes of storages alive at once.
        seconds: the fastest of some runs; None if it was not measured.
    """

    grows: str
    n: int
    p: int
    T: int
    estimator: str
    flops: int
    moved: int
    kernels: int
    peak_bytes: int
    seconds: float | None

    @property
    def size(self) -> int:
        """The value of the size that grows."""
        return {"n": self.n, "p": self.p, "T": self.T}[self.grows]

    def roof(self, rates: Machine) -> float:
        """Seconds that the counted work takes at least: of operations, bytes and calls the longest."""
        return max(
            self.flops / rates.flops[torch.float64],
            self.moved / rates.bandwidth,
            self.kernels * rates.call,
        )


def places() -> Iterator[tuple[str, dict[str, int], str]]:
    """Everything that is measured: what grows, the sizes, the estimator."""
    for grows, values in SWEEPS.items():
        for value in values:
            for name in METHODS:
                yield grows, {**FIXED, grows: value}, name


def point(grows: str, sizes: dict[str, int], name: str, rounds: int) -> Point:
    """Count one run, and time it unless `rounds` is 0."""
    setting = quadratic(sizes["n"], sizes["p"])
    method = METHODS[name](sizes["T"])

    def run() -> object:
        return method.estimate(setting.problem, setting.lam).value

    cost = measure(run)
    seconds = fastest(run, rounds) if rounds else None
    counted = (cost.flops, cost.moved, cost.kernels, cost.peak_bytes)
    return Point(grows, sizes["n"], sizes["p"], sizes["T"], name, *counted, seconds)


@final
@dataclass(frozen=True)
class Scaling:
    """What the file holds.

    Attributes:
        processor: the machine's name.
        measured: when, in seconds since 1970.
        rates: what one thread of it can do.
        points: all of them.
    """

    processor: str
    measured: float
    rates: Machine
    points: list[Point]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        document = {
            "processor": self.processor,
            "measured": self.measured,
            "rates": {
                "flops": self.rates.flops[torch.float64],
                "bandwidth": self.rates.bandwidth,
                "call": self.rates.call,
            },
            "points": [asdict(each) for each in self.points],
        }
        write_atomically(path, json.dumps(document, indent=1) + "\n")

    @staticmethod
    def load(path: Path = RESULTS) -> "Scaling":
        """Read it."""
        document = json.loads(path.read_text(encoding="utf-8"))
        rates = document["rates"]
        return Scaling(
            document["processor"],
            document["measured"],
            Machine({torch.float64: rates["flops"]}, rates["bandwidth"], rates["call"]),
            [Point(**each) for each in document["points"]],
        )


def main() -> int:
    """Count, measure, write."""
    torch.set_num_threads(1)
    with Console().status("measuring the machine") as status, quick_collections():
        rates, points = machine(), []
        for grows, sizes, name in places():
            status.update(f"{name}, {grows} = {sizes[grows]}")
            points.append(point(grows, sizes, name, rounds=7))
    Scaling(processor(), time.time(), rates, points).save(RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
