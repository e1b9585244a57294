"""Table 1 of Kim and Hospedales from exact counts."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from asv_bench.exponents import cost, fit
from refblo.chain import Langevin, Schedule
from refblo.cost import measure
from refblo.estimators import HPOSGLD, RMD, Compiled
from refblo.problem import BilevelProblem, FixedInitial

ROOT = Path(__file__).resolve().parent.parent.parent
RULE = Langevin(1e-3)


def test_a_power_is_fitted() -> None:
    assert fit([1, 2, 4, 8, 16], [3 * k**2 for k in (1, 2, 4, 8, 16)]) == pytest.approx(2)


def test_hpo_sgld_takes_the_same_space_for_any_number_of_steps() -> None:
    costs = [cost(HPOSGLD(RULE, Schedule(T - 2, 2)), 50, 3) for T in (4, 8, 12, 16, 20)]
    assert len({found.peak_bytes for found in costs}) == 1
    # Time is affine in T: equal steps, equal differences.
    operations = [found.operations for found in costs]
    assert len({b - a for a, b in pairwise(operations)}) == 1


@pytest.mark.full
@pytest.mark.timeout(900)
def test_every_exponent_of_the_table_is_found() -> None:
    # In a process of its own: the tests' shape checker would look at every kernel call.
    command = [sys.executable, "-m", "asv_bench.exponents"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_reverse_mode_stores_little_more_than_the_trajectory() -> None:
    n, T = 10_000, 100
    weights = torch.linspace(1, 2, n, dtype=torch.float64)
    problem = BilevelProblem(
        inner=lambda lam, theta, _: (weights * (theta - lam).square()).sum(),
        outer=lambda _, theta, __: theta.sin().sum(),
        initial=FixedInitial(torch.zeros(n, dtype=torch.float64)),
    )
    lam = torch.linspace(0, 1, n, dtype=torch.float64)
    method = RMD(Langevin(0.01), Schedule.last(T), graph_bytes=0)
    assert measure(lambda: method.estimate(problem, lam)).peak_bytes <= 1.3 * T * n * 8
    # Traced, it stores every tenth iterate, and one kernel's memory beside.
    traced = Compiled(method, backend="eager")
    assert measure(lambda: traced.estimate(problem, lam)).peak_bytes <= 0.4 * T * n * 8
