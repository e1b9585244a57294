"""The relations that a contract may claim between an estimator and a truth.

Each relation judges one kind of measurement and passes on bounds: errors of oracles, rounding, errors of
extrapolations, standard errors at a stated error rate. A relation that states a bias is judged as
strictly as one that states exactness: the predicted limit must be met.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import scipy
from jaxtyping import Float64

from refblo.contracts.comparison import Comparison
from refblo.contracts.extrapolation import extrapolate
from refblo.errors import require

Array = np.ndarray


@final
@dataclass(frozen=True)
class RelationJudgement:
    """What came of checking a relation.

    Attributes:
        holds: the verdict.
        measured: the figure that was judged, in words and digits.
        predicted: what it had to be.
        margin: how much of what was allowed was used; at most 1 where the relation holds.
    """

    holds: bool
    measured: str
    predicted: str
    margin: float


@final
@dataclass(frozen=True, eq=False)
class ParameterSweep:
    """Vectors x(s) over a swept parameter s, with a bound on each one's own error.

    Attributes:
        parameter: the name of s.
        at: the values of s, from the coarsest to the finest, shape (k,).
        values: shape (k, d).
        noise: bounds on the error of each row (rounding, oracle), shape (k,).
    """

    parameter: str
    at: Float64[Array, " k"]
    values: Float64[Array, "k d"]
    noise: Float64[Array, " k"]


@final
@dataclass(frozen=True, eq=False)
class Replicates:
    """Independent estimates over seeds and the truth of their mean.

    Attributes:
        values: shape (N, d); rows are independent, so that the effective sample size is N.
        truth: shape (d,).
        truth_error: bound on the error of `truth`.
    """

    values: Float64[Array, "N d"]
    truth: Float64[Array, " d"]
    truth_error: float


@final
@dataclass(frozen=True)
class Exact:
    """The estimate is the truth: their distance is within the sum of the error bounds."""

    def judge(self, measured: Comparison) -> RelationJudgement:
        """Judge one comparison."""
        bound = measured.bound
        return RelationJudgement(
            holds=measured.within,
            measured=f"distance {measured.distance:.1e} ({max(measured.digits, 0):.1f} digits)",
            predicted=f"at most {bound:.1e} ({measured.kind.value}, {measured.oracle})",
            margin=measured.distance / bound if bound > 0 else math.inf,
        )


@final
@dataclass(frozen=True, eq=False)
class Order:
    """error(s) = constant · s^slope · (1 + O(s^correction)): slope and leading vector are predicted.

    Attributes:
        slope: the predicted power of s.
        constant: the predicted leading coefficient, shape (d,).
        correction: the power of s of the next term relative to the leading one.
    """

    slope: float
    constant: Float64[Array, " d"]
    correction: float

    def judge(self, measured: ParameterSweep) -> RelationJudgement:
        """Judge the error vectors of a geometric sweep by their extrapolated leading coefficient.

        The slope is measured too, as the extrapolated limit of the local slopes of the norms.
        """
        at, ratio = measured.at, _ratio(measured.at)
        powers = at**self.slope
        scaled = measured.values / powers[:, None]
        limit = extrapolate(scaled, ratio, self.correction, measured.noise / powers)
        off = float(np.linalg.norm(limit.value - self.constant))
        size = float(np.linalg.norm(self.constant))
        norms = np.linalg.norm(measured.values, axis=1)
        if not norms.all():
            # No error at all has no slope; the predicted constant is then refuted, unless it is zero.
            return RelationJudgement(
                False, "no error at some step", f"constant {size:.5g}", math.inf
            )
        slopes = np.log(norms[:-1] / norms[1:]) / np.log(ratio)
        slope_noise = 2 * (measured.noise / norms)[1:] / np.log(ratio)
        slope = extrapolate(slopes[:, None], ratio, self.correction, slope_noise)
        slope_off = abs(float(slope.value[0]) - self.slope)
        # A constant measured to worse than its own size would confirm anything.
        informative = limit.error < size and slope.error < 1 / 4
        margin = max(off / limit.error, slope_off / slope.error)
        return RelationJudgement(
            holds=informative and margin <= 1,
            measured=(
                f"slope {float(slope.value[0]):.4f} ± {slope.error:.1e}, constant "
                f"{np.linalg.norm(limit.value):.5g} ± {limit.error:.1e}"
            ),
            predicted=f"slope {self.slope:g}, constant {size:.5g} (as a vector, off by {off:.1e})",
            margin=margin if informative else math.inf,
        )


@final
@dataclass(frozen=True, eq=False)
class Biased:
    """The estimate converges, but to a predicted limit that is not the truth.

    Attributes:
        limit: the predicted limit, shape (d,).
        limit_error: bound on the error of the prediction.
        truth: the limit of the truth, shape (d,), for the size of the bias.
        correction: the leading power of s in estimate(s) − limit.
    """

    limit: Float64[Array, " d"]
    limit_error: float
    truth: Float64[Array, " d"]
    correction: float

    def judge(self, measured: ParameterSweep) -> RelationJudgement:
        """Judge the estimates of a geometric sweep by their extrapolated limit."""
        found = extrapolate(measured.values, _ratio(measured.at), self.correction, measured.noise)
        off = float(np.linalg.norm(found.value - self.limit))
        allowed = found.error + self.limit_error
        bias = float(np.linalg.norm(self.limit - self.truth))
        size = float(np.linalg.norm(self.truth))
        informative = allowed < bias
        return RelationJudgement(
            holds=informative and off <= allowed,
            measured=f"limit off the predicted one by {off:.1e} (allowed {allowed:.1e})",
            predicted=f"a bias of {bias:.4g}, {100 * bias / size:.3g} % of the truth",
            margin=off / allowed if informative else math.inf,
        )


@final
@dataclass(frozen=True)
class Geometric:
    """error(K) ≤ constant · rate^K for every K: both are predicted.

    Attributes:
        rate: the predicted rate, in (0, 1).
        constant: the predicted constant.
        error: K ↦ the predicted error itself, shape (d,), where it is known: a bound alone is met by whatever
            is closer to the limit, such as one term more. None where it is not.
    """

    rate: float
    constant: float
    error: Callable[[float], Float64[Array, " d"]] | None = None

    def __post_init__(self) -> None:
        require(
            0 <= self.rate < 1,
            "rate",
            "lie in [0, 1)",
            self.rate,
            "choose a rate at which the series converges",
        )

    def judge(self, measured: ParameterSweep) -> RelationJudgement:
        """Judge the error vectors of a sweep over K; the measured rate is reported beside the bound."""
        errors = np.linalg.norm(measured.values, axis=1)
        bounds = self.constant * self.rate**measured.at + measured.noise
        margin = float(np.max(errors / bounds))
        exactly = ""
        if self.error is not None:
            predicted = np.stack([self.error(float(count)) for count in measured.at])
            off = np.linalg.norm(measured.values - predicted, axis=1)
            margin = max(margin, float(np.max(off / measured.noise)))
            exactly = f"; as a vector, off by {off.max():.1e}"
        # The rate is visible only above the rounding floor.
        clear = errors > 10 * measured.noise
        rate = "at rounding level"
        if clear.sum() >= 2:
            fit = scipy.stats.linregress(measured.at[clear], np.log(errors[clear]))
            rate = f"rate {np.exp(fit.slope):.4f}"
        return RelationJudgement(
            holds=margin <= 1,
            measured=f"{rate} over {measured.parameter} = {measured.at[0]:g} … {measured.at[-1]:g}",
            predicted=f"error at most {self.constant:.3g} · {self.rate:.4f}^{measured.parameter}{exactly}",
            margin=margin,
        )


@final
@dataclass(frozen=True)
class Unbiased:
    """The mean over seeds is the truth, within k standard errors.

    Attributes:
        error_rate: the chance that a correct estimator is accused, over all coordinates together.
    """

    error_rate: float = 1e-6

    def judge(self, measured: Replicates) -> RelationJudgement:
        """Judge each coordinate's mean by Student's t, with Bonferroni's correction."""
        count, dimension = measured.values.shape
        mean = measured.values.mean(axis=0)
        standard = measured.values.std(axis=0, ddof=1) / math.sqrt(count)
        k = float(scipy.stats.t.isf(self.error_rate / (2 * dimension), count - 1))
        allowed = k * standard + measured.truth_error
        margin = float(np.max(np.abs(mean - measured.truth) / allowed))
        return RelationJudgement(
            holds=margin <= 1,
            measured=(
                f"mean of {count} seeds off by {np.linalg.norm(mean - measured.truth):.1e} "
                f"(standard error {np.linalg.norm(standard):.1e}, truth {np.linalg.norm(measured.truth):.2g})"
            ),
            predicted=f"each coordinate within {k:.1f} standard errors (error rate {self.error_rate:g})",
            margin=margin,
        )


def _ratio(at: Float64[Array, " k"]) -> float:
    """The common ratio of a geometric sweep.

    Raises:
        ArgumentError: if the sweep is not geometric.
    """
    ratios = at[:-1] / at[1:]
    spread = float(np.ptp(ratios))
    # Step counts are integers, so that a ratio of exactly 2 is the rule; this catches mistakes.
    require(
        spread <= 1e-9 * float(ratios[0]),
        "at",
        "be a geometric sweep",
        ratios.tolist(),
        "space the sweep evenly in the logarithm",
    )
    return float(ratios[0])
