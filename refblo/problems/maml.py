"""Problems of the MAML type: λ is where the inner run starts.

Neither inner loss knows λ, so the Gibbs and the implicit truths are zero: θ forgets where it started.
What such a problem is about is the unrolled truth.

- `maml_quadratic`: θ⁰ = λ, inner loss ½ θ'Hθ − θ'c, outer loss ½ θ'Qθ + q'θ (n = p).
- `maml_sinusoid`: K sinusoid regression tasks at once, a linear head on fixed bumps for each, every head
  started at λ: θ⁰ = (λ, …, λ), so that n = K·p. The inner loss sums the tasks' losses on their support
  points, the outer one averages those on the query points.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, LamInitial, identity_initial
from refblo.problems.case import Case
from refblo.problems.namespace import A, ArrayNamespace, StatedLosses, Statement, as_tensor
from refblo.problems.quadratic import instance, statement, step_size, symbolic
from refblo.problems.quadratic_forms import Quadratic, QuadraticForms

TAGS = frozenset({"quadratic", "strongly convex", "deterministic losses", "initial depends on lam"})

ADAPTATION = Schedule.last(5)
"""Few steps, as in meta-learning: after many there would be nothing left to estimate."""


def maml_quadratic(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """θ⁰ = λ with n = p = 2 and condition number 10."""
    draws = Draws(21)
    drawn = instance(draws, 2, 2, 10.0, coupling=0.0)
    numbers = replace(
        drawn,
        outer_mixed=np.zeros((2, 2)),
        outer_direct=np.zeros((2, 2)),
        direct_slope=np.zeros(2),
        start=np.zeros(2),
        start_jacobian=np.eye(2),
    )
    lam = draws.normal(Stream.INSTANCE, 10, torch.empty(2, dtype=torch.float64)).numpy()
    stated = statement(numbers)
    built = stated.in_torch(dtype, device)
    return Case(
        name="maml_quadratic",
        problem=BilevelProblem(built.inner, built.outer, identity_initial(), name="maml_quadratic"),
        lam=as_tensor(lam, dtype, device),
        dynamics=Langevin(step_size(numbers, lam), temperature=0.1, noise_scale=1.0),
        schedule=ADAPTATION,
        symbolic=symbolic(numbers),
        closed_forms=QuadraticForms(numbers),
        statement=stated,
        tags=TAGS,
    )


def repeated_initial(tasks: int) -> LamInitial:
    """θ⁰ = (λ, …, λ), `tasks` times; v·dθ⁰/dλ sums v over the tasks."""

    def repeat(lam: Tensor) -> Tensor:
        return lam.repeat(tasks)

    return LamInitial(repeat, lambda _, v: v.reshape(tasks, -1).sum(dim=0), lambda _, u: repeat(u))


def sinusoid_losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """The losses over all tasks; features have shape (tasks, points, p), targets (tasks, points)."""
    total, reshape = xp.sum, xp.reshape

    def half_mean_square(which: str, weight: float) -> Callable[[A, A, A | None], A]:
        features, targets = data[f"{which}_features"], data[f"{which}_targets"]
        tasks, points, p = features.shape

        def loss(lam: A, theta: A, _: A | None) -> A:  # noqa: ARG001
            predicted = reshape(features @ reshape(theta, (tasks, p, 1)), (tasks, points))
            return weight / (2 * points) * total((predicted - targets) ** 2)

        return loss

    tasks = data["support_features"].shape[0]
    return StatedLosses(half_mean_square("support", 1.0), half_mean_square("query", 1 / tasks))


def sinusoid_tasks(draws: Draws, tasks: int, points: int, bumps: int) -> dict[str, np.ndarray]:
    """Support and query sets of y = a·sin(x + φ) with a ∈ [0.1, 5), φ ∈ [0, π), x ∈ [−5, 5).

    The features are Gaussian bumps on a regular grid over [−5, 5].
    """

    def uniform(which: int, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        return draws.uniform(Stream.INSTANCE, which, shape, low, high).numpy()

    amplitude, phase = uniform(0, (tasks, 1), 0.1, 5.0), uniform(1, (tasks, 1), 0.0, np.pi)
    centres = np.linspace(-5, 5, bumps)
    width = centres[1] - centres[0]
    data = {}
    for which, step in (("support", 2), ("query", 3)):
        x = uniform(step, (tasks, points), -5.0, 5.0)
        data[f"{which}_features"] = np.exp(-0.5 * ((x[:, :, None] - centres) / width) ** 2)
        data[f"{which}_targets"] = amplitude * np.sin(x + phase)
    return data


def sinusoid_numbers(data: Mapping[str, np.ndarray]) -> Quadratic:
    """The sinusoid problem as a member of the quadratic family, block diagonal over the tasks."""
    tasks, points, p = data["support_features"].shape
    n = tasks * p

    def blocks(which: str) -> tuple[np.ndarray, np.ndarray]:
        features, targets = data[f"{which}_features"], data[f"{which}_targets"]
        hessian = np.zeros((n, n))
        for task, block in enumerate(features):
            rows = slice(task * p, (task + 1) * p)
            hessian[rows, rows] = block.T @ block / points
        return hessian, np.einsum("kip,ki->kp", features, targets).reshape(n) / points

    (hessian, shift), (outer_hessian, outer_shift) = blocks("support"), blocks("query")
    return Quadratic(
        hessian=hessian,
        coupling=np.zeros((n, p)),
        shift=shift,
        outer_hessian=outer_hessian / tasks,
        outer_mixed=np.zeros((n, p)),
        outer_direct=np.zeros((p, p)),
        outer_slope=-outer_shift / tasks,
        direct_slope=np.zeros(p),
        start=np.zeros(n),
        start_jacobian=np.tile(np.eye(p), (tasks, 1)),
    )


def maml_sinusoid(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """4 tasks, 12 support and 12 query points each, 6 bumps: p = 6, n = 24."""
    draws, tasks = Draws(22), 4
    data = sinusoid_tasks(draws, tasks, points=12, bumps=6)
    numbers, stated = sinusoid_numbers(data), Statement(sinusoid_losses, data)
    built = stated.in_torch(dtype, device)
    lam = draws.normal(Stream.INSTANCE, 10, torch.empty(6, dtype=torch.float64)).numpy()
    initial = repeated_initial(tasks)
    return Case(
        name="maml_sinusoid",
        problem=BilevelProblem(built.inner, built.outer, initial, name="maml_sinusoid"),
        lam=as_tensor(lam, dtype, device),
        dynamics=Langevin(step_size(numbers, lam), temperature=0.01, noise_scale=1.0),
        schedule=ADAPTATION,
        closed_forms=QuadraticForms(numbers),
        statement=stated,
        tags=TAGS,
    )
