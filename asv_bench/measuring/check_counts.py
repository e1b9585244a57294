"""What a check looks at: calls, directions, replicas, and runs of the objective for differences."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, final
from unittest.mock import patch

from torch import Tensor

from asv_bench.measuring.checking import DIAGONAL_SIZE, DIAGONAL_STEPS, STEPS, LargeProblem
from refblo.conformance.truth import ladder, symmetric, tangent
from refblo.conformance.truth.program import Program


@final
@dataclass
class Counts:
    """The counts of one check; a change that makes a check cheaper keeps the first four.

    Attributes:
        name: the problem.
        calls: of the caller's hypergradient.
        directions: along which the truth is known at λ, and at the point near λ.
        replicas: perturbed runs, at λ and near λ.
        objective_runs: runs of the inner problem for values of the objective, for differences and kinks.
        inner_losses: calls of the inner loss, all oracles together.
    """

    name: str
    calls: int = 0
    directions: list[int] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)
    objective_runs: int = 0
    inner_losses: int = 0


def check_counts() -> list[Counts]:
    """Of the problems whose time is measured."""
    diagonal = LargeProblem.diagonal(DIAGONAL_SIZE)
    million = LargeProblem.million(32)
    return [
        _counted(diagonal, DIAGONAL_STEPS, f"p = n = {DIAGONAL_SIZE}, T = {DIAGONAL_STEPS}"),
        _counted(million, STEPS, f"p = n = {million.lam.numel()}, T = {STEPS}"),
    ]


def _counted(problem: LargeProblem, steps: int, name: str) -> Counts:
    counts = Counts(name)
    hypergradient = problem.hypergradient(steps)
    objective, by_symmetry, directional = (
        Program.objective,
        symmetric.by_symmetry,
        tangent.directional,
    )

    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        counts.inner_losses += 1
        return problem.inner(lam, theta)

    def called(lam: Tensor) -> Tensor:
        counts.calls += 1
        return hypergradient(lam)

    def value(program: Program, lam: Tensor) -> float:
        counts.objective_runs += 1
        return objective(program, lam)

    def watching(way: Callable[..., Any]) -> Callable[..., Any]:
        def tangents(program: Program, directions: Tensor, *rest: Any) -> Any:
            counts.directions.append(directions.shape[1])
            counts.replicas.append(rest[2])
            return way(program, directions, *rest)

        return tangents

    watched: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (Program, "objective", value),
        (ladder, "directional", watching(directional)),
        (ladder, "by_symmetry", watching(by_symmetry)),
    )
    with ExitStack() as stack:
        for target, attribute, replacement in watched:
            stack.enter_context(patch.object(target, attribute, replacement))
        replace(problem, inner=inner).check(called, steps)
    return counts
