"""Three statements of each problem agree: tensors, any array library, and sympy."""

from collections.abc import Callable, Sequence

import mpmath
import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refblo.contracts.rounding import unit_roundoff
from refblo.derivatives import inner_gradient, mixed_product, outer_gradients
from refblo.noise import Draws, Stream
from refblo.problems import Case, build, catalogue
from refblo.problems.symbolic import SymbolicProblem
from refblo.testing.problems import random_composed, random_quadratic, random_separable

ROUNDINGS = 1000
"""More than the roundings on the longest path of any statement: 221 squares of sums of 11 products."""

NAMES = tuple(catalogue())


def points(case: Case, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(λ, θ) at and around where the case starts."""
    draws, found = Draws(99), []
    theta = case.problem.initial(case.lam)
    for index in range(count):
        lam = case.lam * (1 + 0.3 * draws.normal(Stream.DIRECTIONS, 2 * index, case.lam))
        found.append((lam, theta + draws.normal(Stream.DIRECTIONS, 2 * index + 1, theta)))
    return found


def batches(case: Case) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """One inner and one outer batch of a case."""
    return (
        case.problem.inner_batches(Draws(7), Stream.INNER_BATCH, 3),
        case.problem.outer_batches(Draws(7), Stream.OUTER_BATCH, 3),
    )


def close(value: object, truth: object, scale: float) -> bool:
    """Within the rounding of numbers of size `scale`."""
    difference = np.abs(np.asarray(value, dtype=float) - np.asarray(truth, dtype=float)).max()
    return bool(difference <= ROUNDINGS * unit_roundoff(torch.float64) * scale)


@pytest.mark.parametrize("name", NAMES)
def test_numpy_computes_the_losses_that_torch_computes(name: str) -> None:
    case = build(name)
    assert case.statement is not None
    losses = case.statement.losses(np, np.asarray)
    for_inner, for_outer = batches(case)
    for lam, theta in points(case, 5):
        pairs = (
            (case.problem.inner, losses.inner, for_inner),
            (case.problem.outer, losses.outer, for_outer),
        )
        for in_torch, in_numpy, batch in pairs:
            value = float(in_torch(lam, theta, batch))
            again = in_numpy(lam.numpy(), theta.numpy(), None if batch is None else batch.numpy())
            assert np.shape(again) == ()
            assert close(again, value, abs(value)), name


Function = Callable[..., object]


class Symbolic:
    """A symbolic problem's losses and derivatives as functions at 40 digits."""

    def __init__(self, problem: SymbolicProblem) -> None:
        lam, theta = problem.lam, problem.theta
        arguments = (lam, theta, problem.inner_batch, problem.outer_batch)

        def compiled(expressions: Sequence[sympy.Expr]) -> Function:
            function: Function = sympy.lambdify(arguments, list(expressions), "mpmath", cse=True)
            return function

        slopes = [sympy.diff(problem.inner, t) for t in theta]
        self.losses = compiled([problem.inner, problem.outer])
        self.inner_gradient = compiled(slopes)
        self.mixed = compiled([sympy.diff(slope, symbol) for slope in slopes for symbol in lam])
        self.outer_by_lam = compiled([sympy.diff(problem.outer, symbol) for symbol in lam])
        self.outer_by_theta = compiled([sympy.diff(problem.outer, t) for t in theta])
        self.initial = compiled(problem.initial)


def check_symbolic(case: Case, count: int) -> None:
    """Losses, gradients, mixed product and θ⁰ of the tensor problem are those of the sympy one."""
    assert case.symbolic is not None
    symbolic, problem = Symbolic(case.symbolic), case.problem
    inner_batch, outer_batch = batches(case)
    for lam, theta in points(case, count):
        direction = Draws(5).normal(Stream.DIRECTIONS, 1000, theta)
        arguments = [
            [mpmath.mpf(x) for x in vector.tolist()]
            for vector in (
                *(lam, theta),
                *(torch.empty(0) if b is None else b for b in (inner_batch, outer_batch)),
            )
        ]

        def evaluate(function: Function, at: list[list[object]] = arguments) -> np.ndarray:
            with mpmath.workdps(40):
                return np.array([float(x) for x in function(*at)])  # type: ignore[attr-defined]

        n, p = theta.numel(), lam.numel()
        losses = evaluate(symbolic.losses)
        mixed = evaluate(symbolic.mixed).reshape(n, p)
        by_lam, by_theta = outer_gradients(problem.outer, lam, theta, outer_batch)
        compared = {
            "inner": (problem.inner(lam, theta, inner_batch), losses[0]),
            "outer": (problem.outer(lam, theta, outer_batch), losses[1]),
            "inner gradient": (
                inner_gradient(problem.inner, lam, theta, inner_batch),
                evaluate(symbolic.inner_gradient),
            ),
            "mixed product": (
                mixed_product(problem.inner, lam, theta, inner_batch, direction),
                direction.numpy() @ mixed,
            ),
            "∂_λ f": (by_lam, evaluate(symbolic.outer_by_lam)),
            "∂_θ f": (by_theta, evaluate(symbolic.outer_by_theta)),
            "θ⁰": (problem.initial(lam), evaluate(symbolic.initial)),
        }
        for what, (value, truth) in compared.items():
            # What cancels in a result was of the size of the vectors or of the result.
            scale = float(np.abs(truth).max() + theta.abs().max() + lam.abs().max())
            assert close(value.detach(), truth, scale), (
                f"{case.name}: {what}: {value} is not {truth}"
            )


@pytest.mark.parametrize("name", NAMES)
def test_sympy_states_what_torch_computes(name: str) -> None:
    case = build(name)
    if case.symbolic is None:
        assert max(case.lam.numel(), case.problem.initial(case.lam).numel()) > 12, (
            "a small problem is stated in sympy, so that oracles can work at any precision"
        )
        return
    check_symbolic(case, 5)


sizes = st.tuples(st.integers(1, 3), st.integers(1, 3)).filter(lambda size: size[0] != size[1])


@given(seed=st.integers(0, 10**6), size=sizes, kind=st.sampled_from(["plain", "curved", "moving"]))
@settings(max_examples=15)  # symbolic differentiation and compilation take a tenth of a second
def test_sympy_states_random_quadratics(seed: int, size: tuple[int, int], kind: str) -> None:
    curvature, moving = 0.3 * (kind == "curved"), 1.0 * (kind == "moving")
    check_symbolic(
        random_quadratic(seed, *size, curvature=curvature, moving_start=moving, symbolic=True), 2
    )


@given(seed=st.integers(0, 10**6), size=sizes)
@settings(max_examples=8)  # likewise, and a second where n·p = 6
def test_sympy_states_random_smooth_problems(seed: int, size: tuple[int, int]) -> None:
    check_symbolic(random_separable(seed, *size, symbolic=True), 1)
    check_symbolic(random_composed(seed, *size, symbolic=True), 1)
