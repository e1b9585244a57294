"""Random problems are what their arguments ask for; real data are split as promised."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refblo.errors import ArgumentError
from refblo.noise import Draws
from refblo.problems.case import Case
from refblo.problems.data import Split, diabetes, digits, iris
from refblo.problems.likelihoods import cross_entropy, softmax
from refblo.problems.namespace import TORCH
from refblo.problems.quadratic import instance
from refblo.testing.problems import random_composed, random_quadratic, random_separable

GENERATORS: tuple[Callable[[int, int, int], Case], ...] = (
    random_quadratic,
    random_separable,
    random_composed,
)


@pytest.mark.parametrize("generator", GENERATORS)
def test_p_must_differ_from_n(generator: Callable[[int, int, int], Case]) -> None:
    with pytest.raises(ArgumentError, match="p must differ from n = 3, got 3"):
        generator(0, 3, 3)
    with pytest.raises(ArgumentError, match="n must be at least 1, got 0"):
        generator(0, 0, 3)


@pytest.mark.parametrize("generator", GENERATORS)
def test_sizes_are_those_asked_for(generator: Callable[[int, int, int], Case]) -> None:
    for n, p in ((1, 4), (5, 2)):
        case = generator(1, n, p)
        assert case.lam.shape == (p,)
        assert case.problem.initial(case.lam).shape == (n,)
        assert torch.equal(case.lam, generator(1, n, p).lam)
        assert not torch.equal(case.lam, generator(2, n, p).lam)


@given(seed=st.integers(0, 10**6), n=st.integers(2, 6), condition=st.floats(1, 1e4))
def test_the_condition_number_is_the_one_asked_for(seed: int, n: int, condition: float) -> None:
    hessian = instance(Draws(seed), n, n + 1, condition).hessian
    assert np.array_equal(hessian, hessian.T)
    # An eigenvalue is known to n·u, relative to the largest, which is 1.
    error = 10 * n * np.finfo(float).eps * condition
    assert abs(np.linalg.cond(hessian) / condition - 1) <= error


def test_a_condition_number_below_one_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"condition_number must be at least 1, got 0\.5"):
        instance(Draws(0), 2, 3, 0.5)


@given(seed=st.integers(0, 10**6))
def test_the_smooth_problems_step_is_stable(seed: int) -> None:
    """γ is below 2 over the largest eigenvalue of the inner Hessian where the chain starts."""
    for generator in (random_separable, random_composed):
        case = generator(seed, 4, 3)
        theta = case.problem.initial(case.lam)
        hessian = torch.func.hessian(lambda t, c=case: c.problem.inner(c.lam, t, None))(theta)
        assert torch.linalg.eigvalsh(hessian)[-1] < 2 / case.dynamics.step_size


SPLITS: dict[str, Callable[[], Split]] = {
    "diabetes": lambda: diabetes(221, 221),
    "iris": lambda: iris(75, 75),
    "digits": lambda: digits(200, 200),
    "pooled digits": lambda: digits(200, 200, pooled=True),
}


@pytest.mark.parametrize("name", SPLITS)
def test_real_data_are_standardised_by_their_training_part(name: str) -> None:
    split = SPLITS[name]()
    mean, deviation = split.train.mean(axis=0), split.train.std(axis=0)
    error = len(split.train) * np.finfo(float).eps * np.abs(split.train).max()
    assert np.abs(mean).max() <= error
    varying = deviation > 0
    assert np.abs(deviation[varying] - 1).max() <= error
    assert not split.train[:, ~varying].any()
    assert varying.sum() >= min(split.train.shape[1], 50)


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_repeats_and_has_the_sizes_asked_for(name: str) -> None:
    first, second = SPLITS[name](), SPLITS[name]()
    assert np.array_equal(first.train, second.train)
    assert len(first.train) == len(first.train_targets)
    assert len(first.validation) == len(first.validation_targets) == len(first.train)


def test_training_and_validation_are_disjoint() -> None:
    split = diabetes(221, 221)
    rows = {tuple(row) for row in np.round(np.vstack([split.train, split.validation]), 9)}
    # The data hold 442 different patients, and both parts together are all of them.
    assert len(rows) == 442


def test_one_hot_targets() -> None:
    targets = digits(200, 200).train_targets
    assert targets.shape == (200, 10)
    assert set(np.unique(targets)) == {0.0, 1.0}
    assert bool((targets.sum(axis=1) == 1).all())
    assert targets.sum(axis=0).min() > 0


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 500))
def test_cross_entropy_is_torchs(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(4, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (4,), generator=generator)
    targets = torch.nn.functional.one_hot(labels, 3).double()
    value = cross_entropy(TORCH)(logits, targets)
    expected = torch.nn.functional.cross_entropy(logits, labels)
    assert abs(value - expected) <= 20 * torch.finfo(torch.float64).eps * logits.abs().max()
    torch.testing.assert_close(
        softmax(TORCH)(logits), torch.softmax(logits, dim=1), rtol=1e-14, atol=1e-300
    )  # a shift, an exponential and a quotient: a few roundings
