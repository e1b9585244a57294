"""Small random cases stated twice, in torch and in sympy, from the same numbers; p ≠ n."""

from dataclasses import dataclass
from typing import final

import numpy as np
import sympy
import torch
from hypothesis import strategies as st
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.problem import (
    Batches,
    BilevelProblem,
    FixedInitial,
    FullBatch,
    LamInitial,
    UniformBatches,
)
from refblo.problems.case import Case
from refblo.problems.symbolic import SymbolicProblem, exact_matrix, symbols
from refblo.types import Truth

# Nothing so small that products of a few underflow: rounding is relative down to there only.
NUMBERS = st.floats(-1, 1).map(lambda x: x if abs(x) > 1e-9 else 0.0)


@st.composite
def arrays(draw: st.DrawFn, *shape: int) -> np.ndarray:
    """Arrays of such numbers."""
    size = int(np.prod(shape))
    return np.array(draw(st.lists(NUMBERS, min_size=size, max_size=size))).reshape(shape)


@st.composite
def sizes(draw: st.DrawFn, largest: int = 3) -> tuple[int, int]:
    """(n, p) with p ≠ n."""
    n = draw(st.integers(1, largest))
    p = draw(st.integers(1, largest).filter(lambda size: size != n))
    return n, p


def smooth_case(
    numbers: dict[str, np.ndarray],
    dynamics: Langevin,
    schedule: Schedule,
    *,
    noisy: bool,
    moving: bool,
) -> Case:
    """A strongly convex problem with a quartic, an exponential and a sine.

    Inner loss Σ_i (1 + exp((Wλ)_i)) θ_i²/2 + θ_i⁴/4 + (1 + ξ) θ'Kλ + sin(θ₀ λ₀)/4; outer loss
    Σ_i (θ_i − c_i)²/2 + θ'Rλ + sin(λ₀) + Σ_j λ_j² θ₀; ξ is the batch, and θ⁰ = s + Jλ.
    """
    tensors = {name: torch.as_tensor(array) for name, array in numbers.items()}
    W, K, c, R, s, J = (tensors[name] for name in ("W", "K", "c", "R", "s", "J"))

    def inner(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        scale = 1 if batch is None else 1 + batch[0]
        weights = 1 + torch.exp(W @ lam)
        quartic = (weights * theta**2 / 2 + theta**4 / 4).sum()
        return quartic + scale * (theta @ (K @ lam)) + torch.sin(theta[0] * lam[0]) / 4

    def outer(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        fit = ((theta - c) ** 2).sum() / 2 + theta @ (R @ lam)
        return fit + torch.sin(lam[0]) + (lam @ lam) * theta[0]

    batches: Batches = UniformBatches(1, -0.5, 0.5) if noisy else FullBatch()
    initial = LamInitial(lambda lam: s + J @ lam) if moving else FixedInitial(s)
    problem = BilevelProblem(inner, outer, initial, batches, name="smooth")
    symbolic = _symbolic(numbers, noisy=noisy, moving=moving)
    return Case("smooth", problem, tensors["lam"], dynamics, schedule, symbolic)


def _symbolic(numbers: dict[str, np.ndarray], *, noisy: bool, moving: bool) -> SymbolicProblem:
    n, p = numbers["W"].shape
    lam, theta = symbols("lam", p), symbols("theta", n)
    batch = symbols("xi", 1) if noisy else ()
    W, K, R, J = (exact_matrix(numbers[name]) for name in ("W", "K", "R", "J"))
    c, s = (exact_matrix(numbers[name][:, None]) for name in ("c", "s"))
    in_lam, in_theta = sympy.Matrix(lam), sympy.Matrix(theta)
    inner = sympy.sin(theta[0] * lam[0]) / 4
    inner += (1 + batch[0] if noisy else 1) * in_theta.dot(K * in_lam)
    outer = sympy.sin(lam[0]) + in_lam.dot(in_lam) * theta[0] + in_theta.dot(R * in_lam)
    exponents = W * in_lam
    for i, entry in enumerate(theta):
        inner += (1 + sympy.exp(exponents[i])) * entry**2 / 2 + entry**4 / 4
        outer += (entry - c[i]) ** 2 / 2
    start = s + J * in_lam if moving else s
    return SymbolicProblem(lam, theta, inner, outer, tuple(start), batch)


@final
@dataclass(frozen=True, eq=False)
class Recipe:
    """What a case is made of. Tests make it themselves: sympy may not be used while examples are drawn."""

    numbers: dict[str, np.ndarray]
    dynamics: Langevin
    schedule: Schedule
    noisy: bool
    moving: bool

    def case(self) -> Case:
        """The case."""
        return smooth_case(
            self.numbers, self.dynamics, self.schedule, noisy=self.noisy, moving=self.moving
        )


@st.composite
def recipes(draw: st.DrawFn, *, programs: bool = True) -> Recipe:
    """Random members of that family; batches and moving initial points only where programs are asked for."""
    n, p = draw(sizes())
    shapes = {"W": (n, p), "K": (n, p), "R": (n, p), "J": (n, p), "c": (n,), "s": (n,), "lam": (p,)}
    numbers = {name: draw(arrays(*shape)) for name, shape in shapes.items()}
    # The curvature is below 1 + e³ + 3 θ² + …: at this step no chain can leave the finite numbers.
    step_size = draw(st.floats(0.01, 0.05))
    dynamics = Langevin(step_size, draw(st.floats(0.1, 1)), draw(st.sampled_from([0.0, 0.5])))
    schedule = Schedule(draw(st.integers(0, 2)), draw(st.integers(1, 3)))
    noisy, moving = (programs and draw(st.booleans()) for _ in range(2))
    return Recipe(numbers, dynamics, schedule, noisy, moving)


def agree(first: Truth, second: Truth) -> bool:
    """Whether two truths are within the sum of their errors."""
    distance = float(torch.linalg.vector_norm(first.value - second.value))
    return distance <= first.error + second.error


def story(first: Truth, second: Truth) -> str:
    """What to say when they do not."""
    distance = float(torch.linalg.vector_norm(first.value - second.value))
    return (
        f"{first.oracle}: {first.value.tolist()} ± {first.error:.3g}; {second.oracle}: "
        f"{second.value.tolist()} ± {second.error:.3g}; they differ by {distance:.3g}"
    )
