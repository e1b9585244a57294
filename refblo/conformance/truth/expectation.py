"""`hypergradcheck` for the Gibbs estimand: by two quadratures, and by Student's t for sampled estimates.

For up to two parameters both oracles integrate over p ∝ exp(−L_T/τ): one the covariance identity, one
differences of E_p[f]. An estimate that is drawn from a seed is judged by its mean over seeds.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.conformance.truth.program import Program
from refblo.errors import ArgumentError, OracleError, require
from refblo.problem import BilevelProblem, FixedInitial
from refblo.types import Batch, Estimand, Truth

Array = np.ndarray
ERROR_RATE = 1e-6
"""The chance that an unbiased estimate is accused, over all its coordinates together."""

POWER = 0.99
"""The chance with which the bias that is reported as detectable is detected."""


@final
@dataclass(frozen=True, eq=False)
class MeanJudgement:
    """A mean over seeds beside a truth.

    Attributes:
        right: whether every coordinate is within its bound.
        mean: the mean, shape (p,).
        worst: the coordinate that is furthest off in units of what it may be.
        off: by how much that one is off.
        bound: by how much it may be.
        detectable: the bias in one coordinate that is seen with chance `POWER`.
    """

    right: bool
    mean: Float64[Array, " p"]
    worst: int
    off: float
    bound: float
    detectable: float


def judge_mean(
    sample: Float64[Array, "N p"], truth: Float64[Array, " p"], slack: float
) -> MeanJudgement:
    """Student's t for each coordinate with Bonferroni's correction.

    Args:
        sample: independent estimates, at least two.
        truth: what their mean should be.
        slack: what each coordinate may be off by besides: the truth's error, a declared tolerance.
    """
    from scipy import stats  # not needed elsewhere, and slow to import

    count, dimension = sample.shape
    require(count >= 2, "seeds", "be at least 2", count, "one estimate has no spread")
    mean = sample.mean(axis=0)
    standard = sample.std(axis=0, ddof=1) / math.sqrt(count)
    quantile = float(stats.t.isf(ERROR_RATE / (2 * dimension), count - 1))
    allowed = quantile * standard + slack
    needed = (quantile + float(stats.norm.ppf(POWER))) * float(standard.max()) + slack
    gaps = np.abs(mean - truth)
    worst = int(np.argmax(gaps - allowed))
    right = bool(np.all(gaps <= allowed))
    return MeanJudgement(right, mean, worst, float(gaps[worst]), float(allowed[worst]), needed)


def gibbs_truth(program: Program, temperature: float | None = None) -> tuple[Truth, float]:
    """The Gibbs hypergradient of a program's losses, and how far the two oracles are apart, relative.

    The density is that which the program's rule samples: p ∝ exp(−(L_T + w‖θ‖²/2)/τ).

    Args:
        program: the program.
        temperature: τ; the rule's if None.

    Raises:
        OracleError: if there are more than two parameters, the rule samples no Gibbs density, or the
            oracles disagree.
    """
    # Here, because both import sympy, which other estimands do not need and which is slow to import.
    from refblo.oracles.quadrature import GibbsDifference, GibbsQuadrature
    from refblo.problems.case import Case

    losses = program.losses
    if losses is None or losses.frozen.anything or program.size > 2:
        raise OracleError(
            "the Gibbs estimand must have at most two parameters and losses without batches here, got "
            f"{program.size} parameters; check a smaller instance of the same code"
        )
    rule = losses.rule
    if rule.buffers > 0:
        raise OracleError(
            f"rule must be plain Langevin dynamics for the Gibbs estimand, got {rule.formula.name}, whose "
            "stationary density is another; drop it, or ask for the pathwise estimand"
        )
    tau = rule.temperature if temperature is None else temperature

    def energy(lam: Tensor, theta: Tensor, batch: Batch) -> Tensor:
        value = losses.inner(lam, theta, batch)
        return value + rule.decay_energy(lam, theta)

    inner = energy if rule.has("weight_decay") else losses.inner
    problem = BilevelProblem(
        inner, losses.outer, FixedInitial(losses.initial(program.lam).detach())
    )
    dynamics = Langevin(rule.constant_step_size or 1.0, tau, noise_scale=1.0)
    case = Case("the caller's problem", problem, program.lam, dynamics, Schedule.last(1))
    first = GibbsQuadrature().truth(case, Estimand.GIBBS)
    second = GibbsDifference().truth(case, Estimand.GIBBS)
    gap = float((first.value - second.value).norm())
    scale = float(first.value.norm())
    if gap > first.error + second.error:
        raise OracleError(
            f"the two quadratures must agree, got a gap of {gap:.1e} with errors {first.error:.1e} and "
            f"{second.error:.1e}: no verdict is possible; look for a kink, or raise the temperature"
        )
    return first, gap / scale if scale > 0 else gap


def estimates(
    hypergradient: Callable[..., object],
    lam: Callable[[], object],
    seeds: int,
    vector: Callable[[object], Array],
) -> Float64[Array, "N p"]:
    """What the caller's function returns for seeds 0 … N − 1.

    Raises:
        ArgumentError: if the same seed gives two answers.
    """
    rows = [vector(hypergradient(lam(), seed)) for seed in range(seeds)]
    again = vector(hypergradient(lam(), 0))
    if not np.array_equal(again, rows[0]):
        raise ArgumentError(
            "hypergradient must be a function of (lam, seed), got two answers for seed 0; "
            "draw from a generator made from the seed"
        )
    return np.stack(rows)
