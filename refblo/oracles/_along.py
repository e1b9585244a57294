"""Differences along directions, as an oracle states them."""

from jaxtyping import Float64
from torch import Tensor

from refblo.derivatives.differences import Differences
from refblo.oracles.protocol import DirectionalTruth
from refblo.problems.case import Case
from refblo.types import ErrorKind, Estimand


def along_directions(
    found: Differences,
    directions: Float64[Tensor, "p k"],
    case: Case,
    estimand: Estimand,
    oracle: str,
) -> tuple[DirectionalTruth, ...]:
    """The differences as directional truths, one for each column."""
    kind = ErrorKind.ESTIMATED
    return tuple(
        DirectionalTruth(direction.to(case.lam), float(value), float(error), kind, estimand, oracle)
        for direction, value, error in zip(
            directions.unbind(1), found.values, found.errors, strict=True
        )
    )
