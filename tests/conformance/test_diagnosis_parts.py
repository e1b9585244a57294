"""The arithmetic that candidates are made of, each part against its definition. 1 s of processor time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo import HPOSGLD, BilevelProblem, FixedInitial, Langevin
from refblo.conformance.diagnosis import moments, series, transition, unconverged
from refblo.conformance.diagnosis.rewritten import KINDS, ConstantNormalisers
from refblo.rules import Rule
from refblo.rules.operations import TORCH
from tests.conformance.plants import generated
from tests.conformance.plants_of_solves import implicit_problem

MATRIX = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()

NORMALISERS: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "softmax": [
        lambda x: torch.softmax(x, 1),
        lambda x: torch.softmax(x, dim=0),
        lambda x: x.softmax(-1),
        lambda x: torch.nn.functional.log_softmax(x, dim=1),
        lambda x: x.log_softmax(1),
    ],
    "norm": [
        lambda x: x / x.norm(),
        lambda x: x / torch.linalg.vector_norm(x, dim=1, keepdim=True),
    ],
    "statistic": [
        lambda x: x - x.mean(1, keepdim=True),
        lambda x: x - x.mean(dim=1, keepdim=True),
        lambda x: x - torch.mean(x, 0),
        lambda x: x - torch.mean(x, dim=0),
        lambda x: x / x.std(0),
        lambda x: x / torch.var(x, dim=1, keepdim=True),
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_write_a_normaliser_is_seen(kind: str) -> None:
    """The value stays, and the derivative is another."""
    weights = MATRIX.cos()
    for function in NORMALISERS[kind]:
        x, y = MATRIX.clone().requires_grad_(), MATRIX.clone().requires_grad_()
        plain = function(x)
        mode = ConstantNormalisers(kind)
        with mode:
            changed = function(y)
        assert mode.touched
        torch.testing.assert_close(changed, plain)
        (right,) = torch.autograd.grad((plain * weights).sum(), x)
        (other,) = torch.autograd.grad((changed * weights).sum(), y)
        assert (right - other).norm() > 1e-3 * right.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_normaliser_of_the_kind_is_left_alone(kind: str) -> None:
    others: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.mean(),
        torch.mean,
        *(function for name, some in NORMALISERS.items() if name != kind for function in some),
    ]
    for function in others:
        x = MATRIX.clone().requires_grad_()
        mode = ConstantNormalisers(kind)
        with mode:
            changed = function(x)
        assert not mode.touched
        assert changed.requires_grad


NUMBERS = Rule(0.1, betas=(0.8, 0.9), adam_epsilon=0.05).numbers(torch.zeros(1), 3)


@pytest.mark.parametrize("step", [0, 1, 5])
def test_directions_of_adam_have_the_values_of_their_formulas(step: int) -> None:
    m, v = MATRIX[0], MATRIX[1].square()
    one, two = 1 - 0.8 ** (step + 1), 1 - 0.9 ** (step + 1)
    right = (m / one) / ((v / two).sqrt() + 0.05)
    expected = {
        moments._smooth: right,
        moments._masked: right,
        moments._fixed: right,
        moments._early: (m / one) * two**0.5 / (v.sqrt() + 0.05),
        moments._rootless: (m / one) / (v / two**0.5 + 0.05),
        moments._uncorrected: m / (v.sqrt() + 0.05),
        moments._first_uncorrected: m / ((v / two).sqrt() + 0.05),
        moments._second_uncorrected: (m / one) / (v.sqrt() + 0.05),
    }
    for direction, value in expected.items():
        torch.testing.assert_close(direction(m, v, NUMBERS, step), value, rtol=1e-14, atol=0)
    single = moments._single(m, v, NUMBERS, step)
    assert 0 < (single - right).norm() < 1e-5 * right.norm()
    counted = moments._counted(lambda t: t + 1, lambda t: t + 1, m, v, NUMBERS, step)
    torch.testing.assert_close(counted, right, rtol=1e-14, atol=0)


def test_adam_with_an_undifferentiated_epsilon_has_the_slope_of_its_formula() -> None:
    m, v = MATRIX[0].clone(), MATRIX[1].square().requires_grad_()
    (found,) = torch.autograd.grad(moments._smooth(m, v, NUMBERS, 2).sum(), v)
    one, two = 1 - 0.8**3, 1 - 0.9**3
    size = TORCH.root(v.detach() / two, NUMBERS.root_epsilon) + 0.05
    # ∂√v̂/∂v is 1 / 2(√v̂ + ε) / (1 − β₂ᵗ), and 1/(√v̂ + ε) has the slope −1/(√v̂ + ε)² by √v̂.
    torch.testing.assert_close(found, -(m / one) / size**2 / (2 * size) / two)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_neumann_series_has_the_sum_of_its_terms(count: int, scaled: bool) -> None:
    values, scale = np.array([0.0, 1e-16, 0.3, 1.0, 2.5]), 0.4
    total = sum((1 - scale * values) ** power for power in range(count))
    found = series._weights(values, scale, count, scaled=scaled)
    np.testing.assert_allclose(found, scale * total if scaled else total, rtol=1e-14)


def test_iterates_are_asked_until_they_are_the_solution() -> None:
    """The first is θ⁰ itself, and none is left out that is far from the solution."""
    subject = implicit_problem(0).subject()
    texts = [candidate.text for candidate in unconverged.candidates(subject)]
    residuals = [float(text.rpartition(" ")[2]) for text in texts]
    assert "after 0 inner steps" in texts[0]
    assert len(texts) > 10
    assert 1e-13 * residuals[0] < residuals[-1] < 1e-9 * residuals[0]


def test_the_recursion_of_hpo_sgld_is_that_of_the_estimator() -> None:
    problem = generated(0)
    stated = BilevelProblem(
        lambda lam, theta, _: problem.inner(lam, theta),
        lambda lam, theta, _: problem.outer(lam, theta),
        FixedInitial(problem.theta0),
    )
    method = HPOSGLD(Langevin(problem.rule.constant("step_size")), problem.schedule)
    expected = method.estimate(stated, problem.lam).value
    found = transition._hpo_sgld(problem.subject().trace)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12)
