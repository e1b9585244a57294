"""The random problems of `refblo.testing.tensor_problem` in NumPy, with every derivative written by hand.

Tests compare refblo with these formulas. Keep the file independent: no autograd, no torch, no import from
refblo. Then a mistake passes a test only if it was made twice, in two notations.

The losses below are those of `tensor_problem`; change both files together. `ExplicitNumbers.random` draws the
numbers for both, so a change of its draws changes every test problem but breaks nothing.

    L_T(λ, θ; I) = mean_{i∈I} [softplus(x_i·θ) − y_i x_i·θ] + ½ Σ_j e_j θ_j² + θ·Mλ,   e = exp(Kλ)
    f(λ, θ; J)   = mean_{j∈J} ½ (z_j·θ − w_j)² + q·sin(θ) + θ·Gλ + c·sin(λ)
    θ⁰(λ)        = start + sin(Dλ)   (D = 0 where θ⁰ does not depend on λ)
"""

from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt

Vector: TypeAlias = npt.NDArray[np.float64]
Matrix: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64] | slice


@final
@dataclass(frozen=True, eq=False)
class ExplicitNumbers:
    """The data of one problem, named as in the formulas of the module; p = K.shape[1], n = K.shape[0]."""

    X: Matrix
    y: Vector
    K: Matrix
    M: Matrix
    Z: Matrix
    w: Vector
    q: Vector
    G: Matrix
    c: Vector
    start: Vector
    D: Matrix

    @staticmethod
    def random(seed: int, p: int, n: int, moving_start: bool) -> "ExplicitNumbers":
        """Numbers of order one, as a function of the seed."""
        rng = np.random.default_rng(seed)

        def matrix(rows: int, columns: int) -> Matrix:
            return rng.uniform(-1, 1, (rows, columns))

        def vector(size: int) -> Vector:
            return rng.uniform(-1, 1, size)

        return ExplicitNumbers(
            X=matrix(7, n),
            y=rng.integers(0, 2, 7).astype(np.float64),
            K=matrix(n, p),
            M=matrix(n, p),
            Z=matrix(5, n),
            w=vector(5),
            q=vector(n),
            G=matrix(n, p),
            c=vector(p),
            start=vector(n),
            D=matrix(n, p) * moving_start,
        )

    def largest_curvature(self, lam: Vector) -> float:
        """An upper bound on the inner Hessian's eigenvalues, for any θ and batch."""
        rows = float(np.max(np.sum(self.X**2, axis=1)))
        return rows / 4 + float(np.max(np.exp(self.K @ lam)))

    def initial(self, lam: Vector) -> Vector:
        """θ⁰."""
        return self.start + np.sin(self.D @ lam)

    def initial_jacobian(self, lam: Vector) -> Matrix:
        """dθ⁰/dλ, n × p."""
        return np.cos(self.D @ lam)[:, None] * self.D

    def inner_gradient(self, lam: Vector, theta: Vector, rows: Rows) -> Vector:
        """∂_θ L_T."""
        X, y = self.X[rows], self.y[rows]
        data: Vector = X.T @ (_sigmoid(X @ theta) - y) / len(y)
        return data + np.exp(self.K @ lam) * theta + self.M @ lam

    def inner_hessian(self, lam: Vector, theta: Vector, rows: Rows) -> Matrix:
        """H = ∂²L_T/∂θ², n × n."""
        X = self.X[rows]
        s = _sigmoid(X @ theta)
        hessian: Matrix = (X.T * (s * (1 - s))) @ X / len(X) + np.diag(np.exp(self.K @ lam))
        return hessian

    def inner_mixed(self, lam: Vector, theta: Vector) -> Matrix:
        """C = ∂²L_T/∂θ∂λ, n × p."""
        return (np.exp(self.K @ lam) * theta)[:, None] * self.K + self.M

    def outer(self, lam: Vector, theta: Vector, rows: Rows) -> float:
        """The outer loss, f."""
        residual = self.Z[rows] @ theta - self.w[rows]
        terms = self.q @ np.sin(theta) + theta @ self.G @ lam + self.c @ np.sin(lam)
        return float(np.mean(residual**2) / 2 + terms)

    def outer_theta(self, lam: Vector, theta: Vector, rows: Rows) -> Vector:
        """The gradient ∂_θ f."""
        Z = self.Z[rows]
        return Z.T @ (Z @ theta - self.w[rows]) / len(Z) + self.q * np.cos(theta) + self.G @ lam

    def outer_lam(self, lam: Vector, theta: Vector) -> Vector:
        """The gradient ∂_λ f."""
        return self.c * np.cos(lam) + self.G.T @ theta

    def outer_hessian(self, theta: Vector, rows: Rows) -> Matrix:
        """∂²f/∂θ², n × n."""
        Z = self.Z[rows]
        return Z.T @ Z / len(Z) - np.diag(self.q * np.sin(theta))


def _sigmoid(x: Vector) -> Vector:
    return 1 / (1 + np.exp(-x))


@final
@dataclass(frozen=True, eq=False)
class ExplicitRun:
    """All that one run depends on besides λ: its constants, its noise and its batches.

    Attributes:
        epsilon: ε, the SGLD step; the step size is γ = ε/(2τ).
        temperature: τ.
        noise_scale: κ.
        burn_in: B, the transitions before the first sample.
        samples: M, the iterates θ^{B+1} … θ^T over which the outer loss is averaged, T = B + M.
        z: the noise of each transition: T vectors of shape (n,).
        inner_rows: row t holds the indices of the inner loss's batch at θ^t, for t = 0 … T. The transition
            from θ^t uses row t; row T is used where the loss is linearised at θ^T.
        outer_rows: row t holds the indices of the outer loss's batch at θ^t, for t = 0 … T.
    """

    epsilon: float
    temperature: float
    noise_scale: float
    burn_in: int
    samples: int
    z: list[Vector]
    inner_rows: list[Rows]
    outer_rows: list[Rows]


@final
@dataclass(frozen=True, eq=False)
class ExplicitAnswer:
    """A hypergradient and the size of its terms, from which a test computes what rounding may change.

    Attributes:
        value: the hypergradient, shape (p,).
        scale: the sum of the norms of the terms that were added to get it.
    """

    value: Vector
    scale: float


def trajectory(numbers: ExplicitNumbers, lam: Vector, run: ExplicitRun) -> list[Vector]:
    """θ⁰ … θ^T by eq. (10) with E = L_T/τ."""
    theta = numbers.initial(lam)
    iterates = [theta]
    for t in range(run.burn_in + run.samples):
        drift = -numbers.inner_gradient(lam, theta, run.inner_rows[t]) / run.temperature
        noise = np.sqrt(run.epsilon) * run.noise_scale * run.z[t]
        theta = theta + run.epsilon / 2 * drift + noise
        iterates.append(theta)
    return iterates


def pathwise(
    numbers: ExplicitNumbers, lam: Vector, run: ExplicitRun, keep: int | None = None
) -> ExplicitAnswer:
    """d/dλ (1/M) Σ_{m>B} f(λ, θ^m) by dense Jacobians.

    Args:
        numbers: the problem.
        lam: λ, shape (p,).
        run: the run.
        keep: differentiate the last `keep` transitions alone (truncated RMD); all of them if None.
    """
    thetas = trajectory(numbers, lam, run)
    steps = len(thetas) - 1
    gamma = run.epsilon / (2 * run.temperature)
    first = 0 if keep is None else max(0, steps - keep)
    tangent = numbers.initial_jacobian(lam) if first == 0 else np.zeros_like(numbers.M)
    value, scale = np.zeros_like(lam), 0.0
    for t in range(1, steps + 1):
        old, rows = thetas[t - 1], run.inner_rows[t - 1]
        if t > first:
            hessian = numbers.inner_hessian(lam, old, rows)
            change = hessian @ tangent + numbers.inner_mixed(lam, old)
            tangent = tangent - gamma * change
        if t > run.burn_in:
            slope = numbers.outer_theta(lam, thetas[t], run.outer_rows[t])
            direct = numbers.outer_lam(lam, thetas[t])
            value += (direct + slope @ tangent) / run.samples
            scale += _norm(direct) + _norm(slope) * _norm(tangent)
    return ExplicitAnswer(value, scale / run.samples)


def hpo_sgld(numbers: ExplicitNumbers, lam: Vector, run: ExplicitRun) -> ExplicitAnswer:
    """Algorithm 1 of Kim and Hospedales, line by line, with its matrices A and B formed.

    A = ∂² log p/∂θ² = −H/τ, B = ∂² log p/∂λ∂θ = −C/τ; (24), (22) and (25) in this order.
    """
    thetas = trajectory(numbers, lam, run)
    start = numbers.initial_jacobian(lam)
    g = numbers.outer_theta(lam, thetas[0], run.outer_rows[0]) @ start
    h, scale = np.zeros_like(lam), _norm(g)
    for m in range(1, len(thetas)):
        old, new = thetas[m - 1], thetas[m]
        A = -numbers.inner_hessian(lam, old, run.inner_rows[m - 1]) / run.temperature
        B = -numbers.inner_mixed(lam, old) / run.temperature
        slope = numbers.outer_theta(lam, new, run.outer_rows[m])
        curved = (new - old) @ numbers.outer_hessian(old, run.outer_rows[m - 1]) @ start
        driven = run.epsilon / 2 * slope @ (B + A @ start)
        g = g + curved + driven
        scale += _norm(curved) + _norm(driven)
        if m > run.burn_in:
            direct = numbers.outer_lam(lam, new)
            h = h + (direct + g) / run.samples
            scale += _norm(direct) / run.samples
    return ExplicitAnswer(h, scale)


def first_order(numbers: ExplicitNumbers, lam: Vector, run: ExplicitRun) -> ExplicitAnswer:
    """(1/M) Σ_{m>B} [f_λ(θ^m) + f_θ(θ^m)·dθ⁰/dλ]."""
    thetas = trajectory(numbers, lam, run)
    start = numbers.initial_jacobian(lam)
    value, scale = np.zeros_like(lam), 0.0
    for t in range(run.burn_in + 1, len(thetas)):
        direct = numbers.outer_lam(lam, thetas[t])
        moved = numbers.outer_theta(lam, thetas[t], run.outer_rows[t]) @ start
        value += (direct + moved) / run.samples
        scale += (_norm(direct) + _norm(moved)) / run.samples
    return ExplicitAnswer(value, scale)


def _norm(array: npt.NDArray[np.float64]) -> float:
    return float(np.linalg.norm(array))


@final
@dataclass(frozen=True, eq=False)
class Linearised:
    """f_λ, H, f_θ and C at θ^T: what the implicit hypergradient f_λ − f_θ·H⁻¹·C is made of."""

    direct: Vector
    hessian: Matrix
    slope: Vector
    mixed: Matrix

    def hypergradient(self, q: Vector) -> Vector:
        """f_λ − q·C."""
        return self.direct - q @ self.mixed

    @property
    def condition(self) -> float:
        """The condition number of H."""
        return float(np.linalg.cond(self.hessian))

    @property
    def scale(self) -> float:
        """A bound on the size of f_θ·H⁻¹·C, and of f_λ."""
        inverse = float(np.linalg.norm(np.linalg.inv(self.hessian), 2))
        return _norm(self.direct) + _norm(self.slope) * inverse * _norm(self.mixed)


def linearised(numbers: ExplicitNumbers, lam: Vector, run: ExplicitRun) -> Linearised:
    """The derivatives at the last iterate, θ^T."""
    theta, last = trajectory(numbers, lam, run)[-1], run.burn_in + run.samples
    return Linearised(
        direct=numbers.outer_lam(lam, theta),
        hessian=numbers.inner_hessian(lam, theta, run.inner_rows[last]),
        slope=numbers.outer_theta(lam, theta, run.outer_rows[last]),
        mixed=numbers.inner_mixed(lam, theta),
    )
