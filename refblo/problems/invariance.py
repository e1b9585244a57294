"""Learning an invariance: how far inputs may be scaled (after D.6 of Kim and Hospedales, made small).

A regression on the powers x, x², x³ is averaged over the inputs' copies x·e^{λt}, t in five nodes on [−1,
1], so that λ is the width of the augmentation and the averaged features are c_k(λ) x^k with c_k = mean_t
e^{kλt}. Inner loss (1/2N)‖Φ(λ)θ − y‖² + (α/2)‖θ‖² over the training points; outer loss (1/2V)‖Φ(λ)θ − y‖² −
ρλ² over the validation points, which asks for more augmentation where that costs nothing. p = 1, n = 3.
"""

from collections.abc import Callable, Mapping

import numpy as np
import sympy
import torch

from refblo.chain import Langevin, Schedule
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems.case import Case
from refblo.problems.namespace import A, ArrayNamespace, StatedLosses, Statement, as_tensor
from refblo.problems.symbolic import SymbolicProblem, exact_matrix, symbols

Array = np.ndarray

POINTS, POWERS, NODES = 10, 3, 5
DECAY, REWARD, NOISE = 0.1, 0.01, 0.2
"""α, ρ, and the standard deviation of the targets' noise."""


def losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """Both losses; features have shape (points, powers), exponents kt shape (powers, nodes)."""
    exp, total = xp.exp, xp.sum
    exponents, decay, reward = data["exponents"], data["decay"], data["reward"]

    def half_mean_square(which: str) -> Callable[[A, A], A]:
        features, targets = data[which], data[f"{which}_targets"]

        def loss(lam: A, theta: A) -> A:
            averaged = total(exp(exponents * lam[0]), axis=1) / exponents.shape[1]
            residual = features @ (averaged * theta) - targets
            return residual @ residual / (2 * features.shape[0])

        return loss

    train, validation = half_mean_square("train"), half_mean_square("validation")

    def inner(lam: A, theta: A, _: A | None) -> A:
        return train(lam, theta) + 0.5 * decay * (theta @ theta)

    def outer(lam: A, theta: A, _: A | None) -> A:
        return validation(lam, theta) - reward * (lam @ lam)

    return StatedLosses(inner, outer)


def symbolic(data: Mapping[str, Array], start: Array) -> SymbolicProblem:
    """In sympy, its floats as the rationals that they are."""
    (lam,), theta = symbols("lambda", 1), symbols("theta", POWERS)
    rates = exact_matrix(data["exponents"]).tolist()
    averaged = [sum(sympy.exp(rate * lam) for rate in row) / NODES for row in rates]
    scaled = sympy.Matrix([c * t for c, t in zip(averaged, theta, strict=True)])

    def half_mean_square(which: str) -> sympy.Expr:
        x, y = exact_matrix(data[which]), exact_matrix(data[f"{which}_targets"][:, None])
        gram, moment, square = x.T * x, x.T * y, (y.T * y)[0]
        return (scaled.dot(gram * scaled) - 2 * scaled.dot(moment) + square) / (2 * y.rows)

    decay, reward = (sympy.Rational(float(data[name])) for name in ("decay", "reward"))
    return SymbolicProblem(
        lam=(lam,),
        theta=theta,
        inner=half_mean_square("train") + decay / 2 * sum(t**2 for t in theta),
        outer=half_mean_square("validation") - reward * lam**2,
        initial=tuple(exact_matrix(start[:, None])),
    )


def invariance(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """10 training and 10 validation points."""
    draws = Draws(41)

    def normal(which: int, size: int) -> Array:
        like = torch.empty(size, dtype=torch.float64)
        return draws.normal(Stream.INSTANCE, which, like).numpy()

    powers = np.arange(1, POWERS + 1)
    nodes = np.linspace(-1, 1, NODES)
    weights = normal(0, POWERS)
    data: dict[str, Array] = {
        "exponents": powers[:, None] * nodes,
        "decay": np.array(DECAY),
        "reward": np.array(REWARD),
    }
    for which, step in (("train", 1), ("validation", 3)):
        x = np.tanh(normal(step, POINTS))
        data[which] = x[:, None] ** powers
        data[f"{which}_targets"] = data[which] @ weights + NOISE * normal(step + 1, POINTS)
    lam, start = np.array([0.4]), 0.3 * normal(5, POWERS)
    averaged = np.exp(data["exponents"] * lam).mean(axis=1)
    largest = float(np.linalg.norm(data["train"] * averaged, 2)) ** 2 / POINTS + DECAY
    stated = Statement(losses, data)
    built = stated.in_torch(dtype, device)
    initial = FixedInitial(as_tensor(start, dtype, device))
    return Case(
        name="invariance",
        problem=BilevelProblem(built.inner, built.outer, initial, name="invariance"),
        lam=as_tensor(lam, dtype, device),
        dynamics=Langevin(0.5 / largest, temperature=0.01, noise_scale=1.0),
        schedule=Schedule(burn_in=10, samples=10),
        symbolic=symbolic(data, start),
        statement=stated,
        tags=frozenset({"quadratic", "strongly convex", "deterministic losses"}),
    )
