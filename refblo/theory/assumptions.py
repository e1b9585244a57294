"""Which assumptions of Theorems 1 and 2 of Kim and Hospedales hold on a problem, measured.

The theorems assume (A1) that θ⁰ does not depend on λ, (A2) that ε is small, (A3) that the chain
converges to p(θ|λ), and that f is Lipschitz in λ. What their conclusions need is more: that the horizon
γT‖H‖ is small (the recursion's error does not vanish with ε at a fixed horizon), and that the outer
objective is smooth and convex with η ≤ 1/L, L the Lipschitz constant of its *gradient*.
`check_assumptions` measures each, with the norms of `refblo.theory.path_norms`, and states the bound of
`refblo.theory.recursion_bound` on HPO-SGLD's error.

Claims: text-assumption-2, text-assumptions-2-3, thm-1, thm-2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from refblo.chain import Chain, Langevin, Schedule
from refblo.derivatives import (
    gradient_and_tangent,
)
from refblo.errors import require_integer, require_real
from refblo.estimators.hpo_sgld import HPOSGLD
from refblo.estimators.rmd import RMD
from refblo.noise import SEED_ZERO, Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial, FullBatch
from refblo.theory.path_norms import DENSE_LIMIT, walk
from refblo.theory.recursion_bound import recursion_bound
from refblo.theory.stationarity import RHAT_LIMIT, SAMPLES_WANTED, effective_samples, split_rhat
from refblo.types import Lam
from refblo.validation import check_arguments

Array = np.ndarray

SMALL_ERROR = 0.01
"""Relative size of the recursion's error bound up to which (A2)'s "virtually 0" is granted."""


@final
@dataclass(frozen=True)
class AssumptionFinding:
    """One assumption, measured.

    Attributes:
        name: a short name.
        holds: whether it holds here; None where it cannot be asked.
        value: the measured constant.
        meaning: what was measured, and what the value means.
    """

    name: str
    holds: bool | None
    value: float
    meaning: str


@final
@dataclass(frozen=True)
class AssumptionReport:
    """All that was measured on one problem at one λ.

    Attributes:
        initial: (A1).
        resolution: (A2), by the relative error bound of the recursion.
        stationary: (A3), split-R̂ of the outer loss over independent chains.
        samples: effective sample size of the outer loss over all chains.
        stable: γ·λ_max(H) < 2 along the chain.
        conditioning: the condition number of H at the last iterate.
        lipschitz: the largest ‖∂_λ f‖ met.
        smooth: the largest ratio of gradient differences of the outer objective met, a lower bound on
            its L.
        convex: the smallest ⟨Δ∇F, Δλ⟩/‖Δλ‖² met, an upper bound on its convexity.
        error_bound: the bound on ‖h − h_exact‖; None where θ⁰ depends on λ.
        error_found: ‖h − h_exact‖ itself, against reverse mode on the same noise.
        estimate: ‖h‖.
        dense: whether norms are exact (formed matrices) or estimated from below (power iterations).
    """

    initial: AssumptionFinding
    resolution: AssumptionFinding
    stationary: AssumptionFinding
    samples: AssumptionFinding
    stable: AssumptionFinding
    conditioning: AssumptionFinding
    lipschitz: AssumptionFinding
    smooth: AssumptionFinding
    convex: AssumptionFinding
    error_bound: float | None
    error_found: float
    estimate: float
    dense: bool

    def __iter__(self) -> Iterator[AssumptionFinding]:
        """The findings in reading order."""
        yield from (
            self.initial,
            self.resolution,
            self.stationary,
            self.samples,
            self.stable,
            self.conditioning,
            self.lipschitz,
            self.smooth,
            self.convex,
        )

    @property
    def theorem_1(self) -> bool:
        """Whether the recursion is exact here to within `SMALL_ERROR`."""
        return self.initial.holds is True and self.resolution.holds is True

    @property
    def theorem_2(self) -> bool:
        """Whether nothing measured contradicts the corrected O(1/k) bound with η ≤ 1/L."""
        needed = (self.initial, self.resolution, self.stationary, self.stable, self.convex)
        return all(finding.holds is not False for finding in needed)

    def __str__(self) -> str:
        """One line a finding, then the bound."""
        marks = {True: "yes", False: "NO", None: "-"}
        lines = [f"{marks[f.holds]:>4}  {f.name}: {f.value:.4g} ({f.meaning})" for f in self]
        bound = "none" if self.error_bound is None else f"{self.error_bound:.4g}"
        lines.append(
            f"error of HPO-SGLD's recursion: {self.error_found:.4g}, bound {bound}, "
            f"estimate {self.estimate:.4g}"
        )
        return "\n".join(lines)


def _stationarity(
    problem: BilevelProblem,
    lam: Lam,
    dynamics: Langevin,
    schedule: Schedule,
    draws: Draws,
    chains: int,
) -> tuple[AssumptionFinding, AssumptionFinding]:
    random = dynamics.noise > 0 or not isinstance(problem.inner_batches, FullBatch)
    if not random:
        chain = Chain(problem, dynamics, draws)
        last = chain.last(lam, schedule.steps)
        zero = torch.zeros_like(last)
        gradient, _ = gradient_and_tangent(
            problem.inner, lam, last, None, torch.zeros_like(lam), zero
        )
        text = "‖∂_θ L_T‖ at the last iterate; the chain has no noise, so it samples nothing"
        none = AssumptionFinding("effective samples", None, 1.0, "the chain has no noise")
        return AssumptionFinding("(A3) stationary", None, float(gradient.norm()), text), none
    if schedule.samples < 4:
        text = "fewer than 4 samples a chain: nothing can be said"
        unknown = AssumptionFinding("(A3) stationary", None, float("nan"), text)
        return unknown, AssumptionFinding("effective samples", None, float("nan"), text)
    rows = []
    for number in range(chains):
        chain = Chain(problem, dynamics, Draws(draws.seed + number))
        kept = list(chain.iterates(lam, schedule.steps))[schedule.burn_in + 1 :]
        # One function of θ: the outer batch is held, so that its noise is not taken for the chain's.
        batch = chain.outer_batch(0)
        rows.append([float(problem.outer(lam, theta, batch).detach()) for theta in kept])
    values = np.array(rows)
    rhat, count = split_rhat(values), effective_samples(values)
    text = f"split-R̂ of f over {chains} chains from one θ⁰; at most {RHAT_LIMIT}"
    wanted = f"of f, over {chains} chains of {schedule.samples}; at least {SAMPLES_WANTED:g}"
    return (
        AssumptionFinding(
            "(A3) stationary", rhat <= RHAT_LIMIT and count >= SAMPLES_WANTED, rhat, text
        ),
        AssumptionFinding("effective samples", count >= SAMPLES_WANTED, count, wanted),
    )


def _outer_shape(
    problem: BilevelProblem,
    lam: Lam,
    dynamics: Langevin,
    schedule: Schedule,
    draws: Draws,
    radius: float,
    pairs: int,
) -> tuple[AssumptionFinding, AssumptionFinding]:
    """Smoothness and convexity of the pathwise objective, from exact gradients at pairs of points."""
    exact = RMD(dynamics, schedule)
    ratios, slopes = [], []
    for pair in range(pairs):
        ends = []
        for side in (0, 1):
            direction = draws.normal(Stream.DIRECTIONS, 2 + 2 * pair + side, lam)
            at = lam + radius * direction / direction.norm()
            ends.append((at, exact.estimate(problem, at, draws).value))
        apart, change = ends[0][0] - ends[1][0], ends[0][1] - ends[1][1]
        square = float(apart @ apart)
        if square == 0:
            continue
        ratios.append(float(change.norm()) / square**0.5)
        slopes.append(float(change @ apart) / square)
    top = max(ratios, default=float("nan"))
    low = min(slopes, default=float("nan"))
    step = f"{1 / top:.4g}" if top > 0 else "unbounded"
    return (
        AssumptionFinding(
            "smooth outer objective", None, top, f"largest L met; η ≤ 1/L allows {step}"
        ),
        # Below zero by more than rounding is not convex; above zero proves nothing.
        AssumptionFinding(
            "convex outer objective", low >= -1e-9 * top, low, "smallest curvature met"
        ),
    )


def check_assumptions(
    problem: BilevelProblem,
    lam: Lam,
    dynamics: Langevin,
    schedule: Schedule,
    draws: Draws = SEED_ZERO,
    chains: int = 4,
    pairs: int = 8,
    radius: float = 0.05,
) -> AssumptionReport:
    """Measure the assumptions of Theorems 1 and 2 of Kim and Hospedales on a problem.

    Args:
        problem: the bilevel problem.
        lam: where, shape (p,).
        dynamics: the step rule.
        schedule: B and M.
        draws: the randomness; chain number i uses seed + i.
        chains: independent chains for R̂.
        pairs: pairs of points at which the outer objective's gradient is compared.
        radius: how far those points lie from λ.

    Returns:
        The measured constants, which assumptions hold, and the bound on HPO-SGLD's error here.

    Raises:
        ArgumentError, ArgumentTypeError, LossError: for arguments that cannot be used.
        DivergenceError: if the inner chain leaves the finite numbers.

    Example:
        >>> import torch
        >>> problem = BilevelProblem(
        ...     inner=lambda lam, theta, _: 0.5 * (theta - lam).square().sum(),
        ...     outer=lambda lam, theta, _: theta.square().sum(),
        ...     initial=FixedInitial(torch.zeros(1, dtype=torch.float64)),
        ... )
        >>> lam = torch.ones(1, dtype=torch.float64)
        >>> report = check_assumptions(problem, lam, Langevin(0.1), Schedule.last(20))
        >>> report.theorem_1, report.error_found <= report.error_bound
        (False, True)
    """
    check_arguments(problem, lam, draws)
    require_integer("chains", chains, 2, "compare at least two chains")
    require_integer("pairs", pairs, 1, "compare at least one pair of points")
    require_real("radius", radius, "choose a positive distance")
    lam = lam.detach()
    chain = Chain(problem, dynamics, draws)
    dense = max(lam.numel(), chain.initial(lam).numel()) <= DENSE_LIMIT
    gamma = dynamics.step_size
    path = walk(chain, lam, schedule.steps, dense, draws)
    fixed = isinstance(problem.initial, FixedInitial)
    hessians = np.array([norm.hessian for norm in path.norms])
    mixeds = np.array([norm.mixed for norm in path.norms])
    smallest = np.array([norm.smallest for norm in path.norms])
    contractive = bool((smallest >= 0).all() and (gamma * hessians <= 2).all())
    estimate = HPOSGLD(dynamics, schedule).estimate(problem, lam, draws).value
    exact = RMD(dynamics, schedule).estimate(problem, lam, draws).value
    size = float(estimate.norm())
    bound = None
    if fixed:
        slopes = torch.stack(path.slopes)
        bound = recursion_bound(gamma, schedule, slopes, hessians, mixeds, contractive)
    relative = float("nan") if bound is None else bound / size if size > 0 else float("inf")
    top = gamma * float(hessians.max())
    horizon = gamma * float(hessians[:-1].sum())
    stationary, samples = _stationarity(problem, lam, dynamics, schedule, draws, chains)
    smooth, convex = _outer_shape(problem, lam, dynamics, schedule, draws, radius, pairs)
    low = float(smallest[-1])
    condition = float(hessians[-1]) / low if low > 0 else float("inf")
    return AssumptionReport(
        initial=AssumptionFinding(
            "(A1) θ⁰ independent of λ", fixed, float(fixed), "1 if it is a fixed point"
        ),
        resolution=AssumptionFinding(
            "(A2) small steps",
            None if bound is None else relative <= SMALL_ERROR,
            relative,
            f"error bound over ‖h‖, at most {SMALL_ERROR:g}; the horizon γΣ‖H‖ is {horizon:.4g}",
        ),
        stationary=stationary,
        samples=samples,
        stable=AssumptionFinding(
            "stable steps", top < 2, top, "largest γ·‖H‖ along the chain; below 2"
        ),
        conditioning=AssumptionFinding(
            "conditioning",
            None if not dense else condition < float("inf"),
            condition if dense else float("nan"),
            "λ_max/λ_min of H at the last iterate" if dense else "not formed at this size",
        ),
        lipschitz=AssumptionFinding(
            "Lipschitz f",
            None,
            max(path.direct),
            "largest ‖∂_λ f‖ met; says nothing about the step size that is allowed",
        ),
        smooth=smooth,
        convex=convex,
        error_bound=bound,
        error_found=float((estimate - exact).norm()),
        estimate=size,
        dense=dense,
    )
