"""A small problem with the points at which optimisers are delicate, stated in torch and in sympy.

θ_2 is in no inner loss: its gradient is exactly zero throughout. θ_3 begins exactly where its gradient is
zero, and moves with λ: v = 0 there, and the derivative of Adam's step is γ/ε. All numbers are dyadic.
"""

from functools import cache

import sympy
import torch
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems.case import Case
from refblo.problems.symbolic import SymbolicProblem, symbols

LAM = torch.tensor([-0.5, 0.75], dtype=torch.float64)
THETA0 = torch.tensor([1.0, 0.5, -0.25, 0.75], dtype=torch.float64)
STEPS = 5


def inner(lam: Tensor, theta: Tensor) -> Tensor:
    first = lam[0].exp() * (theta[0] - lam[1]).square() / 2 + theta[0] ** 4 / 4
    return first + (theta[1] - theta[0] * lam[1]).square() / 2 + (theta[3] - lam[1]).square() / 2


def outer(lam: Tensor, theta: Tensor) -> Tensor:
    weights = torch.tensor([1.0, -2.0, 0.5, 0.75], dtype=torch.float64)
    return (weights * theta).sum() + theta.square().sum() / 2 + lam[0] * theta[1]


@cache
def rule_case() -> Case:
    lam, theta = symbols("lam", 2), symbols("theta", 4)
    first = sympy.exp(lam[0]) * (theta[0] - lam[1]) ** 2 / 2 + theta[0] ** 4 / 4
    loss = first + (theta[1] - theta[0] * lam[1]) ** 2 / 2 + (theta[3] - lam[1]) ** 2 / 2
    weights = (1, -2, sympy.Rational(1, 2), sympy.Rational(3, 4))
    objective = sum(w * t + t**2 / 2 for w, t in zip(weights, theta, strict=True))
    symbolic = SymbolicProblem(
        lam,
        theta,
        loss,
        objective + lam[0] * theta[1],
        tuple(sympy.Rational(float(entry)) for entry in THETA0),
    )
    problem = BilevelProblem(
        lambda lam, theta, _: inner(lam, theta),
        lambda lam, theta, _: outer(lam, theta),
        FixedInitial(THETA0),
    )
    return Case("rules", problem, LAM, Langevin(0.1), Schedule.last(STEPS), symbolic)
