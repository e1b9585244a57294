"""Reverse mode over 100,000 steps with twenty stored states: `python -m asv_bench.long_run`.

The answer is compared with the closed form of a diagonal quadratic, the advances with the formula of binomial
checkpointing, and the most bytes alive at once with those of a run of a few steps and two states, one
vector more for each further state. Writes asv_bench/results/long_run.json.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.cost import LiveBytes, counting
from refblo.estimators import RMD
from refblo.estimators.checkpointing import advances
from refblo.problem import BilevelProblem, FixedInitial

RESULTS = Path(__file__).resolve().parent / "results" / "long_run.json"
SIZE, STEPS, STEP_SIZE = 10_000, 100_000, 1e-5
STATES = 20
SHORT = 6
"""Steps from which on the peak no longer depends on their number: a state is computed that is not stored."""
AGREEMENT = 1e-12


def main() -> int:
    """Run, compare, write; 1 if something does not hold."""
    torch.set_num_threads(1)
    weights = torch.linspace(1, 2, SIZE, dtype=torch.float64)
    lam = torch.linspace(0, 1, SIZE, dtype=torch.float64)
    problem = BilevelProblem(
        inner=lambda lam, theta, _: (weights * (theta - lam).square()).sum() / 2,
        outer=lambda _, theta, __: theta.sin().sum(),
        initial=FixedInitial(torch.zeros(SIZE, dtype=torch.float64)),
    )
    started = time.perf_counter()
    _, _, short = run(problem, lam, SHORT, 2)
    value, evaluations, peak = run(problem, lam, STEPS, STATES)
    allowed = short + (STATES - 2) * 8 * SIZE
    # θ^T = (1 − (1 − γw)^T) λ, entry by entry.
    moved = -torch.expm1(STEPS * torch.log1p(-STEP_SIZE * weights))
    truth = moved * torch.cos(moved * lam)
    off = float((value - truth).norm() / truth.norm())
    expected = advances(STEPS, STATES) + STEPS
    found = {
        "n": SIZE,
        "steps": STEPS,
        "states": STATES,
        "peak bytes": peak,
        "peak bytes of a short run, and the further states": allowed,
        "inner gradients": evaluations,
        "inner gradients by the formula": expected,
        "relative distance from the closed form": off,
        "seconds": round(time.perf_counter() - started),
    }
    print(json.dumps(found, indent=1))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    holds = peak <= allowed and evaluations == expected and off <= AGREEMENT
    return 0 if holds else 1


def run(problem: BilevelProblem, lam: Tensor, steps: int, states: int) -> tuple[Tensor, int, int]:
    """The hypergradient, the inner gradients taken, and the most bytes alive at once."""
    method = RMD(Langevin(STEP_SIZE), Schedule.last(steps), states=states, graph_bytes=0)
    with counting() as evaluations, LiveBytes() as memory:
        value = method.estimate(problem, lam).value
    return value, evaluations.inner_gradients, int(memory.peak)


if __name__ == "__main__":
    sys.exit(main())
