"""The package's own estimators on the exact world's polynomials, beside the papers' formulas."""

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from proofs_check.statement import ClaimStatement
from proofs_check.sums import At
from proofs_check.tools.refblo_runs import RefbloRun, Small, Vector, hpo_sgld, iterates
from proofs_check.tools.world import ENERGY, LAMS, OUTER, THETAS
from refblo.problem import LamInitial

_MATRICES = {
    "A": sp.Matrix([-ENERGY]).jacobian(THETAS).jacobian(THETAS),
    "B": sp.Matrix([-ENERGY]).jacobian(THETAS).jacobian(LAMS),
    "f_theta": sp.Matrix([OUTER]).jacobian(THETAS),
    "f_lambda": sp.Matrix([OUTER]).jacobian(LAMS),
    "f_theta2": sp.hessian(OUTER, THETAS),
}
_NUMPY = sp.lambdify((*LAMS, *THETAS), list(_MATRICES.values()), modules="numpy")
_ENERGY = sp.lambdify((*LAMS, *THETAS), ENERGY, modules="math")
_OUTER = sp.lambdify((*LAMS, *THETAS), OUTER, modules="math")


def _inner(lam: Tensor, theta: Tensor) -> Tensor:
    value: Tensor = _ENERGY(*lam, *theta)
    return value


def _outer(lam: Tensor, theta: Tensor) -> Tensor:
    value: Tensor = _OUTER(*lam, *theta)
    return value


def _start(lam: Tensor) -> Tensor:
    return torch.stack([lam[0] * lam[1] + 1, lam[0] + 2, lam[1] ** 2 - 1])


_LAM = np.array([0.5, -1.0 / 3.0])


def _derivatives(theta: Vector) -> dict[str, Vector]:
    found = _NUMPY(*_LAM, *theta)
    pairs = zip(_MATRICES, found, strict=True)
    return {name: np.array(value, dtype=np.float64) for name, value in pairs}


def recursion_of_the_package(s: ClaimStatement) -> tuple[Vector, Vector, float]:
    """Refblo's HPO-SGLD, and the recursion (22) as a statement has it, on the same iterates.

    Args:
        s: a statement with the formula `g`.

    Returns:
        The package's estimate, the formula's, and a bound on the rounding between them.
    """
    steps = 4
    run = RefbloRun(step_size=0.01, burn_in=steps - 1, samples=1, noise_scale=1.0, seed=3)
    small = Small(_inner, _outer, None, start=LamInitial(_start))
    path = iterates(small, RefbloRun(0.01, steps, 1, noise_scale=1.0, seed=3), _LAM)
    start = np.array([[_LAM[1], _LAM[0]], [1.0, 0.0], [0.0, 2 * _LAM[1]]])
    at = [_derivatives(theta) for theta in path]

    def matrix(name: str) -> At:
        return At(lambda k: at[k][name])

    values = {0: at[0]["f_theta"] @ start}
    for m in range(1, steps + 1):
        values[m] = s.formula(
            "g", float, m=m, g=At(lambda k: values[k]), θ=At(lambda k: path[k]), S0=start,
            f_θ=matrix("f_theta"), f_θθ=matrix("f_theta2"), A=matrix("A"), B=matrix("B"),
            ε=2 * run.step_size,
        )  # fmt: skip
    size = max(float(np.abs(value).max()) for value in values.values())
    stated = at[steps]["f_lambda"].reshape(-1) + values[steps].reshape(-1)
    found = hpo_sgld(small, run, _LAM)
    # Some 10³ roundings of relative size 2⁻⁵³ on numbers no larger than `size`, ten times over.
    return found, stated, 1e4 * 2.0**-53 * max(size, 1.0)


def average_of_the_package() -> tuple[float, list[tuple[float, float]], float]:
    """Refblo's HPO-SGLD with B = 2, M = 3 on a scalar problem, and (∂_λ f, g_m) step by step.

    Returns:
        The package's h, the pairs for m = 0 to 7, and a bound on the rounding between them.
    """
    gamma, at, total = 0.1, 0.7, 7
    small = Small(
        lambda lam, t: ((t - lam) ** 2).sum() / 2,
        lambda lam, t: (t**3 / 3 + lam**2 * t).sum(),
        np.array([0.2]),
    )
    found = float(hpo_sgld(small, RefbloRun(gamma, 2, 3), np.array([at]))[0])
    theta, g, pairs = 0.2, 0.0, [(2 * at * 0.2, 0.0)]
    for _ in range(total):
        theta = theta - gamma * (theta - at)
        g = g + gamma * (theta**2 + at**2)
        pairs.append((2 * at * theta, g))
    return found, pairs, 1e3 * 2.0**-53
