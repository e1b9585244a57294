"""Right code is never accused: estimators of refblo and plain code, over seeds, dtypes and problems."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo import FMD, RMD, BilevelProblem, FixedInitial, IFTDense, Langevin, Schedule
from refblo.conformance import Report, hypergradient_report
from refblo.estimators import Estimator

RUNS_OF_A_CHUNK = 50
CHUNKS = 31
"""31 · 50 > 1,500 runs."""

Loss = Callable[[Tensor, Tensor], Tensor]


def draw_problem(draw: np.random.Generator) -> tuple[Loss, Loss, Tensor, Tensor, float]:
    """Inner and outer loss, λ, θ⁰ and a stable step size, of one of three families."""
    n = int(draw.integers(1, 7))
    p = int(draw.integers(1, 6))
    p += p == n

    def normal(*shape: int) -> Tensor:
        return torch.as_tensor(draw.standard_normal(shape))

    lam, theta = normal(p), normal(n)
    mixed, slope = normal(n, p), normal(n)
    family = draw.integers(3)
    condition = 10.0 ** draw.uniform(0, 3)
    basis, _ = torch.linalg.qr(normal(n, n))
    eigenvalues = torch.logspace(-float(np.log10(condition)), 0, n, dtype=torch.float64)
    hessian = (basis * eigenvalues) @ basis.T
    constant = float(10.0 ** draw.uniform(-2, 2))

    def outer(lam: Tensor, theta: Tensor) -> Tensor:
        direct = 0.1 * lam.square().sum()
        return (slope.to(theta) * theta).sin().sum() + direct + constant

    if family == 0:

        def inner(lam: Tensor, theta: Tensor) -> Tensor:
            h, m = hessian.to(theta), mixed.to(theta)
            loss: Tensor = 0.5 * theta @ (h @ theta) - theta @ (m @ lam)
            return loss

        return inner, outer, lam, theta, 0.5
    if family == 1:

        def inner(lam: Tensor, theta: Tensor) -> Tensor:
            h, m = hessian.to(theta), mixed.to(theta)
            weights = (0.3 * (m @ lam)).exp()
            loss: Tensor = 0.5 * theta @ (h @ theta) + (weights * (theta - 1).square()).sum() / 2
            return loss

        largest = float((0.3 * (mixed @ lam)).exp().max())
        return inner, outer, lam, theta, 0.5 / (1 + 2 * largest)

    def bounded(lam: Tensor, theta: Tensor) -> Tensor:
        h, m = hessian.to(theta), mixed.to(theta)
        value: Tensor = (
            (theta.tanh() @ (h @ theta.tanh())) + 0.1 * theta @ theta - theta @ (m @ lam)
        )
        return value

    return bounded, outer, lam, theta, 0.1


def problem_of(inner: Loss, outer: Loss, theta: Tensor) -> BilevelProblem:
    return BilevelProblem(
        lambda lam, z, _: inner(lam, z), lambda lam, z, _: outer(lam, z), FixedInitial(theta)
    )


def run(seed: int) -> Report:
    draw = np.random.Generator(np.random.Philox(key=seed))
    inner, outer, lam, theta, gamma = draw_problem(draw)
    steps = int(draw.integers(1, 16))
    single = bool(draw.integers(4) == 0)
    dtype = torch.float32 if single else torch.float64
    lam, theta = lam.to(dtype), theta.to(dtype)
    problem = problem_of(inner, outer, theta)
    dynamics = Langevin(gamma)
    options: dict[str, Any] = {"steps": steps, "step_size": gamma, "seed": seed}
    which = draw.integers(4)
    method: Estimator
    if which == 0:
        method = RMD(dynamics, Schedule.last(steps))
    elif which == 1:
        method = FMD(dynamics, Schedule.last(steps))
    elif which == 2 and steps > 1:
        burn = int(draw.integers(steps))
        method = RMD(dynamics, Schedule(burn, steps - burn))
        options |= {"estimand": "pathwise", "burn_in": burn}
    else:
        # Back-propagation as anybody would write it.
        def plain(at: Tensor) -> Tensor:
            at = at.clone().requires_grad_()
            z = theta.clone().requires_grad_()
            for _ in range(steps):
                (g,) = torch.autograd.grad(inner(at, z), z, create_graph=True)
                z = z - gamma * g
            return torch.autograd.grad(outer(at, z), at)[0]

        return hypergradient_report(inner, outer, lam, theta, plain, **options)
    return hypergradient_report(
        inner, outer, lam, theta, lambda at: method.estimate(problem, at).value, **options
    )


def accused(seeds: range) -> list[str]:
    found = []
    for seed in seeds:
        report = run(seed)
        if not report.right or report.findings:
            found.append(f"seed {seed}: {report.describe()}")
    return found


def test_right_code_is_not_accused() -> None:
    assert not accused(range(12))


@pytest.mark.full
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_right_code_is_not_accused_in_1500_runs(chunk: int) -> None:
    found = accused(range(chunk * RUNS_OF_A_CHUNK, (chunk + 1) * RUNS_OF_A_CHUNK))
    assert not found, "\n\n".join(found)


@pytest.mark.full
def test_implicit_differentiation_with_a_converged_solver_is_not_accused() -> None:
    judged = 0
    for seed in range(6):
        draw = np.random.Generator(np.random.Philox(key=1000 + seed))
        inner, outer, lam, theta, gamma = draw_problem(draw)
        slope = torch.func.grad(inner, argnums=1)

        def converged(at: Tensor, start: Tensor = theta, slope: Loss = slope) -> Tensor:
            z = start
            for _ in range(60):
                z = z - torch.linalg.solve(torch.func.jacrev(slope, argnums=1)(at, z), slope(at, z))
            return z

        def right(at: Tensor, inner: Loss = inner, outer: Loss = outer) -> Tensor:
            problem = problem_of(inner, outer, converged(at))
            return IFTDense(Langevin(1e-12), 1).estimate(problem, at).value

        if not float(slope(lam, converged(lam)).norm()) < 1e-10:
            continue  # Newton's method from here does not converge: there is no right code to check
        at_root = torch.linalg.eigvalsh(torch.func.jacrev(slope, argnums=1)(lam, converged(lam)))
        if float(at_root.min()) <= 0:
            continue  # a saddle point
        report = hypergradient_report(
            inner,
            outer,
            lam,
            converged(lam),
            right,
            estimand="implicit",
            steps=1,
            step_size=gamma,
        )
        assert report.right, report.describe()
        judged += 1
    assert judged >= 3
