"""Runs in a process of its own: a row of the gate on the pretend device, plain, and with a fault planted."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import final

from torch import Tensor

from asv_bench.benchmarks.counted import ESTIMATORS, posed
from asv_bench.benchmarks.on_a_device import PROBLEM, row_on_a_device
from refblo.cost import decide
from refblo.estimators import Estimator
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Estimand, Hypergradient

STEPS = 3


@final
@dataclass(frozen=True)
class Planted:
    """An estimator that first does something with λ."""

    method: Estimator
    plant: Callable[[Tensor], Tensor]
    name: str = field(default="planted", kw_only=True)

    @property
    def estimand(self) -> Estimand:
        return self.method.estimand

    def estimate(
        self, problem: BilevelProblem, lam: Tensor, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        return self.method.estimate(problem, self.plant(lam), draws)


def looked_at(lam: Tensor) -> Tensor:
    return lam if decide(lam.sum() > 0, without_numbers=True) else -lam


def moved(lam: Tensor) -> Tensor:
    lam.cpu()
    return lam


if __name__ == "__main__":
    plain = ESTIMATORS["HPO-SGLD"](posed(PROBLEM).rule, STEPS)
    methods = {"plain": plain} | {
        plant.__name__: Planted(plain, plant) for plant in (looked_at, moved)
    }
    rows = {name: asdict(row_on_a_device(method)) for name, method in methods.items()}
    json.dump(rows, sys.stdout)
