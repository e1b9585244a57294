"""Amortized Bayesian meta-learning (Ravi and Beatson 2019), small enough to have no Monte Carlo.

λ = (μ, η) is a prior N(μ, e^{2η}) over a task's weights φ, entry by entry, and where its approximate
posterior q = N(m, e^{2ρ}) starts: θ = ((m, ρ), …), one pair a task, θ⁰ = (λ, …, λ). The inner loss is the
tasks' negative ELBO on their support points, the objective of the paper's Section 3.1,

    Σ_tasks −E_q[log p(S|φ)] + KL(q ‖ p(φ|λ)),

so that λ enters through the start and through the regulariser. The outer one is the paper's (5): the same on
support and query points together, and −log p(λ) with the p(λ) of its Section 3.3, μ ~ N(0, I) and e^{−2η} ~
Gamma(a, b). (Numbers as in the version that was submitted for review.)

The likelihood is Gaussian, of known variance ν, around φ'x for features x, so that with residuals r = y − Xm

    −E_q[log p(D|φ)] = (‖r‖² + Σ_d (Σ_i x_id²) e^{2ρ_d}) / (2ν) + constants

is exact, and m and ρ do not meet in the inner loss. The paper's image tasks need samples from q instead.

Claims: field-abml, field-abml-gibbs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import sympy
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.chain import Langevin
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, RegulariserProducts, Separable
from refblo.problems.case import Case, ClosedForms
from refblo.problems.maml import ADAPTATION, repeated_initial, sinusoid_tasks
from refblo.problems.namespace import (
    TORCH,
    A,
    ArrayNamespace,
    SeparableParts,
    StatedLosses,
    Statement,
    as_tensor,
)
from refblo.problems.symbolic import SymbolicProblem, exact_matrix, symbols
from refblo.types import Lam, Theta

Array = np.ndarray
Gradient = Float64[Array, " p"]

TASKS, POINTS, FEATURES = 2, 6, 3
VARIANCE = 1.0
"""ν: an amplitude is a draw from [0.1, 5)."""
SHAPE, RATE = 2.0, 0.5
"""a and b of the prior over precisions."""


def parts(xp: ArrayNamespace[A], data: Mapping[str, A]) -> SeparableParts[A]:
    """The expected loss on the support points, the divergence from the prior, and the outer loss."""
    tasks, _, features = data["support_features"].shape
    exp, total, reshape = xp.exp, xp.sum, xp.reshape
    variance, shape, rate = data["variance"], data["shape"], data["rate"]

    def pair(theta: A) -> tuple[A, A]:
        paired = reshape(theta, (tasks, 2, features))
        return paired[:, 0], paired[:, 1]

    def expected(which: str) -> Callable[[A], A]:
        inputs, targets = data[f"{which}_features"], data[f"{which}_targets"]
        squares = total(inputs * inputs, axis=1)

        def loss(theta: A) -> A:
            mean, log_deviation = pair(theta)
            predicted = reshape(inputs @ reshape(mean, (tasks, features, 1)), targets.shape)
            spread = total(squares * exp(2 * log_deviation))
            return (total((predicted - targets) ** 2) + spread) / (2 * variance)

        return loss

    support, query = expected("support"), expected("query")

    def divergence(lam: A, theta: A) -> A:
        mean, log_deviation = pair(theta)
        prior = reshape(lam, (2, features))
        wider = log_deviation - prior[1]
        away = (mean - prior[0]) ** 2 * exp(-2 * prior[1])
        return total(0.5 * (exp(2 * wider) + away) - wider - 0.5)

    def outer(lam: A, theta: A, _: A | None) -> A:
        prior = reshape(lam, (2, features))
        hyper = total(0.5 * prior[0] ** 2 + 2 * (shape - 1) * prior[1] + rate * exp(-2 * prior[1]))
        return support(theta) + query(theta) + divergence(lam, theta) + hyper

    return SeparableParts(lambda theta, _: support(theta), divergence, outer)


def losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """The losses without their structure."""
    return parts(xp, data).losses()


def divergence_products(tasks: int) -> RegulariserProducts:
    """Of the divergence, with v = ((v_m, v_ρ), …): its slope and its mixed derivatives.

    ∂_m = (m − μ)e^{−2η},  ∂_ρ = e^{2(ρ−η)} − 1, and v·∂²/∂λ∂θ sums over the tasks −v_m e^{−2η} for μ and
    −2 [v_m (m − μ)e^{−2η} + v_ρ e^{2(ρ−η)}] for η.
    """

    def terms(lam: Lam, theta: Theta) -> tuple[Tensor, Tensor, Tensor]:
        paired, prior = theta.reshape(tasks, 2, -1), lam.reshape(2, -1)
        precision = torch.exp(-2 * prior[1])
        pull = (paired[:, 0] - prior[0]) * precision
        return pull, torch.exp(2 * (paired[:, 1] - prior[1])), precision

    def gradient(lam: Tensor, theta: Tensor) -> Tensor:
        pull, ratio, _ = terms(lam, theta)
        return torch.stack((pull, ratio - 1), dim=1).reshape(-1)

    def mixed(lam: Tensor, theta: Tensor, v: Tensor) -> Tensor:
        pull, ratio, precision = terms(lam, theta)
        along = v.reshape(tasks, 2, -1)
        by_mean = -along[:, 0] * precision
        by_deviation = -2 * (along[:, 0] * pull + along[:, 1] * ratio)
        return torch.stack((by_mean.sum(dim=0), by_deviation.sum(dim=0))).reshape(-1)

    return RegulariserProducts(gradient, mixed)


@final
@dataclass(frozen=True, eq=False)
class MeanField(ClosedForms):
    """The truths that do not unroll: the minimiser is the best factorised Gaussian, in closed form.

    With A = X'X/ν + diag e^{−2η}, the exact posterior's precision, m* = A⁻¹(X'y/ν + e^{−2η}μ) is its mean and
    e^{−2ρ*} = diag A. Under exp(−L_T/t), m ~ N(m*, tA⁻¹) and e^{2ρ} ~ Gamma(1/(2t), diag A/(2t)), so that the
    mean of e^{2ρ} is e^{2ρ*}, and that of ρ off ρ* by a number that no λ changes: the spread of m alone tells
    the Gibbs truth from the implicit one. The iterates have no formula: ρ moves by an exponential.

    Attributes:
        data: the case's own, in NumPy.
    """

    data: Mapping[str, Array]

    def implicit(self, lam: Gradient) -> Gradient:
        """d/dλ f(λ, θ*(λ)): by the envelope theorem for all of f but the query points' loss."""
        mu, eta = lam.reshape(2, -1)
        tau, variance = np.exp(-2 * eta), float(self.data["variance"])
        by_mean = mu.copy()
        by_deviation = 2 * (float(self.data["shape"]) - 1) - 2 * float(self.data["rate"]) * tau
        for x, y, query, targets in self._tasks():
            precision = x.T @ x / variance + np.diag(tau)
            mean = np.linalg.solve(precision, x.T @ y / variance + tau * mu)
            spread = 1 / np.diag(precision)
            slope = query.T @ (query @ mean - targets) / variance
            adjoint = np.linalg.solve(precision, slope)
            by_mean += tau * (adjoint - (mean - mu))
            by_deviation += 1 - tau * (spread + (mean - mu) ** 2)
            by_deviation += tau * (2 * adjoint * (mean - mu))
            by_deviation += tau * spread**2 * (query**2).sum(axis=0) / variance
        return np.concatenate((by_mean, by_deviation))

    def gibbs(self, lam: Gradient, temperature: float) -> Gradient:
        """The implicit one, and temperature·e^{−2η} diag(A⁻¹BA⁻¹), B = X_q'X_q/ν, for η."""
        tau, variance = np.exp(-2 * lam.reshape(2, -1)[1]), float(self.data["variance"])
        whole = self.implicit(lam).reshape(2, -1)
        for x, _, query, _ in self._tasks():
            inverse = np.linalg.inv(x.T @ x / variance + np.diag(tau))
            sandwich = inverse @ (query.T @ query / variance) @ inverse
            whole[1] += temperature * tau * np.diag(sandwich)
        return whole.ravel()

    def _tasks(self) -> list[tuple[Array, ...]]:
        """(X, y, X_q, y_q) of each task."""
        columns = [
            self.data[f"{which}_{what}"]
            for which in ("support", "query")
            for what in ("features", "targets")
        ]
        return list(zip(*columns, strict=True))


def symbolic(data: Mapping[str, Array]) -> SymbolicProblem:
    """In sympy, its floats as the rationals that they are."""
    tasks, _, features = data["support_features"].shape
    lam, theta = symbols("lambda", 2 * features), symbols("theta", 2 * features * tasks)
    mu, eta = lam[:features], lam[features:]
    variance, shape, rate = (
        sympy.Rational(float(data[name])) for name in ("variance", "shape", "rate")
    )
    half = sympy.Rational(1, 2)
    pairs = [theta[2 * features * k : 2 * features * (k + 1)] for k in range(tasks)]

    def expected(which: str) -> sympy.Expr:
        found = sympy.Integer(0)
        for k, pair in enumerate(pairs):
            inputs = exact_matrix(data[f"{which}_features"][k])
            targets = exact_matrix(data[f"{which}_targets"][k][:, None])
            residual = inputs * sympy.Matrix(pair[:features]) - targets
            gram = inputs.T * inputs
            found += residual.dot(residual)
            found += sum(gram[d, d] * sympy.exp(2 * pair[features + d]) for d in range(features))
        return found / (2 * variance)

    divergence = sympy.Integer(0)
    for pair in pairs:
        for m, rho, centre, width in zip(pair[:features], pair[features:], mu, eta, strict=True):
            away = (m - centre) ** 2 * sympy.exp(-2 * width)
            divergence += half * (sympy.exp(2 * (rho - width)) + away - 1) - rho + width
    hyper = sum(
        half * centre**2 + 2 * (shape - 1) * width + rate * sympy.exp(-2 * width)
        for centre, width in zip(mu, eta, strict=True)
    )
    return SymbolicProblem(
        lam=lam,
        theta=theta,
        inner=expected("support") + divergence,
        outer=expected("support") + expected("query") + divergence + hyper,
        initial=lam * tasks,
    )


def case_of(
    name: str,
    data: Mapping[str, Array],
    lam: Gradient,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Case:
    """A case of any size: p = 2·features, n = tasks·p.

    Args:
        name: of the case.
        data: features (tasks, points, features) and targets (tasks, points), for support and query.
        lam: λ = (μ, η), shape (p,).
        dtype: of its vectors and data.
        device: where they live.
    """
    data = {
        **data,
        "variance": np.array(VARIANCE),
        "shape": np.array(SHAPE),
        "rate": np.array(RATE),
    }
    tasks, _, features = data["support_features"].shape
    # In m the prior's precision adds to the data's; in ρ the loss is G e^{2ρ}/2 − ρ, of curvature 2 G e^{2ρ}.
    prior = np.exp(-2 * lam[features:])
    grams = [x.T @ x / VARIANCE + np.diag(prior) for x in data["support_features"]]
    largest = max(
        max(float(np.linalg.eigvalsh(gram)[-1]), float((2 * np.diag(gram) / prior).max()))
        for gram in grams
    )
    built = parts(TORCH, {key: as_tensor(x, dtype, device) for key, x in data.items()})
    inner = Separable(built.data, built.regulariser, divergence_products(tasks))
    return Case(
        name=name,
        problem=BilevelProblem(inner, built.outer, repeated_initial(tasks), name=name),
        lam=as_tensor(lam, dtype, device),
        dynamics=Langevin(0.5 / largest, temperature=0.01, noise_scale=1.0),
        schedule=ADAPTATION,
        symbolic=symbolic(data),
        closed_forms=MeanField(data),
        statement=Statement(losses, data),
        tags=frozenset({"deterministic losses", "initial depends on lam", "separable"}),
    )


def abml_regression(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """2 sinusoid tasks, 6 support and 6 query points each, 3 bumps: p = 6, n = 12."""
    draws = Draws(51)
    data = sinusoid_tasks(draws, TASKS, POINTS, FEATURES)
    like = torch.empty(2, FEATURES, dtype=torch.float64)
    drawn = draws.normal(Stream.INSTANCE, 10, like).numpy()
    lam = np.concatenate((drawn[0], 0.2 * drawn[1] - 0.5))
    return case_of("abml_regression", data, lam, dtype=dtype, device=device)
