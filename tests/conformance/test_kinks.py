"""Where the minimiser lies on a kink of the inner loss, the refusal of the implicit estimand says so.

Generated problems: a lasso, least absolute deviations, a hinge and a maximum, from starts at zero and
elsewhere. Quick: a seed of each kind (3 s of processor time); more seeds are marked full.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from refblo.conformance import hypergradient_report
from refblo.errors import OracleError

Penalised = Callable[[Tensor, Tensor], Tensor]


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lasso(seed: int) -> Penalised:
    x, y = _normal(seed, 12, 4), _normal(seed + 1, 12)
    return lambda lam, t: (x @ t - y).square().mean() + lam.exp() * 4 * t.abs().sum()


def absolute_deviations(seed: int) -> Penalised:
    x, y = _normal(seed, 9, 3), _normal(seed + 1, 9)
    return lambda lam, t: (x @ t - y).abs().mean() + 0.01 * lam.exp() * t.square().sum()


def hinge(seed: int) -> Penalised:
    x, y = _normal(seed, 10, 3), _normal(seed + 1, 10).sign()
    return lambda lam, t: (1 - y * (x @ t)).relu().sum() + 0.1 * lam.exp() * t.square().sum()


def maximum(seed: int) -> Penalised:
    x, y = _normal(seed, 8, 3), _normal(seed + 1, 8)
    return lambda lam, t: (x @ t - y).amax() + 0.5 * lam.exp() * t.square().sum()


KINDS = {"lasso": lasso, "absolute": absolute_deviations, "hinge": hinge, "maximum": maximum}


def _refusal(inner: Penalised, start: Tensor) -> str:
    lam = torch.tensor(0.1, dtype=torch.float64)
    with pytest.raises(OracleError) as caught:
        hypergradient_report(
            inner,
            lambda _, t: (t - 1).square().sum(),
            lam,
            start,
            torch.ones_like(lam),
            steps=20,
            step_size=0.05,
            estimand="implicit",
        )
    return str(caught.value)


def _check(kind: str, seed: int) -> None:
    inner = KINDS[kind](10 * seed)
    size = 4 if kind == "lasso" else 3
    for start in (torch.zeros(size).double(), _normal(seed + 5, size)):
        said = _refusal(inner, start)
        assert "got a kink there: ∂_θ inner jumps" in said
        assert "run more steps" not in said


@pytest.mark.parametrize("kind", KINDS)
def test_a_kink_at_the_minimiser_is_named(kind: str) -> None:
    _check(kind, 0)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(1, 13))
def test_a_kink_at_the_minimiser_is_named_for_many_seeds(kind: str, seed: int) -> None:
    _check(kind, seed)


def test_a_minimiser_far_away_is_none() -> None:
    """A loss without a minimiser: the advice to run more steps stays."""
    x = _normal(3, 6, 2)
    said = _refusal(
        lambda lam, t: lam * (x @ t).exp().mean() + t.sum() * 1e3, torch.ones(2).double()
    )
    assert "kink" not in said


def test_a_norm_at_zero_is_not_finite() -> None:
    x, y = _normal(0, 12, 4), _normal(1, 12)

    def group_lasso(lam: Tensor, t: Tensor) -> Tensor:
        return (x @ t - y).square().mean() + lam.exp() * 9 * (t.square().sum()).sqrt()

    assert "not finite" in _refusal(group_lasso, torch.zeros(4).double())
