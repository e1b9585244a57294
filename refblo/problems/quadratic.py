"""The quadratic family of Kim and Hospedales, E.3: dense, of a chosen condition number, p ≠ n.

Inner loss ½ θ'(H₀ + diag exp(Wλ))θ − θ'(Kλ + c), the diagonal only where asked for; outer loss
½ θ'Qθ + θ'Rλ + ½ λ'Sλ + q'θ + s'λ, so that λ acts directly as well. With the diagonal, the Gibbs
hypergradient differs from the implicit one by a term proportional to the temperature; without it, the
two are equal.
"""

from collections.abc import Mapping

import numpy as np
import sympy
import torch

from refblo.chain import Langevin, Schedule
from refblo.errors import require
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial, Initial, LamInitial
from refblo.problems.case import Case
from refblo.problems.namespace import A, ArrayNamespace, StatedLosses, Statement, as_tensor
from refblo.problems.quadratic_forms import Diagonal, Quadratic, QuadraticForms
from refblo.problems.symbolic import SymbolicProblem, exact_matrix, symbols

SCHEDULE = Schedule(burn_in=50, samples=50)
"""B = M = 50, as in E.3."""


def losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """The losses of a member of the family; its data are the fields of `Quadratic` by name."""
    hessian, coupling, shift = data["hessian"], data["coupling"], data["shift"]
    outer_hessian, outer_mixed = data["outer_hessian"], data["outer_mixed"]
    outer_direct, outer_slope = data["outer_direct"], data["outer_slope"]
    direct_slope = data["direct_slope"]

    def inner(lam: A, theta: A, _: A | None) -> A:
        return 0.5 * (theta @ (hessian @ theta)) - theta @ (coupling @ lam + shift)

    def outer(lam: A, theta: A, _: A | None) -> A:
        in_theta = 0.5 * (theta @ (outer_hessian @ theta)) + theta @ (outer_mixed @ lam)
        in_lam = 0.5 * (lam @ (outer_direct @ lam)) + direct_slope @ lam
        return in_theta + in_lam + outer_slope @ theta

    if "weights" not in data:
        return StatedLosses(inner, outer)
    weights, exp = data["weights"], xp.exp

    def curved(lam: A, theta: A, batch: A | None) -> A:
        return inner(lam, theta, batch) + 0.5 * (exp(weights @ lam) @ (theta * theta))

    return StatedLosses(curved, outer)


def instance(
    draws: Draws,
    n: int,
    p: int,
    condition_number: float,
    *,
    coupling: float = 1.0,
    curvature: float = 0.0,
    moving_start: float = 0.0,
) -> Quadratic:
    """Draw a member of the family.

    Args:
        draws: where its numbers come from.
        n: size of θ.
        p: size of λ.
        condition_number: of H₀, whose eigenvalues are spaced evenly in the logarithm, the largest 1.
        coupling: standard deviation of K's entries.
        curvature: standard deviation of W's entries; 0 leaves the diagonal out.
        moving_start: standard deviation of the entries of dθ⁰/dλ.

    Raises:
        ArgumentError: if n or p is less than 1 or the condition number less than 1.
    """
    for name, size in (("n", n), ("p", p)):
        require(size >= 1, name, "be at least 1", size, "ask for at least one entry")
    require(
        condition_number >= 1, "condition_number", "be at least 1", condition_number, "raise it"
    )

    def normal(which: int, *shape: int) -> np.ndarray:
        like = torch.empty(shape, dtype=torch.float64)
        return draws.normal(Stream.INSTANCE, which, like).numpy()

    basis, _ = np.linalg.qr(normal(0, n, n))
    eigenvalues = np.geomspace(1 / condition_number, 1, n) if n > 1 else np.ones(1)
    hessian = (basis * eigenvalues) @ basis.T
    factor = normal(1, n, n)
    direct = normal(2, p, p)
    return Quadratic(
        hessian=(hessian + hessian.T) / 2,
        coupling=coupling * normal(3, n, p),
        shift=normal(4, n),
        outer_hessian=factor @ factor.T / n,
        outer_mixed=normal(5, n, p),
        outer_direct=(direct + direct.T) / 2,
        outer_slope=normal(6, n),
        direct_slope=normal(7, p),
        start=normal(8, n),
        start_jacobian=moving_start * normal(11, n, p),
        diagonal=Diagonal(curvature * normal(9, n, p), exponential=True) if curvature else None,
    )


def statement(numbers: Quadratic) -> Statement:
    """The losses of a member for any array library."""
    data = {
        name: getattr(numbers, name)
        for name in (
            *("hessian", "coupling", "shift", "outer_hessian"),
            *("outer_mixed", "outer_direct", "outer_slope", "direct_slope"),
        )
    }
    if numbers.diagonal is not None:
        data["weights"] = numbers.diagonal.weights
    return Statement(losses, data)


def symbolic(numbers: Quadratic) -> SymbolicProblem:
    """A member in sympy, its floats as the rationals that they are."""
    n, p = numbers.coupling.shape
    lam, theta = symbols("lambda", p), symbols("theta", n)
    vector_l, vector_t = sympy.Matrix(lam), sympy.Matrix(theta)

    def matrix(entries: np.ndarray) -> sympy.Matrix:
        return exact_matrix(entries.reshape(len(entries), -1))

    half = sympy.Rational(1, 2)
    pull = matrix(numbers.coupling) * vector_l + matrix(numbers.shift)
    inner = half * vector_t.dot(matrix(numbers.hessian) * vector_t) - vector_t.dot(pull)
    if numbers.diagonal is not None:
        exponents = matrix(numbers.diagonal.weights) * vector_l
        inner += half * sum(
            sympy.exp(power) * t**2 for power, t in zip(exponents, theta, strict=True)
        )
    slope = (
        half * matrix(numbers.outer_hessian) * vector_t
        + matrix(numbers.outer_mixed) * vector_l
        + matrix(numbers.outer_slope)
    )
    direct = half * matrix(numbers.outer_direct) * vector_l + matrix(numbers.direct_slope)
    outer = vector_t.dot(slope) + vector_l.dot(direct)
    start = matrix(numbers.start) + matrix(numbers.start_jacobian) * vector_l
    return SymbolicProblem(lam, theta, inner, outer, tuple(start))


def step_size(numbers: Quadratic, lam: np.ndarray) -> float:
    """Half the inverse of the largest eigenvalue of H(λ): every mode contracts without swinging."""
    return 0.5 / float(np.linalg.eigvalsh(numbers.inner_hessian(lam))[-1])


def initial_of(numbers: Quadratic, dtype: torch.dtype, device: torch.device | str) -> Initial:
    """θ⁰: fixed, or start + start_jacobian·λ with its products left to autograd."""
    start = as_tensor(numbers.start, dtype, device)
    if not numbers.start_jacobian.any():
        return FixedInitial(start)
    jacobian = as_tensor(numbers.start_jacobian, dtype, device)
    return LamInitial(lambda lam: start + jacobian @ lam)


def case_of(
    name: str,
    numbers: Quadratic,
    draws: Draws,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    schedule: Schedule = SCHEDULE,
    stated_in_sympy: bool = True,
) -> Case:
    """A case from a member of the family, with a drawn λ."""
    p = numbers.coupling.shape[1]
    lam = draws.normal(Stream.INSTANCE, 10, torch.empty(p, dtype=torch.float64))
    stated = statement(numbers)
    built = stated.in_torch(dtype, device)
    initial = initial_of(numbers, dtype, device)
    moves = {"initial depends on lam"} if isinstance(initial, LamInitial) else set()
    return Case(
        name=name,
        problem=BilevelProblem(built.inner, built.outer, initial, name=name),
        lam=lam.to(dtype=dtype, device=device),
        dynamics=Langevin(step_size(numbers, lam.numpy()), temperature=0.1, noise_scale=1.0),
        schedule=schedule,
        symbolic=symbolic(numbers) if stated_in_sympy else None,
        closed_forms=QuadraticForms(numbers),
        statement=stated,
        tags=frozenset({"quadratic", "strongly convex", "deterministic losses"} | moves),
    )


def quadratic(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """Condition number 10, the easier setting of E.3."""
    draws = Draws(10)
    return case_of("quadratic", instance(draws, 5, 3, 10.0), draws, dtype=dtype, device=device)


def quadratic_ill_conditioned(
    dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Case:
    """Condition number 1000, the harder setting of E.3."""
    draws = Draws(1000)
    numbers = instance(draws, 6, 4, 1000.0)
    return case_of("quadratic_ill_conditioned", numbers, draws, dtype=dtype, device=device)


def quadratic_curvature(
    dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Case:
    """An inner Hessian that depends on λ, so that all four truths differ."""
    draws = Draws(11)
    numbers = instance(draws, 4, 3, 10.0, curvature=0.5)
    return case_of("quadratic_curvature", numbers, draws, dtype=dtype, device=device)
