"""Synth-1D and its noisy form (27) run by hand: no torch, no refblo, every derivative typed in.

One run is one entry of a vector, so that hundreds of seeds cost little more than one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

STEP = 0.005
OUTER_RATE = 0.005
OUTER_STEPS = 200
START = 0.1
HALF_WIDTH = 0.3


@final
@dataclass(frozen=True, eq=False)
class Inner:
    """An inner run: its perturbations, its Langevin noise and its iterates.

    Attributes:
        theta: θ^0, …, θ^T, each of shape (seeds,).
        bend: 1 + 3e₁ of each step, and one more for what is evaluated at θ^T.
        step: γ.
    """

    theta: list[Vector]
    bend: list[Vector]
    step: float = STEP


def inner_run(
    lam: Vector,
    start: Vector,
    steps: int,
    noise: float,
    noisy: bool,
    rng: np.random.Generator,
    step: float = STEP,
) -> Inner:
    """(24) on (27), or on the noiseless loss.

    Args:
        lam: λ of each seed.
        start: θ⁰ of each seed.
        steps: T.
        noise: √ε·κ.
        noisy: whether the loss is perturbed at every call.
        rng: the randomness.
        step: γ.

    Returns:
        The run.
    """
    theta, bend = [start], []
    one = 1 + 0 * start
    for _ in range(steps + 1):
        e1, shift = one, 0 * one
        if noisy:
            both = rng.uniform(-HALF_WIDTH, HALF_WIDTH, (2, start.size))
            e1, shift = 1 + 3 * both[0], both[1]
        bend.append(e1)
        if len(theta) <= steps:
            now = theta[-1]
            moved = now - step * (e1 * now * now - (1 - lam * lam + shift))
            if noise > 0:
                moved = moved + noise * rng.normal(size=start.size)
            theta.append(moved)
    return Inner(theta, bend, step)


def _slope(lam: Vector, theta: Vector) -> Vector:
    return 4 * theta - 2 * lam - 1


Method = Callable[[Vector, Inner], Vector]


def forward(lam: Vector, run: Inner) -> Vector:
    """Forward mode, (50) and (51)."""
    tangent = 0 * lam
    for before, bend in zip(run.theta[:-1], run.bend, strict=False):
        tangent = tangent * (1 - 2 * run.step * bend * before) - 2 * run.step * lam
    return 2 * (lam - run.theta[-1]) + _slope(lam, run.theta[-1]) * tangent


def reverse(lam: Vector, run: Inner) -> Vector:
    """Reverse mode: the same sum from its other end."""
    adjoint, h = _slope(lam, run.theta[-1]), 2 * (lam - run.theta[-1])
    for before, bend in zip(reversed(run.theta[:-1]), reversed(run.bend[:-1]), strict=True):
        h = h - 2 * run.step * lam * adjoint
        adjoint = adjoint * (1 - 2 * run.step * bend * before)
    return h


def first_order(lam: Vector, run: Inner) -> Vector:
    """RMD-FO: the direct term alone."""
    return 2 * (lam - run.theta[-1])


def neumann(
    lam: Vector, run: Inner, scale: float = 0.99, terms: int = 11, factor: float = 1.0
) -> Vector:
    """IFT-Neumann; with `factor` 1 the α before the series is left out, as Table 2 has it."""
    hessian = 2 * run.bend[-1] * run.theta[-1]
    term = total = _slope(lam, run.theta[-1])
    for _ in range(terms - 1):
        term = term * (1 - scale * hessian)
        total = total + term
    return 2 * (lam - run.theta[-1]) - 2 * lam * factor * total


def conjugate_gradient(
    lam: Vector, run: Inner, damping: float = 0.01, clean: bool = False
) -> Vector:
    """IFT-CG: in one dimension one iteration solves (H + δ)q = f_θ; `clean` takes H at e₁ = 0."""
    bend = 1.0 if clean else run.bend[-1]
    hessian = 2 * bend * run.theta[-1] + damping
    return 2 * (lam - run.theta[-1]) - 2 * lam * _slope(lam, run.theta[-1]) / hessian


class Amigo:
    """AmIGO: q is carried from call to call; steps of SGD on H q = f_θ, or CG, which ends after one.

    Args:
        rate: α of the steps; None for CG.
        noisy: whether H is perturbed at every step.
    """

    def __init__(self, rate: float | None, noisy: bool) -> None:
        self._rate, self._noisy = rate, noisy
        self._q: Vector | float = 0.0
        self._rng = np.random.default_rng(20240608)

    def __call__(self, lam: Vector, run: Inner) -> Vector:
        """The hypergradient at the end of a run."""
        theta, slope = run.theta[-1], _slope(lam, run.theta[-1])
        if self._rate is None:
            self._q = slope / (2 * run.bend[-1] * theta)
        else:
            for _ in range(_SOLVE_STEPS):
                bend = 1 + 0 * theta
                if self._noisy:
                    bend = 1 + 3 * self._rng.uniform(-HALF_WIDTH, HALF_WIDTH, np.shape(theta))
                self._q = self._q - self._rate * (2 * bend * theta * self._q - slope)
        return 2 * (lam - theta) - 2 * lam * self._q


_SOLVE_STEPS = 10


def recursion(lam: Vector, run: Inner, burn_in: int, half: float = 0.5) -> Vector:
    """HPO-SGLD, (22) and (25), with ε/2 = γτ; `half` other than ½ is a misreading of (22)."""
    g, h = 0 * lam, 0 * lam
    for m, now in enumerate(run.theta[1:], start=1):
        g = g - 2 * (2 * half * run.step) * lam * _slope(lam, now)
        if m > burn_in:
            h = h + 2 * (lam - now) + g
    return h / (len(run.theta) - 1 - burn_in)


@final
@dataclass(frozen=True)
class PrintedRow:
    """One row of Table 2, 3 or 14: the method, the inner steps, √ε·κ and γ.

    A method that carries something from call to call is made anew for each run: `begin`, of whether the loss
    is perturbed, in the place of `method`.
    """

    method: Method | None
    steps: int = 100
    noise: float = 0.0
    step: float = STEP
    begin: Callable[[bool], Method] | None = None

    def started(self, noisy: bool) -> Method:
        """The method at the start of a run."""
        made = self.begin(noisy) if self.begin is not None else self.method
        assert made is not None
        return made


def _sgld(temperature: float) -> PrintedRow:
    return PrintedRow(partial(recursion, burn_in=50), noise=float(np.sqrt(2 * temperature * STEP)))


ROWS = {
    "HPO-SGLD": _sgld(1e-6),
    "HPO-SGLD, τ = 1e-02": _sgld(1e-2),
    "HPO-SGLD, τ = 1e-05": _sgld(1e-5),
    "HPO-SGLD, τ = 1e-10": _sgld(1e-10),
    "HPO-SGLD, no noise": PrintedRow(partial(recursion, burn_in=50)),
    "HPO-SGLD, γ = 0.01": PrintedRow(partial(recursion, burn_in=50), step=2 * STEP),
    "HPO-SGLD, ½ dropped": PrintedRow(partial(recursion, burn_in=50, half=1.0)),
    "HPO-SGLD, B = M = 100": PrintedRow(partial(recursion, burn_in=100), 200),
    "IFT-Neumann": PrintedRow(neumann),
    "IFT-Neumann with α": PrintedRow(partial(neumann, factor=0.99)),
    "IFT-CG": PrintedRow(conjugate_gradient),
    "IFT-CG, H without noise": PrintedRow(partial(conjugate_gradient, clean=True)),
    "RMD": PrintedRow(reverse),
    "RMD-FO": PrintedRow(first_order),
    "FMD": PrintedRow(forward),
    "AmIGO-SGD": PrintedRow(None, begin=partial(Amigo, STEP)),
    "AmIGO-CG": PrintedRow(None, begin=partial(Amigo, None)),
    "RMD (1000 inner iterations)": PrintedRow(reverse, 1000),
    "RMD-FO (1000 inner iterations)": PrintedRow(first_order, 1000),
    "FMD (1000 inner iterations)": PrintedRow(forward, 1000),
}


@cache
def solve(
    label: str, noisy: bool, seeds: int, outer_steps: int = OUTER_STEPS
) -> tuple[Vector, Vector]:
    """Gradient descent on λ with θ warm-started, for many seeds at once.

    Args:
        label: the row's printed name.
        noisy: whether the inner loss is that of (27).
        seeds: how many runs.
        outer_steps: outer iterations.

    Returns:
        λ after and θ before the last update, each of shape (seeds,); not finite where a run diverged.
    """
    row = ROWS[label]
    method = row.started(noisy)
    rng = np.random.default_rng(20240607)
    lam, theta = np.full(seeds, START), np.full(seeds, START)
    if seeds == 1 and not noisy and row.noise == 0:
        # A plain number is ten times as fast as a vector of one.
        lam = theta = START  # type: ignore[assignment]  # the arithmetic is the same
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(outer_steps):
            run = inner_run(lam, theta, row.steps, row.noise, noisy, rng, row.step)
            lam, theta = lam - OUTER_RATE * method(lam, run), run.theta[-1]
    return np.atleast_1d(lam), np.atleast_1d(theta)
