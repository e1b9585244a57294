"""HPO-SGLD is Algorithm 1 of Kim and Hospedales, with the structure of the problem used or not."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refblo.chain import Langevin, Schedule
from refblo.estimators import FMD, HPOSGLD
from refblo.problem import BilevelProblem, FixedInitial, identity_initial
from refblo.testing.explicit import hpo_sgld
from refblo.testing.strategies import instances
from refblo.testing.tensor_problem import Instance, Structure, tensor_problem

# As in test_unrolled.py: some tens of units in the last place of the terms that are summed.
AGREEMENT = 1e-12


@given(instances(moving_start=st.just(False)))
@settings(max_examples=200)  # what the package stands on
def test_a_fixed_initial_point_gives_the_published_recursion(instance: Instance) -> None:
    check_against_algorithm_1(instance)


@given(instances(moving_start=st.just(True)))
@settings(max_examples=200)  # what the package stands on
def test_an_initial_point_that_depends_on_lam_gives_the_published_recursion(
    instance: Instance,
) -> None:
    check_against_algorithm_1(instance)


def check_against_algorithm_1(instance: Instance) -> None:
    answer = hpo_sgld(instance.numbers, instance.lam_numbers, instance.run)
    method = HPOSGLD(instance.dynamics, instance.schedule)
    found = method.estimate(instance.problem, instance.lam, instance.draws)
    off = float(np.linalg.norm(np.array(found.value.tolist()) - answer.value))
    assert off <= AGREEMENT * answer.scale


@given(instances(structure=st.just(Structure.PLAIN)))
def test_a_declared_structure_changes_the_cost_but_not_the_value(instance: Instance) -> None:
    scale = hpo_sgld(instance.numbers, instance.lam_numbers, instance.run).scale
    method = HPOSGLD(instance.dynamics, instance.schedule)
    general = method.estimate(instance.problem, instance.lam, instance.draws)
    sampled = instance.problem.inner_batches != tensor_problem(instance.numbers).inner_batches
    for structure in Structure:
        problem = tensor_problem(instance.numbers, structure, minibatches=sampled)
        found = method.estimate(problem, instance.lam, instance.draws)
        off = torch.linalg.vector_norm(found.value - general.value).item()
        assert off <= AGREEMENT * scale, structure
        assert found.cost == general.cost, structure


def test_one_step_from_a_fixed_point_is_exact() -> None:
    # With T = 1 there is no Jacobian to replace by the identity.
    problem = BilevelProblem(
        inner=lambda lam, theta, _: (theta.square() * lam.exp().sum()).sum(),
        outer=lambda _lam, theta, _: theta.cos().sum(),
        initial=FixedInitial(torch.ones(3, dtype=torch.float64)),
    )
    lam = torch.tensor([0.1, -0.2], dtype=torch.float64)
    rule, schedule = Langevin(0.05), Schedule.last(1)
    found = HPOSGLD(rule, schedule).estimate(problem, lam).value
    torch.testing.assert_close(
        found, FMD(rule, schedule).estimate(problem, lam).value, rtol=AGREEMENT, atol=0
    )


def test_a_scalar_quadratic_from_lam_gives_one_minus_m_gamma_h() -> None:
    # ½ h θ², f = θ, θ⁰ = λ: (22) gives 1 − mγh, the truth is (1 − γh)^m.
    gamma, h, m = 0.1, 2.0, 4
    problem = BilevelProblem(
        inner=lambda _lam, theta, _: 0.5 * h * theta.square().sum(),
        outer=lambda _lam, theta, _: theta.sum(),
        initial=identity_initial(),
    )
    lam = torch.tensor([0.7], dtype=torch.float64)
    rule, schedule = Langevin(gamma), Schedule.last(m)
    found = HPOSGLD(rule, schedule).estimate(problem, lam).value.item()
    truth = FMD(rule, schedule).estimate(problem, lam).value.item()
    assert abs(found - (1 - m * gamma * h)) <= AGREEMENT
    assert abs(truth - (1 - gamma * h) ** m) <= AGREEMENT
