"""Gradient descent on λ with a warm-started θ: the loop behind Tables 2 and 3 and Figure 2, in two forms.

    θ_k = last inner iterate at λ_k, started from θ_{k−1};   λ_{k+1} = λ_k − η h(λ_k),   k = 0 … K − 1.

Reported are λ_K, after the last update, and θ_{K−1}, the inner iterate before it. `with_estimator` is
`refblo.outer.OuterLoop`; the recursions written out, in NumPy, are a loop of their own on the same draws, so
that each form checks the other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import final

import numpy as np
import torch

from refblo.chain import Langevin
from refblo.estimators import Estimator
from refblo.experiments.recursions import (
    AsDrawn,
    ManySeeds,
    Method,
    Noise,
    RecursionRun,
    Seeds,
    WarmMethod,
    begun,
)
from refblo.outer import OuterLoop, outer_draws
from refblo.problem import BilevelProblem, UniformBatches
from refblo.problems import build
from refblo.problems.synth_1d import START


@final
@dataclass(frozen=True)
class Descent:
    """The settings of the loop.

    Attributes:
        outer_steps: K.
        outer_rate: η.
        start: λ⁰ = θ⁰.
        noisy: whether the inner loss is perturbed at every call, (27).
        warm: whether an inner run starts where the one before ended; if not, at θ⁰.
    """

    outer_steps: int = 200
    outer_rate: float = 0.005
    start: float = START
    noisy: bool = False
    warm: bool = True

    @property
    def problem(self) -> BilevelProblem:
        """Synth-1D, or its noisy form."""
        return build("noisy_synth_1d" if self.noisy else "synth_1d").problem

    @property
    def half_width(self) -> float:
        """The w of (27), read off the problem; 0 without noise."""
        batches = self.problem.inner_batches
        return batches.high if isinstance(batches, UniformBatches) else 0.0

    def describe(self) -> str:
        """The settings, for a report."""
        noise = f", e₁, e₂ ~ U(±{self.half_width:g})" if self.noisy else ""
        return (
            f"λ⁰ = θ⁰ = {self.start:g}, θ {'warm-started' if self.warm else 'reset'}, "
            f"{self.outer_steps} outer steps, η = {self.outer_rate:g}{noise}"
        )


@final
@dataclass(frozen=True, eq=False)
class Runs:
    """Where one or many runs are: λ after an outer step, θ before its update, each of shape (s,)."""

    lam: Seeds
    theta: Seeds

    @property
    def finite(self) -> np.ndarray:
        """Which runs have not diverged."""
        both: np.ndarray = np.isfinite(self.lam) & np.isfinite(self.theta)
        return both


def many_seeds(
    method: Method | WarmMethod, dynamics: Langevin, descent: Descent, seeds: int, seed: int
) -> Iterator[Runs]:
    """The recursions written out, for `seeds` runs at once; one item an outer step."""
    half_width = descent.half_width

    def noise(outer_step: int) -> Noise:
        return ManySeeds(outer_draws(seed, outer_step), seeds, half_width)

    return _written_out(method, dynamics, descent, seeds, noise)


def as_drawn(
    method: Method | WarmMethod,
    dynamics: Langevin,
    descent: Descent,
    run_seeds: tuple[int, ...],
) -> Iterator[Runs]:
    """The recursions written out, on the very numbers that `with_estimator` draws."""
    half_width = descent.half_width

    def noise(outer_step: int) -> Noise:
        return AsDrawn(tuple(outer_draws(s, outer_step) for s in run_seeds), half_width)

    return _written_out(method, dynamics, descent, len(run_seeds), noise)


def _written_out(
    method: Method | WarmMethod,
    dynamics: Langevin,
    descent: Descent,
    seeds: int,
    noise: Callable[[int], Noise],
) -> Iterator[Runs]:
    called = begun(method)
    lam, theta = np.full(seeds, descent.start), np.full(seeds, descent.start)
    for outer_step in range(descent.outer_steps):
        # A run that diverges leaves the finite numbers and is counted as such at the end.
        with np.errstate(over="ignore", invalid="ignore"):
            begin = theta if descent.warm else np.full(seeds, descent.start)
            h, theta = called(lam, begin, RecursionRun(dynamics, noise(outer_step)))
            lam = lam - descent.outer_rate * h
        yield Runs(lam, theta)


def with_estimator(
    estimator: Estimator, descent: Descent, seed: int, first: int = 0, begin: Runs | None = None
) -> Iterator[Runs]:
    """One run of the loop with an estimator of the package; it ends early if the run diverges.

    Args:
        estimator: computes h.
        descent: the loop's settings.
        seed: of its draws.
        first: the outer step to go on from.
        begin: what the step before it yielded; None for `first` = 0.
    """
    start = torch.full((1,), descent.start, dtype=torch.float64)
    loop = OuterLoop(
        descent.problem.starting_at(start),
        estimator,
        lambda parameters: torch.optim.SGD(parameters, lr=descent.outer_rate),
        steps=descent.outer_steps,
        warm=descent.warm,
        seed=seed,
        # The paper's code does not check whether a series diverged, and this reproduces it.
        unchecked=True,
    )
    lam, theta = start, start
    if begin is not None:
        lam, theta = torch.from_numpy(begin.lam.copy()), torch.from_numpy(begin.theta.copy())
    for step in loop.trajectory(lam, theta=theta, first=first):
        if step.result.estimate is None:
            yield Runs(np.full(1, np.nan), np.full(1, np.nan))
            return
        yield Runs(step.lam.numpy(), step.result.theta.numpy())


def final_state(trajectory: Iterator[Runs]) -> Runs:
    """The last item.

    Raises:
        ValueError: if there is none.
    """
    last = None
    for last in trajectory:  # noqa: B007
        pass
    if last is None:
        raise ValueError(
            "trajectory must have at least one outer step, got none; raise outer_steps"
        )
    return last


def largest_difference(
    method: Method | WarmMethod,
    estimator: Estimator,
    dynamics: Langevin,
    descent: Descent,
    run_seeds: tuple[int, ...],
    outer_steps: int,
) -> float:
    """How far the recursions written out and the estimator drift apart, step by step.

    The largest |Δλ| or |Δθ| over the first `outer_steps` outer steps and over the runs, both sides on the
    same draws; NaN as soon as one side has diverged.
    """
    worst = 0.0
    hand = list(islice(as_drawn(method, dynamics, descent, run_seeds), outer_steps))
    for position, seed in enumerate(run_seeds):
        tool = islice(with_estimator(estimator, descent, seed), outer_steps)
        for ours, theirs in zip(hand, tool, strict=False):
            gaps = (
                abs(ours.lam[position] - theirs.lam[0]),
                abs(ours.theta[position] - theirs.theta[0]),
            )
            worst = float(np.maximum(worst, np.max(gaps)))
    return worst
