"""Figure 1 of Kim and Hospedales: the cubic toy of Section 2.2, on its grid and by gradient descent.

The model is λx³ + θ₂x² + θ₁x + θ₀, fitted to (±0.75, y) and validated at (±0.5, y). A perfect fit leaves
θ₂ free and fixes θ₁ = −1/5 − (9/16) λ, θ₀ = −21/40 − (9/16) θ₂, so that

    L_V(λ, θ*(λ, θ₂)) = 2 ((5/16)² (θ₂ + 2/5)² + (5/32)² λ²) = (25/512) (4 (θ₂ + 2/5)² + λ²),

where the loss that is printed as L_V sums over the training set T; the validation set V is meant (over T
it is 0 on every inner optimum).
"""

import time
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import product
from math import comb
from pathlib import Path
from typing import TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from refblo.chain import Chain, Langevin
from refblo.experiments.markdown import saved
from refblo.experiments.report import (
    TAIL,
    ExperimentReport,
    ExperimentRow,
    ExperimentVerdict,
    Progress,
    Scale,
    deterministic_row,
    silent,
)
from refblo.experiments.store import Store, Values
from refblo.noise import Draws, Stream
from refblo.plotting import OURS, PRINTED, drawing
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems import cubic
from refblo.types import Batch, Loss

Data: TypeAlias = tuple[tuple[Fraction, Fraction], ...]
Table: TypeAlias = dict[Fraction, tuple[Fraction, ...]]


def _exactly(points: tuple[tuple[float, float], ...]) -> Data:
    """The decimals as they are printed, not the binary fractions next to them."""
    return tuple((Fraction(str(x)), Fraction(str(y))) for x, y in points)


TRAINING, VALIDATION = _exactly(cubic.TRAINING), _exactly(cubic.VALIDATION)
LAM_GRID = tuple(Fraction(j, 10) for j in range(-10, 11))
THETA_2_GRID = tuple(Fraction(k, 5) for k in range(-5, 6))
PRINTED_GOOD, PRINTED_POOR = "0.0083", "0.3833"
PRINTED_HITS, PRINTED_RUNS = 3, 20
STEP_SIZE, STEPS = 0.1, 200
"""Gradient descent's: the Hessian's positive eigenvalues lie in [2.25, 5.27], so 200 steps shrink the
distance to the inner optimum by (1 − 0.225)^200 < 10^−22: only rounding is left."""


def optimum(lam: Fraction, theta_2: Fraction) -> tuple[Fraction, Fraction, Fraction]:
    """(θ₀, θ₁, θ₂), the perfect fit with the given θ₂."""
    (x1, y1), (x2, y2) = TRAINING
    theta_1 = (y2 - y1) / (x2 - x1) - lam * (x2**3 - x1**3) / (x2 - x1) - theta_2 * (x1 + x2)
    theta_0 = y1 - lam * x1**3 - theta_2 * x1**2 - theta_1 * x1
    return theta_0, theta_1, theta_2


def loss(data: Data, lam: Fraction, theta: tuple[Fraction, Fraction, Fraction]) -> Fraction:
    """Σ (f(x) − y)² over a data set, exactly."""
    return sum(
        ((lam * x**3 + theta[2] * x**2 + theta[1] * x + theta[0] - y) ** 2 for x, y in data),
        start=Fraction(0),
    )


def loss_table() -> Table:
    """Figure 1 (c): for each λ the validation losses of its inner optima, exactly."""
    return {
        lam: tuple(loss(VALIDATION, lam, optimum(lam, theta_2)) for theta_2 in THETA_2_GRID)
        for lam in LAM_GRID
    }


@final
@dataclass(frozen=True)
class Chance:
    """The probability that random columns select λ = 0, under two rules for ties.

    Attributes:
        strict: λ = 0 must be the only best row.
        favoured: λ = 0 wins every tie.
    """

    strict: Fraction
    favoured: Fraction


def chance_of_zero(table: Table) -> Chance:
    """Every row picks one of its columns uniformly; the row with the smallest loss is selected.

    P = Σ_v P(row 0 picks v) Π_{λ ≠ 0} P(row λ picks more than v), exactly.
    """
    zero = table[Fraction(0)]
    others = [row for lam, row in table.items() if lam != 0]
    strict = favoured = Fraction(0)
    for value in zero:
        more = at_least = Fraction(1, len(zero))
        for row in others:
            more *= Fraction(sum(entry > value for entry in row), len(row))
            at_least *= Fraction(sum(entry >= value for entry in row), len(row))
        strict += more
        favoured += at_least
    return Chance(strict, favoured)


def at_most(hits: int, runs: int, chance: Fraction) -> float:
    """P(at most `hits` of `runs` independent runs succeed)."""
    return float(
        sum(comb(runs, k) * chance**k * (1 - chance) ** (runs - k) for k in range(hits + 1))
    )


def random_columns(table: Table, runs: int, draws: Draws) -> np.ndarray:
    """Whether λ = 0 was selected, for each of `runs` selections by random columns (first row wins ties)."""
    losses = np.array([[float(entry) for entry in row] for row in table.values()])
    uniform = draws.uniform(Stream.INSTANCE, 0, (runs, len(losses)), 0, losses.shape[1]).numpy()
    picked = losses[np.arange(len(losses)), uniform.astype(int)]
    hit: np.ndarray = picked.argmin(axis=1) == LAM_GRID.index(Fraction(0))
    return hit


def descent_selects(draws: Draws, start: int, *, shared: bool) -> float:
    """The λ selected when gradient descent finds each row's inner optimum, all rows in one chain.

    Args:
        draws: of the initial points, uniform on [−1, 1]³.
        start: number of the draw.
        shared: whether all rows start from the same point, or each from its own.
    """
    count = len(LAM_GRID)
    drawn = draws.uniform(Stream.INSTANCE, 1 + start, (count, 3), -1, 1)
    initial = (drawn[:1].expand(count, 3) if shared else drawn).reshape(-1)
    toy = cubic.cubic_toy().problem
    problem = BilevelProblem(_summed(toy.inner), _summed(toy.outer), FixedInitial(initial))
    lam = torch.tensor([float(value) for value in LAM_GRID], dtype=torch.float64)
    theta = Chain(problem, Langevin(STEP_SIZE), draws).last(lam, STEPS)
    losses = _by_row(toy.outer, lam, theta)
    return float(LAM_GRID[int(losses.argmin())])


def _by_row(loss_of_one: Loss, lam: Tensor, theta: Tensor) -> Tensor:
    """The toy's loss at (λ_j, θ_j) for every row j of the grid."""
    one = torch.func.vmap(lambda at_lam, at_theta: loss_of_one(at_lam, at_theta, None))
    values: Tensor = one(lam[:, None], theta.reshape(-1, 3))
    return values


def _summed(loss_of_one: Loss) -> Loss:
    """The rows do not touch each other, so a chain on their sum runs every row's own chain."""

    def total(lam: Tensor, theta: Tensor, _: Batch) -> Tensor:
        return _by_row(loss_of_one, lam, theta).sum()

    return total


@final
@dataclass(frozen=True)
class Figure1:
    """Figure 1, and the selection experiment of Section 2.2."""

    name: str = field(default="figure-1", init=False)
    what: str = field(
        default="the cubic toy's grid of inner optima, exactly; which λ random columns select, and "
        "which one gradient descent selects",
        init=False,
    )

    def run(
        self, scale: Scale, output: Path, progress: Progress = silent, seed: int = 0
    ) -> ExperimentReport:
        """Run it; see `Experiment.run`.

        Raises:
            ArgumentError: for a negative seed, or an output folder that cannot be used.
        """
        began = time.monotonic()
        store = Store(output, self.name, scale, seed, progress)
        table = loss_table()
        chance = chance_of_zero(table)
        starts = {Scale.SMOKE: 2, Scale.SMALL: 10, Scale.PAPER: 50}[scale]
        runs = {Scale.SMOKE: 10_000, Scale.SMALL: 100_000, Scale.PAPER: 1_000_000}[scale]
        draws = Draws(seed)
        random = store.part(
            "random columns",
            {"runs": runs},
            lambda: {"share": np.array([random_columns(table, runs, draws).mean()])},
        )
        descent: dict[bool, np.ndarray] = {}
        for shared in (True, False):
            values = store.part(
                f"gradient descent from {'one start' if shared else 'a start for each row'}",
                {"starts": starts, "step size": STEP_SIZE, "steps": STEPS},
                partial(_selections, draws, starts, shared=shared),
            )
            descent[shared] = values["selected"]
        plot = f"{self.name}.png"
        _draw(store.folder / plot, table)
        report = ExperimentReport(
            self.name,
            self.what,
            scale,
            seed,
            tuple(_rows(table, chance, float(random["share"][0]), runs, descent)),
            _findings(table, chance, descent),
            (f"{self.name}/{plot}",),
            time.monotonic() - began,
        )
        return saved(store, report)


def _selections(draws: Draws, starts: int, *, shared: bool) -> Values:
    return {"selected": np.array([descent_selects(draws, k, shared=shared) for k in range(starts)])}


def _rows(
    table: Table, chance: Chance, share: float, runs: int, descent: dict[bool, np.ndarray]
) -> list[ExperimentRow]:
    tenth = table[Fraction(1, 10)]
    good = min(tenth, key=lambda value: abs(value - Fraction(PRINTED_GOOD)))
    poor = max(tenth)
    grid = "λ = 0.1, θ₂ ∈ {−1, −0.8, …, 1}, L_T = 0"
    columns = f"{len(LAM_GRID)} rows λ, {len(THETA_2_GRID)} columns θ₂, one column a row"
    rows = [
        deterministic_row(
            "(b) good θ*",
            "L_V",
            PRINTED_GOOD,
            float(good),
            f"{grid}; θ₂ = {_columns(tenth, good)}",
            f"exactly {good}; the best on the grid is {float(min(tenth)):.6f} "
            f"at θ₂ = {_columns(tenth, min(tenth))}",
        ),
        deterministic_row(
            "(b) poor θ*",
            "L_V",
            PRINTED_POOR,
            float(poor),
            f"{grid}; θ₂ = {_columns(tenth, poor)}",
            f"exactly {poor}; the worst on the grid",
        ),
    ]
    printed = f"{PRINTED_HITS / PRINTED_RUNS:.2f}"
    low = at_most(PRINTED_HITS, PRINTED_RUNS, chance.strict)
    fits = min(low, 1 - at_most(PRINTED_HITS - 1, PRINTED_RUNS, chance.strict)) >= TAIL
    rows += [
        ExperimentRow(
            "random columns find λ = 0",
            "P",
            printed,
            float(chance.strict),
            ExperimentVerdict.WITHIN_SPREAD if fits else ExperimentVerdict.NOT_REPRODUCED,
            f"{columns}; λ = 0 must be the only best row",
            f"exact; printed as {PRINTED_HITS} of {PRINTED_RUNS} runs, and "
            f"P(at most {PRINTED_HITS} of {PRINTED_RUNS}) = {low:.3f}",
        ),
        ExperimentRow(
            "random columns find λ = 0",
            "P",
            printed,
            float(chance.favoured),
            ExperimentVerdict.MEASURED,
            f"{columns}; λ = 0 wins every tie",
            "exact",
        ),
        ExperimentRow(
            "random columns find λ = 0",
            "P",
            printed,
            share,
            ExperimentVerdict.MEASURED,
            f"{columns}; the first row wins a tie",
            f"simulated, {runs} selections",
            spread=(share * (1 - share) / runs) ** 0.5,
            runs=runs,
        ),
    ]
    for shared, text in ((True, "one initial point for all λ"), (False, "another one for each λ")):
        hit = float((descent[shared] == 0).mean())
        rows.append(
            ExperimentRow(
                f"gradient descent, {text}",
                "P",
                None,
                hit,
                ExperimentVerdict.MEASURED,
                f"γ = {STEP_SIZE:g}, {STEPS} steps, start uniform on [−1, 1]³",
                f"share of {descent[shared].size} starts that select λ = 0",
                runs=descent[shared].size,
            )
        )
    return rows


def _columns(row: tuple[Fraction, ...], value: Fraction) -> str:
    found = [str(float(t)) for t, entry in zip(THETA_2_GRID, row, strict=True) if entry == value]
    return " and ".join(found)


def _findings(table: Table, chance: Chance, descent: dict[bool, np.ndarray]) -> tuple[str, ...]:
    averages = {lam: sum(row, start=Fraction(0)) / len(row) for lam, row in table.items()}
    best = min(averages, key=lambda lam: averages[lam])
    train = {loss(TRAINING, lam, optimum(lam, t)) for lam, t in product(LAM_GRID, THETA_2_GRID)}
    return (
        f"Random columns select λ = 0 with probability {float(chance.strict):.6f} if it must be the only "
        f"best row, {float(chance.favoured):.6f} if it wins ties (exact, from the "
        f"{len(LAM_GRID)} × {len(THETA_2_GRID)} table).",
        f"The row average is smallest at λ = {float(best):g}, so averaging always selects it: L_V is "
        "(25/512) (4 (θ₂ + 2/5)² + λ²), whose mean over θ₂ depends on λ by λ² alone.",
        f"Gradient descent from one initial point selected λ = 0 in {int((descent[True] == 0).sum())} of "
        f"{descent[True].size} starts: its θ₂ does not depend on λ, so L_V differs by λ² alone. The "
        "random columns stand for a choice that no deterministic inner solver makes.",
        f"L_V as printed (summed over T) is {' or '.join(sorted(map(str, train)))} at every inner "
        "optimum of the grid, so V is meant.",
    )


def _draw(path: Path, table: Table) -> None:
    losses = np.array([[float(entry) for entry in row] for row in table.values()])
    with drawing(path, 3, 12.5, 4) as (left, middle, right):
        x = np.linspace(-1, 1, 201)
        tenth = Fraction(1, 10)
        for theta_2, colour, text in (
            (Fraction(-1, 5), OURS, "θ₂ = −0.2"),
            (Fraction(1), PRINTED, "θ₂ = 1"),
        ):
            theta = [float(part) for part in optimum(tenth, theta_2)]
            value = float(loss(VALIDATION, tenth, optimum(tenth, theta_2)))
            curve = 0.1 * x**3 + theta[2] * x**2 + theta[1] * x + theta[0]
            left.plot(x, curve, color=colour, label=f"{text}: L_V = {value:.4f}")
        for data, marker, text in ((TRAINING, "o", "training"), (VALIDATION, "s", "validation")):
            points = np.array([[float(c) for c in point] for point in data]).T
            left.plot(points[0], points[1], marker, color="black", ms=6, label=text)
        left.set(xlabel="x", title="(a, b) two inner optima at λ = 0.1")
        left.legend(loc="upper center")
        # Cells are centred on their grid point.
        extent = (-1.1, 1.1, -1.05, 1.05)
        image = middle.imshow(losses, origin="lower", extent=extent, aspect="auto", cmap="coolwarm")
        middle.grid(visible=False)
        middle.set(xlabel="θ₂ of the inner optimum", ylabel="λ", title="(c) L_V(λ, θ*(λ))")
        middle.figure.colorbar(image, ax=middle, shrink=0.85)
        right.plot(losses.mean(axis=1), [float(lam) for lam in LAM_GRID], "o-", color=OURS, ms=3)
        right.set(xlabel="average L_V of the row", ylabel="λ", title="(d) row averages")
