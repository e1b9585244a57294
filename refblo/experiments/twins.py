"""Why HPO-SGLD ends where it does: its hypergradient beside the exact one, on a shrunken twin of a table.

Along an outer run that HPO-SGLD leads, each step compares three vectors at the same λ, start, batches, noise:

    ours       HPO-SGLD,
    exact      d/dλ (1/M) Σ_{m>B} f(λ, θ^m), the same program with its noise frozen, by reverse mode,
    implicit   f_λ − C' q,  q = Σ_i v_i (v_i · f_θ) / σ_i  over the eigenpairs of H with σ_i > max σ / 1000,

where H, C, f_θ and f_λ are those of the losses over all images, where the inner run ends. A network that is
not trained to the end has directions without curvature; they are left out, and a start that is λ itself has
no implicit hypergradient to speak of. Four outer runs then separate the length of a step from its direction:
HPO-SGLD, the exact one, and each of the two rescaled to the other's length.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from refblo.derivatives import hessian_product_function, mixed_product, outer_gradients
from refblo.estimators import HPOSGLD, RMD, Estimator
from refblo.experiments.report import Scale
from refblo.experiments.store import Store, Values
from refblo.noise import SEED_ZERO, Draws
from refblo.outer.loop import Optimiser, OuterLoop
from refblo.outer.steps import outer_draws
from refblo.plotting import COLOURS, OURS, PRINTED, drawing
from refblo.problem import BilevelProblem, FixedInitial, FullBatch
from refblo.types import Estimand, Hypergradient, Lam, Theta

OURS_NAME, EXACT_NAME = "HPO-SGLD", "exact"
LEADERS = (
    OURS_NAME,
    EXACT_NAME,
    "HPO-SGLD's direction, exact length",
    "exact direction, HPO-SGLD's length",
)
CURVED = 1e-3
"""Eigenvalues of H below this share of the largest are left out of the implicit hypergradient."""
SEEDS = {Scale.SMOKE: 1, Scale.SMALL: 5, Scale.PAPER: 5}
STEPS = {Scale.SMOKE: 2, Scale.SMALL: 15, Scale.PAPER: 15}
IMPLICIT_EVERY = 5
"""Outer steps between two implicit hypergradients: one takes n products with H."""


@final
@dataclass(frozen=True, eq=False)
class Twin:
    """A shrunken twin of a table's problem.

    Attributes:
        problem: the bilevel problem, with batches.
        whole: the problem with losses over all images, for batch None.
        ours: HPO-SGLD at one of the table's options.
        optimiser: of [λ], the same for all four runs.
        lam: λ⁰.
        test: the test loss at (λ, θ).
    """

    problem: BilevelProblem
    whole: BilevelProblem
    ours: HPOSGLD
    optimiser: Optimiser
    lam: Lam
    test: Callable[[Lam, Theta], Tensor]

    @property
    def exact(self) -> RMD:
        """Reverse mode through the same program."""
        return RMD(self.ours.dynamics, self.ours.schedule)


@final
@dataclass(frozen=True)
class OfLength(Estimator):
    """The direction of one estimate at the length of another.

    Args:
        direction: gives the direction, and where the inner run ends.
        length: gives the norm.
    """

    direction: Estimator
    length: Estimator
    name: str = field(default="rescaled", kw_only=True)

    @property
    def estimand(self) -> Estimand:
        """That of the direction."""
        return self.direction.estimand

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        one, other = (e.estimate(problem, lam, draws) for e in (self.direction, self.length))
        if one.estimate is None or other.estimate is None:
            return one
        norm = torch.linalg.vector_norm
        scale = norm(other.estimate) / norm(one.estimate).clamp(min=1e-30)
        return Hypergradient(one.estimate * scale, self.estimand, one.theta, one.status)


@final
@dataclass(frozen=True)
class TwinOf:
    """The twins of a table.

    Attributes:
        make: the twin of a seed.
        description: sizes of the twin, in words.
    """

    make: Callable[[int], Twin]
    description: str


def whole(problem: BilevelProblem) -> BilevelProblem:
    """The same problem over all images."""
    return replace(problem, inner_batches=FullBatch(), outer_batches=FullBatch())


def descent(rate: float) -> Optimiser:
    """Gradient descent on λ."""
    return lambda parameters: torch.optim.SGD(parameters, lr=rate)


def leaders(twin: Twin) -> dict[str, Estimator]:
    """The four hypergradients that lead an outer run."""
    ours, exact = twin.ours, twin.exact
    each = (ours, exact, OfLength(ours, exact), OfLength(exact, ours))
    return dict(zip(LEADERS, each, strict=True))


def implicit(problem: BilevelProblem, lam: Lam, theta: Theta) -> Lam | None:
    """The implicit hypergradient over the directions in which the inner loss is curved upwards.

    Returns:
        Shape (p,); None where λ is the start, or where H has no such direction.
    """
    if not isinstance(problem.initial, FixedInitial):
        return None
    product = hessian_product_function(problem.inner, lam, theta, None)
    columns = torch.stack([product(e) for e in torch.eye(theta.numel(), dtype=theta.dtype)])
    symmetric = (columns + columns.T).double() / 2
    direct, slope = outer_gradients(problem.outer, lam, theta, None)
    if not bool(torch.isfinite(symmetric).all()):
        return None
    values, vectors = torch.linalg.eigh(symmetric)
    kept = values > CURVED * values.max().clamp(min=0)
    if not bool(kept.any()):
        return None
    vectors = vectors[:, kept]
    q = vectors @ ((vectors.T @ slope.double()) / values[kept])
    return direct - mixed_product(problem.inner, lam, theta, None, q.to(theta.dtype))


def compare(one: Tensor, other: Tensor) -> tuple[float, float]:
    """The cosine of two vectors, and ‖one‖ / ‖other‖; NaN where one of them is zero."""
    a, b = one.double(), other.double()
    norms = float(torch.linalg.vector_norm(a)), float(torch.linalg.vector_norm(b))
    if not min(norms) > 0:
        return float("nan"), float("nan")
    return float(a @ b) / (norms[0] * norms[1]), norms[0] / norms[1]


def along(twin: Twin, steps: int, seed: int) -> Values:
    """The four runs of one seed: comparisons along the first, and the test loss where each ends."""
    rows: dict[str, list[float]] = {}

    def note(what: str, one: Tensor | None, other: Tensor | None) -> None:
        pair = (float("nan"),) * 2 if one is None or other is None else compare(one, other)
        for kind, number in zip(("cosine", "norm ratio"), pair, strict=True):
            rows.setdefault(f"{kind}, {what}", []).append(number)

    lam, theta = twin.lam, twin.problem.initial(twin.lam)
    start = float(twin.test(lam, theta))
    for taken in _loop(twin, twin.ours, steps, seed).trajectory(twin.lam):
        k = taken.step - 1
        fixed = isinstance(twin.problem.initial, FixedInitial)
        problem = twin.problem.starting_at(theta) if fixed else twin.problem
        ours = taken.result.estimate
        exact = twin.exact.estimate(problem, lam, outer_draws(seed, k)).estimate
        note("ours to exact", ours, exact)
        if k % IMPLICIT_EVERY == 0:
            truth = implicit(twin.whole, lam, taken.result.theta)
            note("ours to implicit", ours, truth)
            note("exact to implicit", exact, truth)
        lam, theta = taken.lam, taken.result.theta
    ended = {
        f"test loss, {name}": [_end(twin, estimator, steps, seed)]
        for name, estimator in leaders(twin).items()
    }
    values = {**rows, **ended, "test loss, start": [start]}
    return {name: np.array(numbers) for name, numbers in values.items()}


def _loop(twin: Twin, estimator: Estimator, steps: int, seed: int) -> OuterLoop:
    return OuterLoop(
        twin.problem, estimator, twin.optimiser, steps, seed=seed, unchecked=True, plain=True
    )


def _end(twin: Twin, estimator: Estimator, steps: int, seed: int) -> float:
    """The test loss after an outer run; NaN if it diverged."""
    run = _loop(twin, estimator, steps, seed).run(twin.lam)
    loss = float(twin.test(run.lam, run.theta))
    return loss if run.steps == steps and np.isfinite(loss) else float("nan")


def run_twins(
    store: Store,
    make: Callable[[int], Twin],
    settings: Mapping[str, float | int | str],
    seeds: int | None = None,
) -> list[Values]:
    """Every seed's comparison, each a part of the store; as many seeds as the scale has unless given."""
    steps = STEPS[store.scale]
    placed = {**settings, "outer steps of the twin": steps}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            store.part(f"twin, seed {seed}", placed, partial(_made, make, steps, seed))
            for seed in range(SEEDS[store.scale] if seeds is None else seeds)
        ]
    finally:
        torch.set_num_threads(threads)


def _made(make: Callable[[int], Twin], steps: int, seed: int) -> Values:
    return along(make(seed), steps, seed)


def paragraph(values: Sequence[Values], description: str) -> str:
    """What the twins say, in words."""
    ends = {name: np.array([v[f"test loss, {name}"][0] for v in values]) for name in LEADERS}
    start = np.mean([v["test loss, start"][0] for v in values])
    means = {name: float(np.mean(numbers)) for name, numbers in ends.items()}
    parts = [
        f"Why, on a shrunken twin ({description}; {len(values)} "
        f"{'seed' if len(values) == 1 else 'seeds'}, "
        f"{values[0]['cosine, ours to exact'].size} outer steps led by HPO-SGLD): "
        f"its hypergradient has {_range(values, 'ours to exact')} the exact one of the same program"
    ]
    if np.isfinite(_all(values, "cosine, ours to implicit")).any():
        parts.append(
            f", and {_range(values, 'ours to implicit')} the implicit one (the exact one has "
            f"{_range(values, 'exact to implicit')} it)"
        )
    listed = "; ".join(f"{name} {mean:.3f}" for name, mean in means.items())
    parts.append(f". Test loss from {start:.3f} to: {listed}. {_verdict(ends)}")
    return "".join(parts)


def _all(values: Sequence[Values], name: str) -> np.ndarray:
    return np.concatenate([np.asarray(v[name], dtype=float) for v in values])


def _range(values: Sequence[Values], what: str) -> str:
    """Median cosine and norm ratio, each with its lowest and highest."""
    cosine, ratio = (_all(values, f"{kind}, {what}") for kind in ("cosine", "norm ratio"))
    low, middle, high = np.nanpercentile(cosine, [0, 50, 100])
    least, median, most = np.nanpercentile(ratio, [0, 50, 100])
    return (
        f"a cosine of {middle:.2f} ({low:.2f} to {high:.2f}) with, and {median:.3g} times "
        f"({least:.2g} to {most:.2g}) the length of,"
    )


def _verdict(ends: Mapping[str, np.ndarray]) -> str:
    """Whether HPO-SGLD ends lower than the exact hypergradient, and whether at equal lengths too."""
    ours, exact = ends[LEADERS[0]], ends[LEADERS[1]]
    whole, direction = ours - exact, ours - ends[LEADERS[3]]
    if not (np.isfinite(whole).all() and np.isfinite(direction).all()):
        return "A run diverged, so that the ends are not compared."
    if whole.size < 2:
        return "One seed shows no more than that it runs."

    def word(d: np.ndarray) -> str:
        error = float(d.std(ddof=1)) / d.size**0.5
        if abs(float(d.mean())) <= 2 * error:
            return "as low as"
        return "lower than" if d.mean() < 0 else "higher than"

    first, second = word(whole), word(direction)
    wins = first == "lower than"
    text = (
        f"HPO-SGLD ends {first} the exact hypergradient, and {second} steps of the same lengths in the exact "
        "direction (differences within two standard errors count as none)"
    )
    if wins and second == "lower than":
        reason = "it wins because of its biased direction"
    elif wins:
        reason = "it wins by the length of its steps, not by their direction"
    elif second == "lower than":
        reason = "its direction helps at equal lengths, and the lengths of its steps take that back"
    elif first == "higher than" and second == "higher than":
        reason = "its bias costs it"
    else:
        reason = "its bias neither helps nor is it seen to cost"
    return f"{text}: {reason}."


def draw(path: Path, values: Sequence[Values]) -> None:
    """Cosines and norm ratios along the run, and where the four runs end."""
    pairs = ("ours to exact", "ours to implicit", "exact to implicit")
    with drawing(path, 3, 11.5, 3.1) as (cosines, ratios, ends):
        for what, colour in zip(pairs, COLOURS, strict=False):
            every = IMPLICIT_EVERY if "implicit" in what else 1
            for axis, kind in ((cosines, "cosine"), (ratios, "norm ratio")):
                lines = np.array([v[f"{kind}, {what}"] for v in values])
                if not np.isfinite(lines).any():
                    continue
                steps = every * np.arange(lines.shape[1])
                for line in lines:
                    axis.plot(steps, line, color=colour, alpha=0.25, lw=0.8)
                middle = np.median(lines, axis=0)
                axis.plot(
                    steps, middle, color=colour, label=what, marker="o" if every > 1 else "", ms=3
                )
        cosines.set(xlabel="outer step", ylim=(-1.05, 1.05))
        cosines.set_title("cosine")
        ratios.set(xlabel="outer step", yscale="log")
        ratios.set_title("ratio of norms")
        ratios.legend(loc="best")
        heights = np.arange(len(LEADERS))[::-1]
        for height, name in zip(heights, LEADERS, strict=True):
            numbers = np.array([v[f"test loss, {name}"][0] for v in values])
            colour = OURS if name == OURS_NAME else PRINTED if name == EXACT_NAME else COLOURS[2]
            ends.plot(numbers, np.full(numbers.size, height), "o", color=colour, ms=4, alpha=0.6)
            ends.plot(np.nanmean(numbers), height, "|", color=colour, ms=13, mew=2)
        ends.axvline(
            float(np.mean([v["test loss, start"][0] for v in values])),
            color="#555555",
            lw=0.8,
            ls=":",
        )
        ends.set_yticks(heights, [name.replace(", ", ",\n") for name in LEADERS])
        ends.set(ylim=(-0.6, len(LEADERS) - 0.4), xlabel="test loss (start dotted)")
        ends.set_title("where four outer runs end")
