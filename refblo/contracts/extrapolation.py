"""Richardson extrapolation of a sequence of vectors, with an error estimate.

A contract that predicts x(ε) → x₀ is judged at ε = 0, where the prediction is made, not at the smallest
ε that was affordable.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.errors import require


@final
@dataclass(frozen=True, eq=False)
class Limit:
    """The extrapolated limit of a sequence.

    Attributes:
        value: shape (d,).
        error: estimate of ‖value − true limit‖₂: the larger of the changes that the last elimination
            and the last refinement made, plus the noise of the sequence carried through.
    """

    value: Float64[np.ndarray, " d"]
    error: float


def extrapolate(
    values: Float64[np.ndarray, "k d"],
    ratio: float,
    exponent: float,
    noise: Float64[np.ndarray, " k"] | None = None,
) -> Limit:
    """The limit ε → 0 of x(ε_i) = x₀ + c₁ ε_i^r + c₂ ε_i^{2r} + …, ε_{i+1} = ε_i / ratio.

    Args:
        values: x(ε_i), from the largest ε to the smallest, at least three of them.
        ratio: ε_i / ε_{i+1} > 1.
        exponent: r > 0.
        noise: bounds on the error of each row; none when omitted.

    Returns:
        The limit and the estimate of its error.

    Raises:
        ArgumentError: for fewer than three values, a ratio ≤ 1 or an exponent ≤ 0.
    """
    require(
        len(values) >= 3,
        "values",
        "hold at least three rows",
        len(values),
        "add points to the sweep",
    )
    require(ratio > 1, "ratio", "exceed 1", ratio, "order the sweep from large to small")
    require(
        exponent > 0,
        "exponent",
        "be positive",
        exponent,
        "give the power of the leading correction",
    )
    column = np.asarray(values, dtype=np.float64)
    level = np.zeros(len(column)) if noise is None else np.asarray(noise, dtype=np.float64)
    best, smallest = column[-1], np.inf
    order = 1
    # The last column has one entry, whose error nothing shows: it serves to judge the one before.
    while len(column) > 2:
        factor = ratio ** (exponent * order)
        refined = (factor * column[1:] - column[:-1]) / (factor - 1)
        level = (factor * level[1:] + level[:-1]) / (factor - 1)
        # Both changes must be small: one of them alone can be so by coincidence.
        elimination = float(np.linalg.norm(refined[-1] - column[-1]))
        refinement = float(np.linalg.norm(refined[-1] - refined[-2]))
        error = max(elimination, refinement) + float(level[-1])
        if error < smallest:
            best, smallest = refined[-1], error
        column = refined
        order += 1
    return Limit(best, smallest)
