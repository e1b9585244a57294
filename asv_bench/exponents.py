"""Table 1 of Kim and Hospedales from exact counts: `python -m asv_bench.exponents`.

Each exponent is fitted over five sizes in a regime where one term dominates, on a problem whose products
with second derivatives cost as much as a vector: L_T = ½‖λ‖²‖θ‖², f = Σ sin θ. Nothing is timed.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from refblo.chain import Langevin, Schedule
from refblo.cost import Cost, measure
from refblo.estimators import FMD, HPOSGLD, RMD, Estimator
from refblo.problem import BilevelProblem, FixedInitial

CLOSE = 0.01
"""How far a fitted exponent may be from the integer: what the terms that do not dominate may add."""

_RULE = Langevin(1e-3)
_FEW = (80, 110, 150, 210, 300)
_MANY = (1000, 1300, 1700, 2200, 2800)


@final
@dataclass(frozen=True)
class Exponent:
    """One entry of the table.

    Attributes:
        method: the estimator's name.
        what: time (operations) or space (peak live bytes).
        of: the size that it is a power of.
        sizes: five of them.
        at: a size to the count.
        predicted: the exponent in the table.
    """

    method: str
    what: str
    of: str
    sizes: Sequence[int]
    at: Callable[[int], int]
    predicted: int


def fit(sizes: Sequence[int], counts: Sequence[int]) -> float:
    """The slope of the line through the logarithms, by least squares."""
    slope, _ = np.polyfit(np.log(sizes), np.log(counts), 1)
    return float(slope)


def cost(method: Estimator, n: int, p: int) -> Cost:
    """One hypergradient, counted."""
    problem = BilevelProblem(
        inner=lambda lam, theta, _: 0.5 * torch.dot(lam, lam) * torch.dot(theta, theta),
        outer=lambda _, theta, __: theta.sin().sum(),
        initial=FixedInitial(torch.ones(n, dtype=torch.float64)),
    )
    lam = torch.full((p,), 0.1, dtype=torch.float64)
    return measure(lambda: method.estimate(problem, lam))


@cache
def _hpo_sgld(T: int) -> Cost:
    return cost(HPOSGLD(_RULE, Schedule(T - 5, 5)), 100, 3)


@cache
def _stored(T: int) -> Cost:
    return cost(RMD(_RULE, Schedule.last(T), graph_bytes=0), 100, 3)


def _columns(T: int, n: int, p: int) -> int:
    return cost(FMD(_RULE, Schedule.last(T), block=1), n, p).operations


def _tangent(n: int, p: int) -> int:
    return cost(FMD(_RULE, Schedule.last(1)), n, p).peak_bytes


def _trajectory(n: int) -> int:
    return cost(RMD(_RULE, Schedule.last(50), graph_bytes=0), n, 3).peak_bytes


def _powers(low: int, high: int) -> list[int]:
    return [2**k for k in range(low, high + 1)]


def table_1() -> list[Exponent]:
    """The entries; a size that is not varied is chosen so that the term looked at dominates."""
    return [
        Exponent("FMD", "time", "T", _FEW, lambda T: _columns(T, 1000, 1), 1),
        Exponent("FMD", "time", "n, n ≫ p", _powers(14, 18), lambda n: _columns(1, n, 2), 1),
        Exponent(
            "FMD", "time", "p, n ≫ p", (32, 48, 64, 96, 128), lambda p: _columns(2, 2**15, p), 1
        ),
        Exponent(
            "FMD", "time", "p, p ≫ n", (724, 1024, 1448, 1800, 2400), lambda p: _columns(1, 1, p), 2
        ),
        Exponent("FMD, whole tangent", "space", "n", _powers(13, 17), lambda n: _tangent(n, 20), 1),
        Exponent("RMD", "time", "T", _FEW, lambda T: _stored(T).operations, 1),
        Exponent("RMD", "space", "T", _MANY, lambda T: _stored(T).peak_bytes, 1),
        Exponent("RMD", "space", "n", _powers(10, 14), _trajectory, 1),
        Exponent("HPO-SGLD", "time", "T", _FEW, lambda T: _hpo_sgld(T).operations, 1),
        Exponent("HPO-SGLD", "space", "T", _FEW, lambda T: _hpo_sgld(T).peak_bytes, 0),
    ]


def main() -> int:
    """Count, fit, print; 1 if an exponent is not the predicted one."""
    torch.set_num_threads(1)
    console = Console()
    shown = Table("method", "what", "in", "sizes", "fitted", "Table 1", "", title="Exponents")
    missed = 0
    with console.status("counting") as status:
        for entry in table_1():
            status.update(f"{entry.method}: {entry.what} in {entry.of}")
            fitted = fit(entry.sizes, [entry.at(size) for size in entry.sizes])
            holds = abs(fitted - entry.predicted) <= CLOSE
            missed += not holds
            sizes = f"{entry.sizes[0]} … {entry.sizes[-1]}"
            words = (entry.method, entry.what, entry.of, sizes, f"{fitted:.4f}")
            shown.add_row(*words, str(entry.predicted), "holds" if holds else "MISSED")
    console.print(shown)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
