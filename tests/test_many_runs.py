"""Runs side by side are the runs one by one."""

import pytest
import torch
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.contracts.rounding import rounding_error
from refblo.errors import ArgumentError
from refblo.estimators import FMD, HPOSGLD, RMD, Compiled, Estimator, IFTNeumann, RMDFirstOrder
from refblo.many_runs import APART, side_by_side
from refblo.noise import Draws
from refblo.problem import BilevelProblem, Composed, FixedInitial, RegulariserProducts, Separable
from refblo.problems import build

RULE, RUNS = Langevin(0.02), 3
METHODS: tuple[Estimator, ...] = (
    FMD(RULE, Schedule(2, 2)),
    RMD(RULE, Schedule(2, 2)),
    RMDFirstOrder(RULE, Schedule(2, 2)),
    HPOSGLD(RULE, Schedule(2, 2)),
    IFTNeumann(RULE, 4, 0.02, 3),
)


def rows(lam: Tensor) -> Tensor:
    """A λ for each run, shape (RUNS, p)."""
    return lam * torch.linspace(0.9, 1.1, RUNS, dtype=lam.dtype).unsqueeze(1)


def agree(method: Estimator, problem: BilevelProblem, lam: Tensor) -> None:
    draws, lams = Draws(5), rows(lam)
    many = method.estimate(side_by_side(problem, RUNS), lams.flatten(), draws)
    found, theta = many.value.view(RUNS, -1), many.theta.view(RUNS, -1)
    for run, at in enumerate(lams):
        own = Draws(5 + run * APART)
        alone = method.estimate(problem, at, own)
        allowed = rounding_error(method, problem, at, own, alone.value, 20)
        assert float((found[run] - alone.value).norm()) <= allowed
        assert float((theta[run] - alone.theta).norm()) <= 1e-12 * float(alone.theta.norm())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("name", ["quadratic", "maml_quadratic", "softmax_digits_minibatch"])
def test_each_run_is_the_one_it_would_be_alone(method: Estimator, name: str) -> None:
    case = build(name)
    agree(method, case.problem, case.lam)


def structured(kind: str) -> BilevelProblem:
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(6, 2)
    products = RegulariserProducts(
        gradient=lambda lam, theta: 2 * lam * theta, mixed=lambda _, theta, v: 2 * theta * v
    )
    separable = Separable(
        data=lambda theta, _: (x @ theta).sin().sum(),
        regulariser=lambda lam, theta: (lam * theta.square()).sum(),
        products=products if kind == "closed form" else None,
    )
    composed = Composed(
        outputs=lambda theta, _: (x @ theta).tanh(),
        loss=lambda lam, z, _: (lam[0] * z.square()).sum() + lam[1] * z.sum(),
    )
    return BilevelProblem(
        inner=composed if kind == "composed" else separable,
        outer=lambda lam, theta, _: (theta - 1).square().sum() + 0.1 * (lam * theta).sum(),
        initial=FixedInitial(torch.tensor([0.4, -0.3], dtype=torch.float64)),
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("kind", ["separable", "closed form", "composed"])
def test_declared_structure_goes_along(method: Estimator, kind: str) -> None:
    problem = structured(kind)
    assert type(side_by_side(problem, RUNS).inner) is type(problem.inner)
    agree(method, problem, torch.tensor([0.7, 0.2], dtype=torch.float64))


def test_noise_is_each_runs_own_and_the_first_runs_is_the_problems() -> None:
    case = build("quadratic")
    method = HPOSGLD(Langevin(0.05, noise_scale=0.7), Schedule(2, 3))
    draws = Draws(4)
    many = method.estimate(side_by_side(case.problem, RUNS), case.lam.repeat(RUNS), draws)
    first, *others = many.value.view(RUNS, -1)
    alone = method.estimate(case.problem, case.lam, draws).value
    assert torch.allclose(first, alone, rtol=1e-12)
    assert all(float((other - alone).norm()) > 1e-3 * float(alone.norm()) for other in others)
    assert not torch.allclose(others[0], others[1], rtol=1e-3)


def test_they_can_be_compiled() -> None:
    case = build("quadratic")
    many, lams = side_by_side(case.problem, RUNS), rows(case.lam).flatten()
    method = HPOSGLD(RULE, Schedule(2, 2))
    fast = Compiled(method, fused=2, backend="eager").estimate(many, lams)
    assert torch.allclose(fast.value, method.estimate(many, lams).value, rtol=1e-12)


def test_no_run_is_refused() -> None:
    with pytest.raises(ArgumentError, match="runs must be at least 1"):
        side_by_side(build("quadratic").problem, 0)
