"""A kink where a derivative is asked for is told: at the minimiser, or at λ.

Generated problems: a lasso, least absolute deviations, a hinge and a maximum, from starts at zero and
elsewhere; ties of a learned start. Quick: a seed of each kind (4 s of processor time); more seeds are marked
full.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
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
    return lambda lam, t: (x @ t - y).amax() + 0.02 * lam.exp() * t.square().sum()


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


def _tied(seed: int, dtype: torch.dtype) -> str:
    """The refusal of a convolutional learner of its start, with biases of 0 and half of each image blank."""
    x, other = _normal(seed, 3, 1, 6, 6).to(dtype), _normal(seed + 1, 3, 1, 6, 6).to(dtype)
    x[:, :, :3] = 0
    labels = torch.arange(3)
    start = {
        "kernel": 0.5 * _normal(seed + 2, 2, 1, 3, 3).to(dtype),
        "bias": torch.zeros(2, dtype=dtype),
        "last": 0.3 * _normal(seed + 3, 8, 3).to(dtype),
    }

    def scores(t: dict[str, Tensor], images: Tensor) -> Tensor:
        active = F.relu(F.conv2d(images, t["kernel"], t["bias"]))
        return F.max_pool2d(active, 2).flatten(1) @ t["last"]

    with pytest.raises(OracleError) as caught:
        hypergradient_report(
            lambda _, t: F.cross_entropy(scores(t, x), labels),
            lambda _, t: F.cross_entropy(scores(t, other), labels),
            start,
            lambda lam: lam,
            start,
            steps=3,
            step_size=0.1,
        )
    return str(caught.value)


@pytest.mark.parametrize(
    "dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.full)], ids=str
)
def test_a_tie_at_the_start_is_told_with_its_slopes(dtype: torch.dtype) -> None:
    assert "a kink at this lam: one-sided slopes" in _tied(0, dtype)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 13))
def test_ties_at_the_start_are_told_for_many_seeds(seed: int) -> None:
    assert "a kink at this lam: one-sided slopes" in _tied(10 * seed, torch.float64)


def test_a_rough_objective_is_no_kink() -> None:
    """It is as rough on either side of lam alone."""
    lam = torch.tensor([0.3, 0.7], dtype=torch.float64)

    def rough(lam: Tensor, t: Tensor) -> Tensor:
        return (t * t).sum() + 1e-3 * (1e18 * lam.sum()).sin().detach()

    with pytest.raises(OracleError, match=r"resolvable by differences") as caught:
        hypergradient_report(
            lambda lam, t: (t - lam).square().sum(), rough, lam, lam, lam, step_size=0.1
        )
    assert "kink at this lam: one" not in str(caught.value)
