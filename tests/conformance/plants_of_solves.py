"""Mistakes in implicit differentiation: solves, series, conjugate gradients, curvature matrices."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from refblo.chain import Schedule
from refblo.conformance.diagnosis import Mistake
from refblo.rules import Rule
from refblo.types import Estimand
from tests.conformance.plants import N, P, Plant, Problem, generated, planter, unrolled

Array = np.ndarray
GAMMA, STEPS = 0.15, 300


def implicit_problem(seed: int, **changes: object) -> Problem:
    """The generated problem, run to its solution; θ is two tensors."""
    problem = generated(seed)
    return replace(
        problem,
        rule=Rule(GAMMA),
        schedule=Schedule.last(STEPS),
        estimand=Estimand.IMPLICIT,
        shapes=((2,), (2,)),
        **changes,  # type: ignore[arg-type]  # of the dataclass
    )


@dataclass(frozen=True, eq=False)
class Solution:
    """A solution with the dense derivatives there.

    Attributes:
        theta: θ*.
        hessian: ∂²_θ L_T.
        mixed: ∂_θ∂_λ L_T, shape (n, p).
        direct: ∂_λ f.
        slope: ∂_θ f.
        gamma: the factor α of a series.
    """

    theta: Tensor
    hessian: Array
    mixed: Array
    direct: Array
    slope: Array
    gamma: float = GAMMA

    def solved(self, hessian: Array | None = None) -> Array:
        """f_λ − f_θ·H⁻¹C, with another H if asked for."""
        matrix = self.hessian if hessian is None else hessian
        return self.by(np.linalg.solve(matrix.T, self.slope))

    def by(self, q: Array) -> Array:
        """f_λ − q·C."""
        result: Array = self.direct - q @ self.mixed
        return result

    def series(self, count: int) -> Array:
        """α Σ_{j<K} (I − αH)^j f_θ."""
        total, term = np.zeros(len(self.slope)), self.slope
        for _ in range(count):
            total, term = total + term, term - self.gamma * self.hessian @ term
        result: Array = self.gamma * total
        return result

    def conjugate_gradients(self, count: int, *, old: bool = False) -> Array:
        """Iterates; with an old residual in the direction if asked for."""
        x, r, p = np.zeros_like(self.slope), self.slope, self.slope
        for _ in range(count):
            image = self.hessian @ p
            step = (r @ r) / (p @ image)
            x, new = x + step * p, r - step * image
            p = (r if old else new) + (new @ new) / (r @ r) * p
            r = new
        result: Array = x
        return result


def solution(problem: Problem, theta: Tensor | None = None) -> Solution:
    """The solution by Newton's method, or another θ taken for it."""
    gradient = torch.func.grad(problem.inner, 1)
    decay = problem.rule.constant("weight_decay")
    lam = problem.lam

    def residual(x: Tensor, z: Tensor) -> Tensor:
        total: Tensor = gradient(x, z) + decay * z
        return total

    if theta is None:
        theta = problem.theta0
        for _ in range(500):
            theta = theta - GAMMA * residual(lam, theta)
        for _ in range(10):
            hessian = torch.func.jacrev(residual, 1)(lam, theta)
            theta = theta - torch.linalg.solve(hessian, residual(lam, theta))
    direct, slope = torch.func.grad(problem.outer, (0, 1))(lam, theta)
    return Solution(
        theta,
        torch.func.jacrev(residual, 1)(lam, theta).numpy(),
        torch.func.jacrev(residual, 0)(lam, theta).numpy(),
        direct.numpy(),
        slope.numpy(),
    )


@planter
def of_solves(seed: int) -> Iterator[Plant]:
    problem = implicit_problem(seed, terms=6)
    at = solution(problem)
    solved = np.linalg.solve(at.hessian, at.slope)
    indirect = -solved @ at.mixed
    yield Plant(Mistake.MISSING_DIRECT, problem, indirect)
    yield Plant(Mistake.IDENTITY_FOR_INVERSE, problem, at.by(at.slope))
    yield Plant(Mistake.ONE_STEP, problem, at.by(GAMMA * at.slope))
    yield Plant(Mistake.SERIES_SCALED_TWICE, problem, GAMMA * (at.direct + indirect))
    for count in (3, 9):
        yield Plant(Mistake.SERIES_SHORT, problem, at.by(at.series(count)))
    yield Plant(Mistake.SERIES_ONE_MORE, problem, at.by(at.series(7)))
    yield Plant(Mistake.SERIES_ONE_FEWER, problem, at.by(at.series(5)))
    yield Plant(Mistake.SERIES_NOT_SCALED, problem, at.by(at.series(4) / GAMMA))
    for factor in (0.4 * GAMMA, 1.7 * GAMMA):
        scaled = replace(at, gamma=factor)
        yield Plant(Mistake.SERIES_SHORT, problem, scaled.by(scaled.series(4)))
        yield Plant(Mistake.SERIES_NOT_SCALED, problem, scaled.by(scaled.series(3) / factor))
    for count in (1, 2):
        yield Plant(Mistake.CG_EARLY, problem, at.by(at.conjugate_gradients(count)))
    yield Plant(Mistake.CG_LAST_DROPPED, problem, at.by(at.conjugate_gradients(N - 1)))
    yield Plant(Mistake.CG_OLD_RESIDUAL, problem, at.by(at.conjugate_gradients(2, old=True)))
    for delta in (0.3, 1e-3):
        damped = np.linalg.solve(at.hessian + delta * np.eye(N), at.slope)
        yield Plant(Mistake.DAMPING, problem, at.by(damped))
    blocks = at.hessian.copy()
    blocks[:2, 2:] = blocks[2:, :2] = 0
    yield Plant(Mistake.HESSIAN_BLOCKS, problem, at.by(np.linalg.solve(blocks, at.slope)))
    state = problem.theta0
    for _ in range(5):
        state = state - GAMMA * torch.func.grad(problem.inner, 1)(problem.lam, state)
    early = solution(problem, state)
    yield Plant(
        Mistake.NOT_CONVERGED, problem, early.by(np.linalg.solve(early.hessian, early.slope))
    )
    short = replace(problem, schedule=Schedule.last(4))
    yield Plant(Mistake.ANOTHER_ESTIMAND, short, unrolled(short))
    wrong = replace(problem, outer=lambda lam, theta, _=None: problem.inner(lam, theta) * 1.0)
    other = solution(wrong, at.theta)
    yield Plant(Mistake.INNER_FOR_OUTER, problem, other.direct)
    yield Plant(
        Mistake.TASK_DROPPED, problem, at.by(np.linalg.solve(at.hessian, [0, 0, *at.slope[2:]]))
    )
    decayed = implicit_problem(seed)
    decayed = replace(decayed, rule=Rule(GAMMA, weight_decay=0.3))
    at = solution(decayed)
    lighter = np.linalg.solve(at.hessian - 0.3 * np.eye(N), at.slope)
    yield Plant(Mistake.DECAY_NOT_DIFFERENTIATED, decayed, at.by(lighter))
    forgotten = solution(problem)
    yield Plant(
        Mistake.DECAY_FORGOTTEN,
        decayed,
        forgotten.by(np.linalg.solve(forgotten.hessian, forgotten.slope)),
    )


@planter
def of_curvature(seed: int) -> Iterator[Plant]:
    """Residuals of a model that is not linear: ½ mean of squares, and a ridge."""
    generator = torch.Generator().manual_seed(seed + 50)
    x = torch.randn(9, 2, generator=generator).double()
    y = torch.randn(9, generator=generator).double()

    def net(theta: Tensor) -> Tensor:
        return torch.tanh(x @ theta[:2]) * (1 + theta[2]) + theta[3] * x[:, 0]

    def inner(lam: Tensor, theta: Tensor, _: Tensor | None = None) -> Tensor:
        return (
            0.5 * (net(theta) - y).square().mean()
            + lam.exp().sum() * 0.1 * (theta - lam[0]).square().sum()
        )

    for problem in (
        replace(implicit_problem(seed), inner=inner),
        replace(generated(seed), inner=inner),
    ):
        at = solution(problem) if problem.estimand is Estimand.IMPLICIT else None
        for mistake in (Mistake.GAUSS_NEWTON, Mistake.FISHER):

            def matrix(theta: Tensor, lam: Tensor, mistake: Mistake = mistake) -> Array:
                jacobian = torch.func.jacrev(net)(theta)
                ridge = 0.2 * lam.exp().sum() * torch.eye(N, dtype=torch.float64)
                rows = (
                    jacobian
                    if mistake is Mistake.GAUSS_NEWTON
                    else ((net(theta) - y)[:, None] * jacobian)
                )
                result: Array = (rows.T @ rows / 9 + ridge).numpy()
                return result

            if at is not None:
                curved = matrix(at.theta, problem.lam)
                yield Plant(mistake, problem, at.solved(curved))
                continue
            yield Plant(mistake, problem, _forward(problem, matrix))


def _forward(problem: Problem, matrix: object) -> Array:
    """Tangents along gradient descent with another matrix for H."""
    assert callable(matrix)
    gamma, lam, theta = problem.rule.constant("step_size"), problem.lam, problem.theta0
    tangent = np.zeros((N, P))
    gradient = torch.func.grad(problem.inner, 1)
    for _ in range(problem.schedule.steps):
        mixed = torch.func.jacrev(gradient, 0)(lam, theta).numpy()
        tangent = tangent - gamma * (matrix(theta, lam) @ tangent + mixed)
        theta = theta - gamma * gradient(lam, theta)
    direct, slope = torch.func.grad(problem.outer, (0, 1))(lam, theta)
    result: Array = direct.numpy() + slope.numpy() @ tangent
    return result
