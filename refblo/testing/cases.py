"""Small problems with p ≠ n on which an estimator is checked, each in any dtype."""

from collections.abc import Callable

import numpy as np
import torch

from refblo.chain import Langevin, Schedule
from refblo.noise import Draws
from refblo.problems.case import Case
from refblo.problems.quadratic import case_of, instance
from refblo.testing.explicit import ExplicitNumbers
from refblo.testing.tensor_problem import Structure, tensor, tensor_problem

CaseBuilder = Callable[[torch.dtype], Case]
"""Builds a problem in a dtype; the builders of `refblo.problems.catalogue()` are such functions."""

SHORT = Schedule(burn_in=1, samples=2)
"""Has a burn-in, an average and a step from one sample to the next."""


def _quadratic(name: str, moving_start: float) -> CaseBuilder:
    def build(dtype: torch.dtype) -> Case:
        draws = Draws(1)
        numbers = instance(draws, 3, 2, 5.0, moving_start=moving_start)
        return case_of(name, numbers, draws, dtype=dtype, schedule=SHORT, stated_in_sympy=False)

    return build


def _smooth(name: str, structure: Structure, moving: bool) -> CaseBuilder:
    def build(dtype: torch.dtype) -> Case:
        numbers, lam = ExplicitNumbers.random(1, 2, 3, moving), np.array([0.3, -0.4])
        step_size = 0.5 / numbers.largest_curvature(lam)
        return Case(
            name=name,
            problem=tensor_problem(numbers, structure, minibatches=True, dtype=dtype),
            lam=tensor(lam, dtype),
            dynamics=Langevin(step_size, temperature=0.1, noise_scale=0.3),
            schedule=SHORT,
        )

    return build


SMALL_CASES: tuple[CaseBuilder, ...] = (
    _quadratic("quadratic, n = 3, p = 2", moving_start=0.0),
    _quadratic("quadratic, n = 3, p = 2, θ⁰ = θ⁰(λ)", moving_start=1.0),
    _smooth("logistic, separable, minibatches, n = 3, p = 2", Structure.SEPARABLE, moving=False),
    _smooth(
        "logistic, composed, minibatches, n = 3, p = 2, θ⁰ = θ⁰(λ)", Structure.COMPOSED, moving=True
    ),
)
"""What `check_estimator` uses when it is given no problems."""
