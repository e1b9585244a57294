"""What does not depend on the machine, for every estimator on every problem: counts, and the error.

A row is one estimator on one problem with one number of steps. Its error is measured against a closed form
in NumPy that shares no code with the estimators; a row of an exact estimator that is not right has no
figures, for the cost of a wrong answer means nothing.

This file also runs against the refblo of earlier commits: estimators are looked up when they are made, and
one that a commit does not have, or whose argument it does not know, is an `UnknownHereError`.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from refblo import estimators
from refblo.chain import Langevin, Schedule
from refblo.cost import Cost, measure, shapes_only
from refblo.estimators import Estimator
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem
from refblo.problems.quadratic import case_of, instance
from refblo.problems.vit_b_16 import vit_problem
from refblo.types import Estimand, Hypergradient

SIZES = {"quadratic 10 x 6": (10, 6), "quadratic 100 x 60": (100, 60)}
"""Name → (n, p) of a dense quadratic of condition number 10."""

NOISE_SCALE = 1.0
"""κ of the rows with noise."""

ON_A_DEVICE = "quadratic 10 x 6, pretend device"
"""The first quadratic on a device that is not there, in a process of its own (`on_a_device`)."""

AT_SCALE = ("HPO-SGLD", "HPO-SGLD, with noise", "RMD-FO")
"""The estimators that never differentiate twice through a network: counted on ViT-B/16 as well."""

STEPS = (10, 100)

Make = Callable[[Langevin, int], Estimator]

ESTIMATORS: dict[str, Make] = {
    "HPO-SGLD": lambda rule, T: estimators.HPOSGLD(rule, Schedule.last(T)),
    "HPO-SGLD, with noise": lambda rule, T: estimators.HPOSGLD(
        replace(rule, noise_scale=NOISE_SCALE), Schedule.last(T)
    ),
    "RMD": lambda rule, T: estimators.RMD(rule, Schedule.last(T)),
    "RMD, a step at a time": lambda rule, T: estimators.RMD(rule, Schedule.last(T), graph_bytes=0),
    "RMD, checkpointed": lambda rule, T: estimators.RMD(
        rule, Schedule.last(T), checkpointed=True, graph_bytes=0
    ),
    "RMD-FO": lambda rule, T: estimators.RMDFirstOrder(rule, Schedule.last(T)),
    "FMD": lambda rule, T: estimators.FMD(rule, Schedule.last(T)),
    "IFT-Neumann": lambda rule, T: estimators.IFTNeumann(rule, T, rule.step_size, T),
    "IFT-CG": lambda rule, T: estimators.IFTConjugateGradient(rule, T, 10),
    "IFT-dense": lambda rule, T: estimators.IFTDense(rule, T),  # noqa: PLW0108  # looked up late
}
"""Name → γ's rule and T to the estimator that is measured."""

EXACT = frozenset({"RMD", "RMD, a step at a time", "RMD, checkpointed", "FMD"})
ROUNDING = 1e-9
"""The most that rounding can change of a value here, relatively: 100 steps at n = 100 in float64 add up to
10⁴ units in the last place times the condition number, 2e-11; between BLAS libraries, as much again."""


class WrongAnswerError(ArithmeticError):
    """A benchmark's estimator is not right, so its cost is not worth a figure."""


class UnknownHereError(LookupError):
    """The refblo that is imported lacks an estimator, or an argument of one: its figures are n/a."""


def make(estimator: str, rule: Langevin, steps: int) -> Estimator:
    """The estimator of this name.

    Raises:
        UnknownHereError: if the commit that is measured cannot make it.
    """
    try:
        return ESTIMATORS[estimator](rule, steps)
    except (AttributeError, TypeError) as error:
        raise UnknownHereError(
            f"{estimator} must be known to the commit that is measured, got {error}"
        ) from error


@final
@dataclass(frozen=True)
class Row:
    """The deterministic figures of one run.

    Attributes:
        flops: of matrix kernels.
        elements: numbers that the other kernels compute.
        moved: bytes that kernels read and write.
        kernels: calls of kernels.
        peak_bytes: most bytes of storages alive at once.
        inner_gradients: counted.
        outer_gradients: counted.
        hessian_products: counted.
        mixed_products: counted.
        host_synchronisations: looks of the host at numbers; None if the commit does not count them.
        transfers: between devices; on the CPU there are none, see `ON_A_DEVICE`; None likewise.
        error: ‖value − truth‖/‖truth‖ against the closed form of its estimand; None on shapes alone.
        value: three projections of value/‖truth‖, so that a change of the answer that leaves its error
            as it was is seen as well; None on shapes alone.
    """

    flops: int
    elements: int
    moved: int
    kernels: int
    peak_bytes: int
    inner_gradients: int
    outer_gradients: int
    hessian_products: int
    mixed_products: int
    host_synchronisations: int | None = 0
    transfers: int | None = 0
    error: float | None = None
    value: tuple[float, float, float] | None = None

    @property
    def evaluations(self) -> int:
        """Of derivatives, each counting as one."""
        products = self.hessian_products + self.mixed_products
        return self.inner_gradients + self.outer_gradients + products


COUNTS = tuple(name for name in Row.__dataclass_fields__ if name not in {"error", "value"})
"""The figures that are compared exactly."""


def key(problem: str, estimator: str, steps: int) -> str:
    """A row's name."""
    return f"{problem} | {estimator} | T = {steps}"


@final
@dataclass(frozen=True, eq=False)
class Posed:
    """A quadratic with what is known about it in closed form."""

    problem: BilevelProblem
    lam: Tensor
    rule: Langevin
    truth: Callable[[Estimand, int, float], np.ndarray]


@cache
def posed(name: str) -> Posed:
    """The quadratic of this name."""
    n, p = SIZES[name]
    draws = Draws(20)
    numbers = instance(draws, n, p, 10.0)
    case = case_of(name, numbers, draws, stated_in_sympy=False)
    rule = Langevin(case.dynamics.step_size)
    lam = case.lam.numpy()

    def truth(estimand: Estimand, steps: int, noise_scale: float) -> np.ndarray:
        forms = case.closed_forms
        if forms is None:
            raise WrongAnswerError(
                f"{name} must have closed forms, got none; measure another problem"
            )
        if estimand is Estimand.IMPLICIT:
            found = forms.implicit(lam)
        else:
            noisy = replace(rule, noise_scale=noise_scale)
            found = forms.unrolled(lam, noisy, Schedule.last(steps), _noise(n, steps))
        if found is None:
            raise WrongAnswerError(f"{name} must know {estimand.value}, got no answer; ask another")
        return found

    return Posed(case.problem, case.lam, rule, truth)


def _noise(n: int, steps: int) -> np.ndarray:
    """What the default draws of a run are."""
    like = torch.empty(n, dtype=torch.float64)
    return np.stack([Draws().normal(Stream.LANGEVIN, t, like).numpy() for t in range(steps)])


def row(problem: str, method: Estimator, steps: int) -> Row:
    """Measure one row on a quadratic."""
    setting = posed(problem)
    results: list[Hypergradient] = []
    # Reading the value is the caller's: it is looked at once the run has been counted.
    cost = measure(lambda: results.append(method.estimate(setting.problem, setting.lam)))
    noisy = isinstance(method, estimators.HPOSGLD) and method.dynamics.noise > 0
    truth = setting.truth(method.estimand, steps, NOISE_SCALE if noisy else 0.0)
    size = float(np.linalg.norm(truth))
    value = results[0].value.numpy() / size
    error = float(np.linalg.norm(value - truth / size))
    index = np.arange(len(value))
    first, second, third = (float(value @ np.cos(k * (index + 0.5))) for k in (1, 2, 3))
    return counts(cost, error, (first, second, third))


def row_on_shapes(estimator: str, steps: int, batch: int = 8) -> Row:
    """Measure one row on ViT-B/16 without allocating."""
    with shapes_only():
        problem, lam = vit_problem(batch)
        method = make(estimator, Langevin(1e-3), steps)
        return counts(measure(lambda: method.estimate(problem, lam)))


def counts(
    cost: Cost, error: float | None = None, value: tuple[float, float, float] | None = None
) -> Row:
    """The row of a run."""
    counted = cost.evaluations
    return Row(
        cost.flops,
        cost.elements,
        cost.moved,
        cost.kernels,
        cost.peak_bytes,
        counted.inner_gradients,
        counted.outer_gradients,
        counted.hessian_products,
        counted.mixed_products,
        # Earlier commits did not count these.
        getattr(cost, "host_synchronisations", None),
        getattr(cost, "transfers", None),
        error,
        value,
    )


def grid(steps: tuple[int, ...] = STEPS) -> Iterator[tuple[str, str, int]]:
    """Every problem, estimator and T that is measured; ViT-B/16 by what needs no double backward."""
    for name in SIZES:
        for estimator in ESTIMATORS:
            for T in steps:
                yield name, estimator, T
    yield from (("vit-b-16", estimator, 2) for estimator in AT_SCALE)
    yield from ((ON_A_DEVICE, estimator, STEPS[0]) for estimator in ESTIMATORS)


def measured(problem: str, estimator: str, steps: int) -> Row:
    """One row, validated.

    Raises:
        WrongAnswerError: if an exact estimator differs from the closed form by more than rounding.
        UnknownHereError: if the commit that is measured cannot make the estimator.
    """
    if problem == ON_A_DEVICE:
        return Row(**rows_on_a_device()[key(problem, estimator, steps)])
    if problem not in SIZES:
        return row_on_shapes(estimator, steps)
    method = make(estimator, posed(problem).rule, steps)
    found = row(problem, method, steps)
    if estimator in EXACT and not (found.error is not None and found.error <= ROUNDING):
        raise WrongAnswerError(
            f"{key(problem, estimator, steps)} must agree with the closed form to {ROUNDING}, got a "
            f"relative error of {found.error}; mend the estimator before measuring what it costs"
        )
    return found


@cache
def rows_on_a_device() -> dict[str, dict[str, Any]]:
    """The rows of `ON_A_DEVICE`: torch cannot take a registered device back, so not in this process."""
    command = [sys.executable, "-m", "asv_bench.benchmarks.on_a_device"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise WrongAnswerError(
            f"{ON_A_DEVICE} must run, got {last}; run {' '.join(command[1:])} to see where"
        )
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found
