"""The extrapolated limit is the limit, and its stated error covers what is left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refblo.contracts.extrapolation import extrapolate
from refblo.errors import ArgumentError

coefficients = st.lists(st.floats(-3, 3), min_size=3, max_size=3)


@given(limit=st.floats(-5, 5), tail=coefficients, exponent=st.sampled_from([0.5, 1.0, 2.0]))
def test_error_covers_a_smooth_series(limit: float, tail: list[float], exponent: float) -> None:
    at = 0.1 * 0.5 ** np.arange(8)
    powers = np.stack([at ** (exponent * (k + 1)) for k in range(3)])
    # Beyond the polynomial part, something that elimination cannot remove exactly.
    values = limit + np.array(tail) @ powers + 0.3 * np.exp(-1 / at)
    found = extrapolate(values[:, None], 2.0, exponent)
    rounding = 1e-13 * (1 + abs(limit) + np.abs(tail).sum())
    assert abs(found.value[0] - limit) <= found.error + rounding


def test_noise_is_carried_through() -> None:
    at = 0.5 ** np.arange(6)
    noise = np.full(6, 1e-3)
    wobble = 1e-3 * np.array([1, -1, 1, -1, 1, -1])
    found = extrapolate((2 + at + wobble)[:, None], 2.0, 1.0, noise)
    assert abs(found.value[0] - 2) <= found.error
    assert found.error > 1e-3


@pytest.mark.parametrize(
    ("rows", "ratio", "exponent", "argument"),
    [(2, 2.0, 1.0, "values"), (4, 1.0, 1.0, "ratio"), (4, 2.0, 0.0, "exponent")],
)
def test_refuses(rows: int, ratio: float, exponent: float, argument: str) -> None:
    with pytest.raises(ArgumentError, match=argument):
        extrapolate(np.ones((rows, 1)), ratio, exponent)
