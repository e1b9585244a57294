"""Every truth of a quadratic problem, by linear algebra in NumPy.

With the inner loss ½ θ'H(λ)θ − θ'(Kλ + c) (up to terms without θ), H(λ) = H₀ + diag d(λ), and the outer
loss ½ θ'Qθ + θ'Rλ + ½ λ'Sλ + q'θ + s'λ, the chain is linear,

    θ^{m+1} = A θ^m + γ(Kλ + c) + σ z^m,   A = I − γH(λ),   σ = √ε κ,

so that θ^m is Gaussian and every truth follows from its mean and covariance and their derivatives.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.chain import Langevin, Schedule

Array = np.ndarray
Vector = Float64[Array, " n"]
Matrix = Float64[Array, "n n"]
Jacobian = Float64[Array, "n p"]
Gradient = Float64[Array, " p"]


@final
@dataclass(frozen=True, eq=False)
class Diagonal:
    """The diagonal d(λ) = Wλ, or exp(Wλ) entry by entry, that λ adds to the inner Hessian.

    Attributes:
        weights: W, shape (n, p).
        exponential: whether d = exp(Wλ).
    """

    weights: Jacobian
    exponential: bool

    def value(self, lam: Gradient) -> Vector:
        """d(λ), shape (n,)."""
        linear: Array = self.weights @ lam
        if self.exponential:
            linear = np.exp(linear)
        return linear

    def jacobian(self, lam: Gradient) -> Jacobian:
        """dd/dλ, shape (n, p)."""
        if self.exponential:
            scaled: Array = self.value(lam)[:, None] * self.weights
            return scaled
        return self.weights


@final
@dataclass(frozen=True, eq=False)
class Quadratic:
    """The numbers of a quadratic problem; the formula is the module's.

    Attributes:
        hessian: H₀, shape (n, n).
        coupling: K = −∂²L_T/∂θ∂λ without the diagonal's part, shape (n, p).
        shift: c, shape (n,).
        outer_hessian: Q, shape (n, n).
        outer_mixed: R, shape (n, p).
        outer_direct: S, shape (p, p).
        outer_slope: q, shape (n,).
        direct_slope: s, shape (p,).
        start: θ⁰ at λ = 0, shape (n,).
        start_jacobian: dθ⁰/dλ, shape (n, p); θ⁰ = start + start_jacobian·λ.
        diagonal: d, or None for H(λ) = H₀.
    """

    hessian: Matrix
    coupling: Jacobian
    shift: Vector
    outer_hessian: Matrix
    outer_mixed: Jacobian
    outer_direct: Float64[Array, "p p"]
    outer_slope: Vector
    direct_slope: Gradient
    start: Vector
    start_jacobian: Jacobian
    diagonal: Diagonal | None = None

    def inner_hessian(self, lam: Gradient) -> Matrix:
        """H(λ), shape (n, n)."""
        if self.diagonal is None:
            return self.hessian
        return self.hessian + np.diag(self.diagonal.value(lam))

    def diagonal_jacobian(self, lam: Gradient) -> Jacobian:
        """dd/dλ, shape (n, p)."""
        if self.diagonal is None:
            return np.zeros_like(self.coupling)
        return self.diagonal.jacobian(lam)

    def pull(self, lam: Gradient) -> Vector:
        """Kλ + c, shape (n,)."""
        pulled: Array = self.coupling @ lam + self.shift
        return pulled


@final
@dataclass(frozen=True, eq=False)
class QuadraticForms:
    """The four truths of a quadratic problem.

    Attributes:
        numbers: the problem's.
    """

    numbers: Quadratic

    def unrolled(
        self,
        lam: Gradient,
        dynamics: Langevin,
        schedule: Schedule,
        noise: Float64[Array, "T n"],
    ) -> Gradient:
        """d/dλ (1/M) Σ_{m>B} f(λ, θ^m) with the noise frozen; `noise` has shape (T, n)."""
        paths = self._eigenbasis_path if self.numbers.diagonal is None else self._recursive_path
        total = np.zeros_like(lam)
        for m, (theta, tangent) in enumerate(paths(lam, dynamics, noise), start=1):
            if schedule.sampled(m):
                total += self._outer_derivative(lam, theta, tangent)
        return total / schedule.samples

    def mean_pathwise(self, lam: Gradient, dynamics: Langevin, schedule: Schedule) -> Gradient:
        """The mean of `unrolled` over the noise.

        E[f(θ^m)] = f(μ_m) + ½ tr(Q Σ_m), and the covariance Σ_m depends on λ where H does.
        """
        rest = np.zeros((schedule.steps, self.numbers.start.size))
        value = self.unrolled(lam, dynamics, schedule, rest)
        if self.numbers.diagonal is not None:
            value += self._covariance_part(lam, dynamics, schedule)
        return value

    def gibbs(self, lam: Gradient, temperature: float) -> Gradient | None:
        """d/dλ E_p[f] for p = N(H⁻¹(Kλ + c), temperature·H⁻¹); None unless H is positive definite.

        E_p[f] = f(μ) + ½·temperature·tr(Q H⁻¹), and ∂_j tr(Q H⁻¹) = −tr(Q H⁻¹ diag(∂_j d) H⁻¹).
        """
        at_minimum = self.implicit(lam)
        if at_minimum is None:
            return None
        hessian = self.numbers.inner_hessian(lam)
        half = np.linalg.solve(hessian, self.numbers.outer_hessian)
        sandwich = np.linalg.solve(hessian, half.T)
        spread: Array = np.diag(sandwich) @ self.numbers.diagonal_jacobian(lam)
        result: Array = at_minimum - 0.5 * temperature * spread
        return result

    def implicit(self, lam: Gradient) -> Gradient | None:
        """d/dλ f(λ, θ*(λ)), θ* = H⁻¹(Kλ + c); None unless H is positive definite."""
        numbers = self.numbers
        hessian = numbers.inner_hessian(lam)
        eigenvalues = np.linalg.eigvalsh(hessian)
        # Below this an eigenvalue is zero up to the rounding of the eigenvalue solver.
        floor = eigenvalues.size * np.finfo(np.float64).eps * np.abs(eigenvalues).max()
        if eigenvalues[0] <= floor:
            return None
        theta = np.linalg.solve(hessian, numbers.pull(lam))
        moved = numbers.coupling - numbers.diagonal_jacobian(lam) * theta[:, None]
        tangent: Array = np.linalg.solve(hessian, moved)
        return self._outer_derivative(lam, theta, tangent)

    def _outer_derivative(self, lam: Gradient, theta: Vector, tangent: Jacobian) -> Gradient:
        """f_λ + f_θ·dθ/dλ."""
        numbers = self.numbers
        slope = numbers.outer_hessian @ theta + numbers.outer_mixed @ lam + numbers.outer_slope
        direct = numbers.outer_mixed.T @ theta + numbers.outer_direct @ lam + numbers.direct_slope
        total: Array = direct + tangent.T @ slope
        return total

    def _eigenbasis_path(
        self, lam: Gradient, dynamics: Langevin, noise: Float64[Array, "T n"]
    ) -> Iterator[tuple[Vector, Jacobian]]:
        """θ^m and dθ^m/dλ for m = 1 … T, when H does not depend on λ, by powers and geometric sums.

        In H's eigenbasis, with a = 1 − γh and s_m = γ Σ_{k<m} a^k:
        θ^m = a^m θ⁰ + s_m(Kλ + c) + σ Σ_{k<m} a^{m−1−k} z^k and dθ^m/dλ = a^m dθ⁰/dλ + s_m K.
        """
        numbers, gamma = self.numbers, dynamics.step_size
        h, basis = np.linalg.eigh(numbers.hessian)
        a = 1 - gamma * h
        start = basis.T @ (numbers.start + numbers.start_jacobian @ lam)
        start_jacobian = basis.T @ numbers.start_jacobian
        pull, coupling = basis.T @ numbers.pull(lam), basis.T @ numbers.coupling
        kicks = noise @ basis
        for m in range(1, len(noise) + 1):
            powers = a[None, :] ** np.arange(m)[:, None]
            summed = gamma * powers.sum(axis=0)
            kicked = (powers[::-1] * kicks[:m]).sum(axis=0)
            theta = a**m * start + summed * pull + dynamics.noise * kicked
            tangent = (a**m)[:, None] * start_jacobian + summed[:, None] * coupling
            yield basis @ theta, basis @ tangent

    def _recursive_path(
        self, lam: Gradient, dynamics: Langevin, noise: Float64[Array, "T n"]
    ) -> Iterator[tuple[Vector, Jacobian]]:
        """The same for any H(λ): dA/dλ does not commute with A, so the sums do not close."""
        numbers, gamma = self.numbers, dynamics.step_size
        hessian, slopes = numbers.inner_hessian(lam), numbers.diagonal_jacobian(lam)
        theta = numbers.start + numbers.start_jacobian @ lam
        tangent = numbers.start_jacobian
        for kick in noise:
            change = hessian @ tangent + slopes * theta[:, None] - numbers.coupling
            tangent = tangent - gamma * change
            theta = theta - gamma * (hessian @ theta - numbers.pull(lam)) + dynamics.noise * kick
            yield theta, tangent

    def _covariance_part(self, lam: Gradient, dynamics: Langevin, schedule: Schedule) -> Gradient:
        """(1/M) Σ_{m>B} ½ tr(Q dΣ_m/dλ), with Σ_{m+1} = AΣ_mA + σ²I and Σ_0 = 0.

        Its derivative is dΣ_{m+1} = A dΣ_m A + dA Σ_m A + A Σ_m dA, with ∂_jA = −γ diag(∂_j d).
        """
        numbers, gamma = self.numbers, dynamics.step_size
        n, p = numbers.coupling.shape
        transition = np.eye(n) - gamma * numbers.inner_hessian(lam)
        moved = -gamma * numbers.diagonal_jacobian(lam).T
        covariance, derivative = np.zeros((n, n)), np.zeros((p, n, n))
        total = np.zeros(p)
        for m in range(1, schedule.steps + 1):
            half = moved[:, :, None] * (covariance @ transition)
            derivative = transition @ derivative @ transition + half + half.transpose(0, 2, 1)
            covariance = transition @ covariance @ transition + dynamics.noise**2 * np.eye(n)
            if schedule.sampled(m):
                total += 0.5 * np.einsum("ik,jki->j", numbers.outer_hessian, derivative)
        return total / schedule.samples
