"""HPO-SGLD of the package inside gradient descent, with noise, on a problem whose mean field is affine.

Inner h/2·‖θ - λ‖² from θ⁰ = 0 for T steps, outer ½ Σ_j c_j·((Qθ)_j - 1)² with an orthogonal Q. In closed form
θ^k = λ(1 - ρ^k) plus noise, ρ = 1 - γh, so that in the coordinates Qλ the field is a_j·(Qλ)_j - b_j with
a_j = σc_j, and its noise is c_j·√v times a standard normal number. Copies of the problem are stacked into one
vector: the estimator sees p·R parameters, and each copy is a run of its own.
"""

from dataclasses import dataclass
from functools import cache
from typing import final

import numpy as np
import torch
from torch import Tensor

from proofs_check.tools.refblo_runs import RefbloRun, Small, Vector, hpo_sgld

_CURVATURE, _GAMMA, _INNER = 2.0, 0.1, 6
_RHO = 1 - _GAMMA * _CURVATURE
_SIGMA = _GAMMA * _CURVATURE * sum(1 - _RHO**k for k in range(1, _INNER + 1))
_TEMPERATURE = 1e-3
_SPREAD = 4.0
"""The largest eigenvalue of the field over the smallest."""


@final
@dataclass(frozen=True, eq=False)
class NoisyDescent:
    """What was run, and what was measured.

    Attributes:
        eigenvalues: a_j of the field, shape (p,).
        scales: √V_j, the standard deviations of the noise of h along them, shape (p,).
        rate: η.
        start: the first square distance, the same along each eigenvector.
        products: ⟨h̄(x_i), x_i - x̃⟩ of each copy and step, shape (R, steps).
        squares: ‖x_i - x̃‖², shape (R, steps).
    """

    eigenvalues: Vector
    scales: Vector
    rate: float
    start: float
    products: Vector
    squares: Vector

    @property
    def variance(self) -> float:
        """V, the variance of h."""
        return float((self.scales**2).sum())

    @property
    def smooth(self) -> float:
        """L, the largest eigenvalue."""
        return float(self.eigenvalues.max())

    def expected_means(self, at: Vector) -> Vector:
        """The expectation of the mean of the first k products, for each k: of an affine field, exactly."""
        a, decay = self.eigenvalues, (1 - self.rate * self.eigenvalues) ** 2
        # For a = 1/η the first step ends at the floor.
        steps = np.arange(int(at.max()))[:, None]
        powers = np.where(steps > 0, decay**steps, 1.0)
        floors = self.rate**2 * self.scales**2 / (1 - decay)
        squares = powers * self.start / a.size + floors * (1 - powers)
        products = (a * squares).sum(axis=1)
        means = np.cumsum(products) / np.arange(1, products.size + 1)
        return np.array([means[int(k) - 1] for k in at])

    def means(self, at: Vector) -> Vector:
        """The measured means of the first k products, shape (R, len(at))."""
        sums = np.cumsum(self.products, axis=1)
        return np.stack([sums[:, int(k) - 1] / k for k in at], axis=1)


def _step_noise() -> float:
    """Var of γh·Σ_k (noise of θ^k): v."""
    kick = 2 * _GAMMA * _TEMPERATURE
    weights, total = 0.0, 0.0
    for _ in range(_INNER):
        weights = 1 + _RHO * weights
        total += weights**2
    return (_GAMMA * _CURVATURE) ** 2 * kick * total


@cache
def noisy_descent(p: int, copies: int, steps: int) -> NoisyDescent:
    """Run it.

    Args:
        p: dimension of λ and θ of one copy.
        copies: R.
        steps: outer steps.

    Returns:
        The measurements.
    """
    weights = np.geomspace(1.0, _SPREAD, p) if p > 1 else np.ones(1)
    basis, _ = np.linalg.qr(np.random.default_rng(p).normal(size=(p, p)))
    turn, scale = torch.as_tensor(basis), torch.as_tensor(weights)

    def outer(_: Tensor, theta: Tensor) -> Tensor:
        turned = theta.reshape(copies, p) @ turn.T - 1
        return (scale * turned**2).sum() / 2

    small = Small(
        lambda lam, theta: _CURVATURE / 2 * ((theta - lam) ** 2).sum(), outer, np.zeros(p * copies)
    )
    eigenvalues = _SIGMA * weights
    rate = 1 / float(eigenvalues.max())
    root = _GAMMA * _CURVATURE * _INNER / _SIGMA
    start = 100.0
    lam = np.tile(basis.T @ (root + np.sqrt(start / p) * np.ones(p)), copies)
    products, squares = np.empty((copies, steps)), np.empty((copies, steps))
    for step in range(steps):
        away = lam.reshape(copies, p) @ basis.T - root
        products[:, step] = away**2 @ eigenvalues
        squares[:, step] = (away**2).sum(axis=1)
        run = RefbloRun(_GAMMA, _INNER - 1, 1, temperature=_TEMPERATURE, noise_scale=1.0, seed=step)
        lam = lam - rate * hpo_sgld(small, run, lam)
    scales = weights * np.sqrt(_step_noise())
    return NoisyDescent(eigenvalues, scales, rate, start, products, squares)
