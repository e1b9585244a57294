"""Synthetic 1-D, Section 4.1 of Kim and Hospedales, and its noisy form (27).

Inner loss θ³/3 − (1 − λ²)θ with the local minimum θ*(λ) = √(1 − λ²); outer loss (λ − θ)² + (θ − ½)².
The noisy inner loss is (1/3 + ε₁)θ³ − (1 − λ² + ε₂)θ with ε₁, ε₂ uniform on (−0.3, 0.3), drawn anew at
every call; its mean is the noise-free one. The cubic is unbounded below, so there is no Gibbs truth on
the whole line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import sympy
import torch
from jaxtyping import Float64

from refblo.chain import Langevin, Schedule
from refblo.problem import BilevelProblem, FixedInitial, UniformBatches
from refblo.problems.case import Case, ClosedForms
from refblo.problems.namespace import A, ArrayNamespace, StatedLosses, Statement
from refblo.problems.symbolic import SymbolicProblem, symbols

START = 0.1
"""λ⁰ = θ⁰, which the paper does not print: with it the deterministic rows of its Table 2 come out."""

DYNAMICS = Langevin(step_size=0.005, temperature=1e-6)
"""The inner learning rate and the temperature of the paper's D.1, without the noise."""

SCHEDULE = Schedule(burn_in=50, samples=50)
"""The paper's D.1."""


def _outer(xp: ArrayNamespace[A]) -> Callable[[A, A, A | None], A]:
    total = xp.sum

    def outer(lam: A, theta: A, _: A | None) -> A:
        return total((lam - theta) ** 2 + (theta - 0.5) ** 2)

    return outer


def losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:  # noqa: ARG001  (has none)
    """The noise-free losses."""
    total = xp.sum

    def inner(lam: A, theta: A, _: A | None) -> A:
        return total(theta**3 / 3 - (1 - lam * lam) * theta)

    return StatedLosses(inner, _outer(xp))


def noisy_losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:  # noqa: ARG001
    """The losses with (27); the inner batch is (ε₁, ε₂)."""
    total = xp.sum

    def inner(lam: A, theta: A, batch: A | None) -> A:
        if batch is None:
            return total(theta**3 / 3 - (1 - lam * lam) * theta)
        return total((1 / 3 + batch[0]) * theta**3 - (1 - lam * lam + batch[1]) * theta)

    return StatedLosses(inner, _outer(xp))


def symbolic(*, noisy: bool) -> SymbolicProblem:
    """Either form in sympy."""
    lam, theta = sympy.symbols("lambda theta", real=True)
    first, second = symbols("epsilon", 2) if noisy else (sympy.Integer(0), sympy.Integer(0))
    third, half = sympy.Rational(1, 3), sympy.Rational(1, 2)
    return SymbolicProblem(
        lam=(lam,),
        theta=(theta,),
        inner=(third + first) * theta**3 - (1 - lam**2 + second) * theta,
        outer=(lam - theta) ** 2 + (theta - half) ** 2,
        initial=(sympy.Rational(START),),
        inner_batch=(first, second) if noisy else (),
    )


@final
@dataclass(frozen=True)
class SynthForms(ClosedForms):
    """The implicit truth of the noise-free problem.

    The iterates of the cubic have no formula, and exp(−L_T/temperature) cannot be normalised on the line.
    """

    def implicit(self, lam: Float64[np.ndarray, " p"]) -> Float64[np.ndarray, " p"] | None:
        """f_λ + f_θ·dθ*/dλ with dθ*/dλ = −λ/θ*; None for |λ| ≥ 1, where there is no minimum."""
        if abs(float(lam[0])) >= 1:
            return None
        theta = np.sqrt(1 - lam**2)
        direct = 2 * (lam - theta)
        slope = 2 * (theta - 0.5) - direct
        result: np.ndarray = direct - slope * lam / theta
        return result


def synth_1d(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """The noise-free problem at λ = θ⁰ = 0.1."""
    return _case("synth_1d", noisy=False, dtype=dtype, device=device)


def noisy_synth_1d(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """The problem with (27) at λ = θ⁰ = 0.1."""
    return _case("noisy_synth_1d", noisy=True, dtype=dtype, device=device)


def _case(name: str, *, noisy: bool, dtype: torch.dtype, device: torch.device | str) -> Case:
    stated = Statement(noisy_losses if noisy else losses, {})
    built = stated.in_torch(dtype, device)
    start = torch.full((1,), START, dtype=dtype, device=device)
    problem = BilevelProblem(built.inner, built.outer, FixedInitial(start), name=name)
    if noisy:
        problem = replace(problem, inner_batches=UniformBatches(2, -0.3, 0.3))
    return Case(
        name=name,
        problem=problem,
        lam=torch.full((1,), START, dtype=dtype, device=device),
        dynamics=DYNAMICS,
        schedule=SCHEDULE,
        symbolic=symbolic(noisy=noisy),
        closed_forms=None if noisy else SynthForms(),
        statement=stated,
        tags=frozenset({"stochastic losses"} if noisy else {"deterministic losses"}),
    )
