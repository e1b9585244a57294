"""The hyper-representation of Franceschi et al. (2018): λ is a representation that several tasks share.

Every task j has a head θ_j of its own on the features φ_λ(x); the inner loss sums the tasks' losses on their
support points, with a ridge on the heads, and the outer one averages those on the query points.

- `hyper_ridge`: φ_λ(x) = Λ'x and square loss (there, Section 5.1). With Φ_j = X_jΛ the heads have the closed
  form θ_j = (Φ_j'Φ_j/m + ρI)⁻¹ Φ_j'y_j/m, and so has every truth that does not unroll.
- `hyper_logistic`: φ_λ(x) = tanh(Λ'x) and logistic loss: the heads come from gradient descent alone.

p = d·k entries of Λ, row by row; n = (tasks)·k. λ enters through the features, so that the inner Hessian and
the direct term depend on it.

Each case is stated three times: in array operations (`_losses`), in sympy (`symbolic`) and, for ridge, by
matrix calculus (`RidgeHeads`). The three must agree; the audit and the tests of the catalogue compare them.
The data are drawn by the seeds in `hyper_ridge` and `hyper_logistic`: another seed, size or order of draws
changes the figures in docs/equal-cost.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import sympy
import torch
from jaxtyping import Float64

from refblo.chain import Langevin, Schedule
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems.case import Case, ClosedForms
from refblo.problems.namespace import A, ArrayNamespace, StatedLosses, Statement, as_tensor
from refblo.problems.symbolic import SymbolicProblem, exact_matrix, symbols

Array = np.ndarray
Gradient = Float64[Array, " p"]

TASKS, POINTS, FEATURES, WIDTH = 2, 8, 3, 2
RIDGE = 0.1
"""ρ. The curvature by the features is of order one, so the ridge is about a tenth of it."""

SCHEDULE = Schedule(burn_in=10, samples=10)


def _losses(
    xp: ArrayNamespace[A],
    data: Mapping[str, A],
    represent: Callable[[A], A],
    fit: Callable[[A, A], A],
) -> StatedLosses[A]:
    """The inner and the outer loss.

    Args:
        xp: the array library.
        data: inputs and targets of the support and the query points, and the ridge ρ.
        represent: maps Λ'x to the features φ_λ(x).
        fit: (prediction, target) ↦ the loss of one point.
    """
    tasks, _, features = data["support"].shape
    total, reshape = xp.sum, xp.reshape
    decay = data["ridge"]

    def half_mean(which: str, weight: float) -> Callable[[A, A], A]:
        inputs, targets = data[which], data[f"{which}_targets"]
        points = inputs.shape[1]

        def loss(lam: A, theta: A) -> A:
            hidden = represent(inputs @ reshape(lam, (features, -1)))
            predicted = reshape(hidden @ reshape(theta, (tasks, -1, 1)), (tasks, points))
            return weight / points * total(fit(predicted, targets))

        return loss

    support, query = half_mean("support", 1.0), half_mean("query", 1 / tasks)

    def inner(lam: A, theta: A, _: A | None) -> A:
        return support(lam, theta) + 0.5 * decay * (theta @ theta)

    def outer(lam: A, theta: A, _: A | None) -> A:
        return query(lam, theta)

    return StatedLosses(inner, outer)


def ridge_losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """The losses of `hyper_ridge`: φ_λ(x) = Λ'x, and ½(z − y)² for a prediction z of a target y."""
    return _losses(xp, data, lambda hidden: hidden, lambda z, y: 0.5 * (z - y) ** 2)


def logistic_losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """The losses of `hyper_logistic`: φ_λ(x) = tanh(Λ'x), and log(1 + e^{−yz}) for targets y = ±1."""
    exp, log = xp.exp, xp.log
    # exp cannot overflow: features are below 1, and the ridge keeps the heads small.
    return _losses(xp, data, xp.tanh, lambda z, y: log(1.0 + exp(-(y * z))))


@final
@dataclass(frozen=True, eq=False)
class RidgeHeads(ClosedForms):
    """The implicit and the Gibbs hypergradient of `hyper_ridge`, by matrix calculus.

    There is no closed form of the unrolled one here, because the matrix of a transition depends on λ.

    Attributes:
        data: the arrays of the case's statement, in NumPy.
    """

    data: Mapping[str, Array]

    def implicit(self, lam: Gradient) -> Gradient:
        """d/dλ of the mean query loss of the ridge solutions.

        With A = Φ'Φ/m + ρI, θ = A⁻¹Φ'y/m, r = Φ_qθ − y_q and a = A⁻¹Φ_q'r/v, the sum over the tasks of

            X_q' r θ'/v + X' [(y − Φθ) a' − Φ a θ']/m.
        """
        total = np.zeros((self.data["support"].shape[2], lam.size // self.data["support"].shape[2]))
        for x, y, x_query, y_query, hidden, query, curvature in self._tasks(lam):
            theta = np.linalg.solve(curvature, hidden.T @ y) / len(y)
            residual = query @ theta - y_query
            adjoint = np.linalg.solve(curvature, query.T @ residual) / len(y_query)
            total += np.outer(x_query.T @ residual, theta) / len(y_query)
            through = np.outer(y - hidden @ theta, adjoint) - np.outer(hidden @ adjoint, theta)
            total += x.T @ through / len(y)
        mean: Array = total.ravel() / len(self.data["support"])
        return mean

    def gibbs(self, lam: Gradient, temperature: float) -> Gradient:
        """E_p[f] = f(θ*) + ½·temperature·Σ_j tr(Q_j A_j⁻¹), Q_j = Φ_q'Φ_q/(v·tasks)."""
        total = np.zeros((self.data["support"].shape[2], lam.size // self.data["support"].shape[2]))
        for x, y, x_query, y_query, hidden, query, curvature in self._tasks(lam):
            inverse = np.linalg.inv(curvature)
            sandwich = inverse @ (query.T @ query) @ inverse / len(y_query)
            total += 2 * x_query.T @ query @ inverse / len(y_query)
            total -= 2 * x.T @ hidden @ sandwich / len(y)
        spread = 0.5 * temperature * total.ravel() / len(self.data["support"])
        whole: Array = self.implicit(lam) + spread
        return whole

    def _tasks(self, lam: Gradient) -> list[tuple[Array, ...]]:
        """(X, y, X_q, y_q, Φ, Φ_q, A) of each task."""
        data = self.data
        tasks: list[tuple[Array, ...]] = []
        weights = lam.reshape(data["support"].shape[2], -1)
        columns = ("support", "support_targets", "query", "query_targets")
        for x, y, x_query, y_query in zip(*(data[name] for name in columns), strict=True):
            hidden, query = x @ weights, x_query @ weights
            curvature = hidden.T @ hidden / len(y) + float(data["ridge"]) * np.eye(hidden.shape[1])
            tasks.append((x, y, x_query, y_query, hidden, query, curvature))
        return tasks


def symbolic(
    data: Mapping[str, Array],
    start: Array,
    represent: Callable[[sympy.Expr], sympy.Expr],
    fit: Callable[[sympy.Expr, sympy.Expr], sympy.Expr],
) -> SymbolicProblem:
    """The problem in sympy; each float is taken as the rational number that it is exactly.

    Args:
        data: the arrays of the case's statement.
        start: θ⁰, shape (n,).
        represent: maps an entry of Λ'x to a feature.
        fit: (prediction, target) ↦ the loss of one point.
    """
    lam = symbols("lambda", FEATURES * WIDTH)
    theta = symbols("theta", TASKS * WIDTH)
    shared = sympy.Matrix(FEATURES, WIDTH, lam)

    def mean(which: str) -> sympy.Expr:
        total = sympy.Integer(0)
        for task in range(TASKS):
            head = sympy.Matrix(theta[task * WIDTH : (task + 1) * WIDTH])
            hidden = (exact_matrix(data[which][task]) * shared).applyfunc(represent)
            targets = exact_matrix(data[f"{which}_targets"][task][:, None])
            total += sum(map(fit, hidden * head, targets), sympy.Integer(0))
        return total / POINTS

    decay = sympy.Rational(float(data["ridge"])) / 2
    return SymbolicProblem(
        lam=lam,
        theta=theta,
        inner=mean("support") + decay * sum(t**2 for t in theta),
        outer=mean("query") / TASKS,
        initial=tuple(exact_matrix(start[:, None])),
    )


def episodes(draws: Draws, *, labels: bool) -> dict[str, Array]:
    """Random data of all tasks: their targets are linear in features that they share, plus noise.

    Args:
        draws: the randomness.
        labels: whether the targets are replaced by their signs, ±1.
    """

    def normal(which: int, *shape: int) -> Array:
        like = torch.empty(shape, dtype=torch.float64)
        return draws.normal(Stream.INSTANCE, which, like).numpy()

    shared = normal(0, FEATURES, WIDTH) / np.sqrt(FEATURES)
    heads = normal(1, TASKS, WIDTH, 1)
    data = {"ridge": np.array(RIDGE)}
    for which, step in (("support", 2), ("query", 4)):
        inputs = normal(step, TASKS, POINTS, FEATURES)
        targets = (inputs @ shared @ heads)[:, :, 0] + 0.3 * normal(step + 1, TASKS, POINTS)
        data[which] = inputs
        data[f"{which}_targets"] = np.sign(targets) if labels else targets
    return data


def _case(
    name: str,
    data: Mapping[str, Array],
    draws: Draws,
    stated: Statement,
    tags: frozenset[str],
    curvature: float,
    in_sympy: Callable[[Mapping[str, Array], Array], SymbolicProblem],
    dtype: torch.dtype,
    device: torch.device | str,
) -> Case:
    """The case of a statement; `curvature` sets the step size.

    Args:
        name: of the case.
        data: the arrays of the statement.
        draws: the randomness of λ and θ⁰.
        stated: the losses.
        tags: of the case.
        curvature: a bound on the second derivative of a point's loss by its prediction.
        in_sympy: makes the sympy statement from the data and θ⁰.
        dtype: of the torch problem.
        device: of the torch problem.
    """

    def normal(which: int, size: int) -> Array:
        like = torch.empty(size, dtype=torch.float64)
        return draws.normal(Stream.INSTANCE, which, like).numpy()

    lam = normal(6, FEATURES * WIDTH) / np.sqrt(FEATURES)
    # |tanh(z)| <= |z|, so Λ'x bounds the features of both cases.
    hidden = data["support"] @ lam.reshape(FEATURES, WIDTH)
    largest = max(float(np.linalg.norm(each, 2)) ** 2 for each in hidden) / POINTS
    built = stated.in_torch(dtype, device)
    start = 0.3 * normal(7, TASKS * WIDTH)
    initial = FixedInitial(as_tensor(start, dtype, device))
    return Case(
        name=name,
        problem=BilevelProblem(built.inner, built.outer, initial, name=name),
        lam=as_tensor(lam, dtype, device),
        dynamics=Langevin(0.5 / (curvature * largest + RIDGE), temperature=0.05, noise_scale=1.0),
        schedule=SCHEDULE,
        symbolic=in_sympy(data, start),
        closed_forms=RidgeHeads(data) if "quadratic" in tags else None,
        statement=stated,
        tags=tags,
    )


def hyper_ridge(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """2 tasks, 8 support and 8 query points each, 3 inputs, 2 features: p = 6, n = 4."""
    draws = Draws(31)
    data = episodes(draws, labels=False)
    tags = frozenset({"quadratic", "strongly convex", "deterministic losses"})
    stated = Statement(ridge_losses, data)

    def in_sympy(data: Mapping[str, Array], start: Array) -> SymbolicProblem:
        return symbolic(data, start, lambda hidden: hidden, lambda z, y: (z - y) ** 2 / 2)

    return _case("hyper_ridge", data, draws, stated, tags, 1.0, in_sympy, dtype, device)


def hyper_logistic(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """The sizes of `hyper_ridge`, with labels ±1 for targets."""
    draws = Draws(32)
    data = episodes(draws, labels=True)
    tags = frozenset({"strongly convex", "deterministic losses"})
    stated = Statement(logistic_losses, data)

    def in_sympy(data: Mapping[str, Array], start: Array) -> SymbolicProblem:
        return symbolic(data, start, sympy.tanh, lambda z, y: sympy.log(1 + sympy.exp(-y * z)))

    return _case("hyper_logistic", data, draws, stated, tags, 0.25, in_sympy, dtype, device)
