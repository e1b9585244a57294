"""The field's estimators, as the package has them, on one exact quadratic: what the claims about them run.

Inner ½θ'Hθ - θ'Kλ, so that C = -K and θ* = H⁻¹Kλ; outer ½‖θ - t‖² + ½‖λ‖², so that f_λ = λ and f_θ = θ - t.
All numbers are rational, and exact in sympy: a claim's formula is evaluated on them, and shares nothing with
torch.
"""

from functools import cache

import numpy as np
import sympy as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from proofs_check.evidence import Check, EvidenceMethod, fact
from refblo.estimators.protocol import Estimator
from refblo.noise import Draws
from refblo.problem import BilevelProblem, FixedInitial, identity_initial

Vector = NDArray[np.float64]

H = sp.Matrix([[2, sp.Rational(1, 2), 0], [sp.Rational(1, 2), 1, -1], [0, -1, 3]]) / 2
K = sp.Matrix([[1, -1], [sp.Rational(1, 2), 2], [-1, sp.Rational(1, 4)]])
LAM = sp.Matrix([sp.Rational(1, 2), -1])
TARGET = sp.Matrix([1, sp.Rational(-1, 2), 2])
REST = H.inv() * K * LAM
SLOPE = REST - TARGET
"""θ* and f_θ(θ*)."""
TRUTH = LAM + K.T * H.inv() * SLOPE
"""The implicit hypergradient."""
EYE = sp.eye(3)
GAMMA = sp.Rational(1, 4)
"""γ; the eigenvalues of H lie between 1/5 and 2."""

ROUNDINGS = 1e-13
"""Some hundred operations in float64 on numbers below ten."""


def tensor(matrix: sp.Matrix) -> Tensor:
    """A matrix of rational numbers; a column becomes a vector."""
    array = np.array(matrix.tolist(), dtype=np.float64)
    return torch.as_tensor(array[:, 0] if matrix.cols == 1 else array)


@cache
def problem(at_rest: bool = True) -> BilevelProblem:
    """The quadratic, from θ* or from 0."""
    hessian, coupling, target = tensor(H), tensor(K), tensor(TARGET)

    def inner(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        return theta @ hessian @ theta / 2 - theta @ coupling @ lam

    def outer(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        return ((theta - target).square().sum() + lam.square().sum()) / 2

    start = tensor(REST) if at_rest else torch.zeros(3, dtype=torch.float64)
    return BilevelProblem(inner, outer, FixedInitial(start))


@cache
def meta_problem() -> BilevelProblem:
    """The same losses for θ⁰ = λ ∈ ℝ³: inner ½θ'Hθ - θ'Kλ₀ at a fixed λ₀, outer ½‖θ - t‖²."""
    hessian, push, target = tensor(H), tensor(K * LAM), tensor(TARGET)
    return BilevelProblem(
        lambda lam, theta, _: theta @ hessian @ theta / 2 - theta @ push + 0 * lam.sum(),
        lambda lam, theta, _: (theta - target).square().sum() / 2 + 0 * lam.sum(),
        identity_initial(),
    )


META_LAM = sp.Matrix([1, sp.Rational(1, 2), -1])


def numbers(matrix: object) -> Vector:
    """A column, or a tensor, as a vector of floats."""
    if isinstance(matrix, Tensor):
        return np.asarray(matrix.detach().tolist(), dtype=np.float64).reshape(-1)
    return np.array(sp.Matrix(matrix).evalf(30).tolist(), dtype=np.float64).reshape(-1)


def value(
    method: Estimator, on: BilevelProblem | None = None, lam: sp.Matrix = LAM, seed: int = 0
) -> Vector:
    """The hypergradient that a method of the package gives."""
    chosen = problem() if on is None else on
    return numbers(method.estimate(chosen, tensor(lam), Draws(seed)).value)


def equal(name: str, found: Vector, stated: object, allowed: float = ROUNDINGS) -> Check:
    """That a method's value is the stated vector, up to rounding."""
    gap = float(np.abs(found - numbers(stated)).max())
    return fact(f"refblo: {name}", gap <= allowed, gap, f"<= {allowed:.1e}", EvidenceMethod.NUMERIC)


def mean_of(name: str, rows: Vector, stated: Vector, errors: float = 5.0) -> Check:
    """That the means of independent values, one a row, are the stated ones.

    Args:
        name: what is averaged.
        rows: the values.
        stated: their expectations.
        errors: how many standard errors are allowed: 5 are exceeded once in 10⁶ by chance.
    """
    off = np.abs(rows.mean(axis=0) - stated)
    room = errors * rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
    worst = float((off / room).max())
    return fact(f"refblo: {name}, {len(rows)} draws", worst <= 1, f"{errors * worst:.2f} standard errors off",
                f"at most {errors:g}", EvidenceMethod.STATISTICAL)  # fmt: skip
