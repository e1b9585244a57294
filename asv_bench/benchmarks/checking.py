"""What `hypergradcheck` promises about its cost on 10⁶ hyperparameters."""

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from refblo.chain import Langevin, Schedule
from refblo.conformance import hypergradient_report
from refblo.cost import LiveBytes
from refblo.estimators import RMD
from refblo.problem import BilevelProblem, FixedInitial
from refblo.ravel import ravel_module

from .measures import Measurement
from .problems import WIDTHS, network
from .timing import Ratio, interleaved, ratio

STEPS, STEP_SIZE = 10, 0.1
TIME_LIMIT = 20.0
VECTOR_LIMIT = 40.0
"""Vectors of n float64 that a check may hold beside the caller's: some constant, whatever T is."""


@final
@dataclass(frozen=True, eq=False)
class Million:
    """A perceptron with 10⁶ parameters in float64, a weight decay for each, and its RMD hypergradient.

    Attributes:
        inner: cross-entropy + Σ_j λ_j θ_j².
        outer: cross-entropy on other rows.
        lam: λ, shape (p,).
        theta0: θ⁰, shape (n,), n = p.
    """

    inner: Callable[[Tensor, Tensor], Tensor]
    outer: Callable[[Tensor, Tensor], Tensor]
    lam: Tensor
    theta0: Tensor

    @staticmethod
    def of(batch_size: int) -> "Million":
        """With so many rows to a gradient."""
        generator = torch.Generator().manual_seed(0)

        def rows() -> tuple[Tensor, Tensor]:
            x = torch.randn(batch_size, WIDTHS[0], generator=generator, dtype=torch.float64)
            return x, torch.randint(0, WIDTHS[-1], (batch_size,), generator=generator)

        (x, y), (held_x, held_y) = rows(), rows()
        theta, apply = ravel_module(network().double())
        return Million(
            inner=lambda lam, theta: cross_entropy(apply(theta, x), y) + lam @ theta.square(),
            outer=lambda _, theta: cross_entropy(apply(theta, held_x), held_y),
            lam=torch.full_like(theta, 1e-4),
            theta0=theta,
        )

    def hypergradient(self, steps: int) -> Callable[[Tensor], Tensor]:
        """The whole run unrolled, by RMD."""
        problem = BilevelProblem(
            lambda lam, theta, _: self.inner(lam, theta),
            lambda lam, theta, _: self.outer(lam, theta),
            FixedInitial(self.theta0),
        )
        method = RMD(Langevin(STEP_SIZE), Schedule.last(steps))
        return lambda lam: method.estimate(problem, lam).value

    def check(self, hypergradient: Callable[[Tensor], Tensor] | Tensor, steps: int) -> None:
        """Check a hypergradient, and refuse to go on if it is called wrong: it is not.

        Raises:
            RuntimeError: if the verdict is another than right.
        """
        report = hypergradient_report(
            self.inner,
            self.outer,
            self.lam,
            self.theta0,
            hypergradient,
            steps=steps,
            step_size=STEP_SIZE,
        )
        if not report.right:
            raise RuntimeError(report.describe())


def check_time(batch_size: int, rounds: int = 3) -> Measurement:
    """A whole check, the caller's hypergradient in it, against one such hypergradient."""
    million = Million.of(batch_size)
    hypergradient = million.hypergradient(STEPS)
    functions = {
        "check": lambda: million.check(hypergradient, STEPS),
        "one": lambda: hypergradient(million.lam),
    }
    checks, ones = interleaved(functions, rounds).values()
    return Measurement(
        f"hypergradcheck, p = n = {million.lam.numel()}, T = {STEPS}, batch {batch_size}",
        "one unrolled RMD hypergradient",
        ratio(checks, ones),
        TIME_LIMIT,
        sorted(checks)[len(checks) // 2],
        sorted(ones)[len(ones) // 2],
    )


def check_bytes(steps: int, batch_size: int = 8) -> int:
    """The most bytes alive at once in a check of a hypergradient that is there already.

    Torch's and NumPy's peaks are added, though they need not coincide: no less than the true peak.
    """
    million = Million.of(batch_size)
    known = million.hypergradient(steps)(million.lam)
    tracemalloc.start()
    try:
        with LiveBytes() as memory:
            million.check(known, steps)
        return int(memory.peak) + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def check_memory(few: int = 2, many: int = 8) -> list[Measurement]:
    """The bytes of a check in vectors of n entries, and after many steps over those after few."""
    before, after = check_bytes(few), check_bytes(many)
    vector = 8 * Million.of(1).theta0.numel()
    held, grown = after / vector, after / before
    return [
        Measurement(
            f"hypergradcheck, peak live bytes at T = {many}",
            "a vector of n entries",
            Ratio(held, held, held),
            VECTOR_LIMIT,
            after,
            vector,
        ),
        Measurement(
            f"hypergradcheck, peak live bytes at T = {many}",
            f"the same at T = {few}",
            Ratio(grown, grown, grown),
            1.05,  # what Python itself holds, a few lists of numbers
            after,
            before,
        ),
    ]
