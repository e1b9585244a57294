"""What `hypergradcheck` promises about its cost on 10⁵ and on 10⁶ hyperparameters."""

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from asv_bench.benchmarks.problems import WIDTHS, network
from asv_bench.benchmarks.timing import Ratio, interleaved, ratio
from asv_bench.measuring.measures import Measurement
from refblo.chain import Langevin, Schedule
from refblo.conformance import hypergradient_report
from refblo.cost import LiveBytes
from refblo.estimators import RMD
from refblo.problem import BilevelProblem, FixedInitial
from refblo.ravel import ravel_module

STEPS, STEP_SIZE = 10, 0.1
TIME_LIMIT = 8.0
DIAGONAL_SIZE, DIAGONAL_STEPS = 100_000, 100
DIAGONAL_TIME_LIMIT = 10.0
VECTOR_LIMIT = 40.0
"""Vectors of n float64 that a check may hold beside the caller's: some constant, whatever T is."""


@final
@dataclass(frozen=True, eq=False)
class LargeProblem:
    """Losses in float64 with n = p, and the RMD hypergradient of a run on them.

    Attributes:
        inner: the inner loss.
        outer: the outer loss.
        lam: λ, shape (p,).
        theta0: θ⁰, shape (n,), n = p.
    """

    inner: Callable[[Tensor, Tensor], Tensor]
    outer: Callable[[Tensor, Tensor], Tensor]
    lam: Tensor
    theta0: Tensor

    @staticmethod
    def diagonal(size: int) -> "LargeProblem":
        """½ Σ_j w_j (θ_j − λ_j)² + 0.1 Σ_j cos θ_j and ½ ‖θ − 1‖²: no operation but on vectors."""
        generator = torch.Generator().manual_seed(0)
        weights = torch.rand(size, generator=generator, dtype=torch.float64) + 0.5
        lam = torch.randn(size, generator=generator, dtype=torch.float64)
        return LargeProblem(
            inner=lambda lam, theta: (
                0.5 * (weights * (theta - lam).square()).sum() + 0.1 * theta.cos().sum()
            ),
            outer=lambda _, theta: 0.5 * (theta - 1).square().sum(),
            lam=lam,
            theta0=torch.zeros_like(lam),
        )

    @staticmethod
    def million(batch_size: int) -> "LargeProblem":
        """A perceptron with 10⁶ parameters and a weight decay for each, so many rows to a gradient."""
        generator = torch.Generator().manual_seed(0)

        def rows() -> tuple[Tensor, Tensor]:
            x = torch.randn(batch_size, WIDTHS[0], generator=generator, dtype=torch.float64)
            return x, torch.randint(0, WIDTHS[-1], (batch_size,), generator=generator)

        (x, y), (held_x, held_y) = rows(), rows()
        theta, apply = ravel_module(network().double())
        return LargeProblem(
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
    """A check on a perceptron, see `_time`."""
    return _time(LargeProblem.million(batch_size), STEPS, f"batch {batch_size}", TIME_LIMIT, rounds)


def check_time_diagonal(rounds: int = 3) -> Measurement:
    """A check on the diagonal problem with n = p = 10⁵ and T = 100, see `_time`."""
    problem = LargeProblem.diagonal(DIAGONAL_SIZE)
    return _time(problem, DIAGONAL_STEPS, "diagonal", DIAGONAL_TIME_LIMIT, rounds)


def _time(problem: LargeProblem, steps: int, which: str, limit: float, rounds: int) -> Measurement:
    """A whole check, the caller's hypergradient in it, against one such hypergradient."""
    hypergradient = problem.hypergradient(steps)
    functions = {
        "check": lambda: problem.check(hypergradient, steps),
        "one": lambda: hypergradient(problem.lam),
    }
    checks, ones = interleaved(functions, rounds).values()
    return Measurement(
        f"hypergradcheck, p = n = {problem.lam.numel()}, T = {steps}, {which}",
        "one unrolled RMD hypergradient",
        ratio(checks, ones),
        limit,
        sorted(checks)[len(checks) // 2],
        sorted(ones)[len(ones) // 2],
    )


def check_bytes(steps: int, batch_size: int = 8) -> int:
    """The most bytes alive at once in a check of a hypergradient that is there already.

    Torch's and NumPy's peaks are added, though they need not coincide: no less than the true peak.
    """
    million = LargeProblem.million(batch_size)
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
    vector = 8 * LargeProblem.million(1).theta0.numel()
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
