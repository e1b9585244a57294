"""hypergradcheck on refblo's own estimators with one line of their source changed.

A mutant counts on a problem where it moves the estimate by more than twice what the check allows there,
and must be rejected on every such problem: by the check as a whole on the first, and by the same bound
on the others. Where it moves nothing (the problem has no minibatches, say),
it is not the check's to find.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo import BilevelProblem, FixedInitial
from refblo.chain import Langevin, Schedule
from refblo.conformance import Report, hypergradient_report
from refblo.conformance.arguments import flat_problem
from refblo.conformance.margins import margin
from refblo.conformance.options import Run, estimand_of
from refblo.conformance.truth.reference import Reference, reference
from refblo.estimators import FMD, RMD, Estimator, IFTConjugateGradient, IFTDense
from refblo.noise import Draws
from refblo.problem import Composed, Separable
from refblo.testing.explicit import ExplicitNumbers
from refblo.testing.tensor_problem import Structure, inner_loss, outer_loss, tensor_problem
from tests.estimators.mutants import FMD_MUTANTS, IFT_MUTANTS, RMD_MUTANTS, SHARED_MUTANTS
from tests.estimators.mutation import Mutant, planted

FLOOR = 1e-9  # hypergradcheck's own, in float64
Loss = Callable[[Tensor, Tensor], Tensor]
DRAWS = Draws(0)


@dataclass(frozen=True, eq=False)
class Subject:
    """An estimator on a problem, and how the check is told about it."""

    name: str
    numbers: ExplicitNumbers
    problem: BilevelProblem
    lam: Tensor
    method: Estimator
    options: dict[str, Any]

    def estimate(self) -> Tensor:
        found = self.method.estimate(self.problem, self.lam, DRAWS)
        # An approximate method's value is in `estimate`.
        return found.value if found.estimate is None else found.estimate

    def losses(self) -> tuple[Loss, Loss]:
        """The problem's losses once more, which no mutant touches."""
        inner, outer = inner_loss(self.numbers, Structure.PLAIN), outer_loss(self.numbers)
        assert not isinstance(inner, Separable | Composed)
        return lambda lam, theta: inner(lam, theta, None), lambda lam, theta: outer(
            lam, theta, None
        )

    def report(self, returned: Tensor) -> Report:
        """The check's verdict on what was returned."""
        start = self.problem.initial
        return hypergradient_report(*self.losses(), self.lam, start, returned, **self.options)

    def truth(self) -> Reference:
        """What the check compares with."""
        options = dict(self.options)
        estimand = estimand_of(options.pop("estimand", "unrolled"))
        run: Run = options  # type: ignore[assignment]  # a dict with Run's keys
        problem = flat_problem(*self.losses(), self.lam, self.problem.initial, estimand, run)
        return reference(
            problem.program,
            estimand,
            np.eye(self.lam.numel()),
            exhaustive=True,
            draws=DRAWS,
            ulp=problem.ulp,
        )


def subjects() -> Iterator[tuple[Subject, list[Mutant]]]:
    """Subjects with the mutants that can reach them."""
    for index, structure in enumerate(Structure):
        moving = structure in (Structure.PLAIN, Structure.CLOSED_FORM)
        numbers = ExplicitNumbers.random(index, 2, 3, moving)
        lam = torch.tensor([0.3, -0.6], dtype=torch.float64)
        gamma = 0.5 / numbers.largest_curvature(np.array(lam.tolist()))
        problem = tensor_problem(numbers, structure)
        rule, last, both = Langevin(gamma), Schedule.last(5), Schedule(3, 2)
        run: dict[str, Any] = {"steps": 5, "step_size": gamma}
        mean = run | {"estimand": "pathwise", "burn_in": 3}
        where = structure.value
        reverse, forward = [*RMD_MUTANTS, *SHARED_MUTANTS], [*FMD_MUTANTS, *SHARED_MUTANTS]
        runs: tuple[tuple[str, Estimator, dict[str, Any], list[Mutant]], ...] = (
            ("RMD", RMD(rule, last), run, reverse),
            ("RMD mean", RMD(rule, both, False, None, 0), mean, reverse),
            ("RMD checkpointed", RMD(rule, both, True, None, 0), mean, reverse),
            ("FMD", FMD(rule, last), run, forward),
            ("FMD mean", FMD(rule, both, 1), mean, forward),
        )
        for name, method, options, mutants in runs:
            yield Subject(f"{name}, {where}", numbers, problem, lam, method, options), mutants
        still = replace(problem, initial=FixedInitial(solution(numbers, lam)))
        tiny = Langevin(1e-12)
        solved: dict[str, Any] = {"steps": 1, "step_size": gamma, "estimand": "implicit"}
        implicit = [*IFT_MUTANTS, *SHARED_MUTANTS]
        solves: tuple[tuple[str, Estimator], ...] = (
            ("IFT dense", IFTDense(tiny, 1)),
            ("IFT CG", IFTConjugateGradient(tiny, 1, 6)),
        )
        for name, solve in solves:
            yield Subject(f"{name}, {where}", numbers, still, lam, solve, solved), implicit


def solution(numbers: ExplicitNumbers, lam: Tensor) -> Tensor:
    """Where the inner gradient vanishes, by Newton's method."""
    inner = inner_loss(numbers, Structure.PLAIN)
    assert not isinstance(inner, Separable | Composed)
    slope = torch.func.grad(lambda theta: inner(lam, theta, None))
    theta = torch.zeros(3, dtype=torch.float64)
    for _ in range(20):
        theta = theta - torch.linalg.solve(torch.func.jacrev(slope)(theta), slope(theta))
    return theta


def mutated(mutant: Mutant, subject: Subject, right: Tensor, bound: float) -> Tensor | None:
    """The mutant's estimate where it is off by more than twice the bound."""
    try:
        with planted(mutant):
            found = subject.estimate()
    except Exception:
        # It raises, which nobody needs a check to see; or it no longer applies to the source, which
        # the tests of the estimators say.
        return None
    return None if float((found - right).norm()) <= 2 * bound else found


@dataclass(frozen=True)
class Tally:
    """What became of the mutants.

    Attributes:
        wrong: estimates that a mutant made wrong.
        names: of the mutants that did.
        missed: those that were not rejected.
    """

    wrong: int
    names: list[str]
    missed: list[str]


def judge(chosen: list[tuple[Subject, list[Mutant]]]) -> Tally:
    wrong, missed, seen = 0, [], set()
    for subject, mutants in chosen:
        right, truth = subject.estimate(), subject.truth()
        allowed = margin(right.numpy(), truth, FLOOR, 0.0)
        assert allowed.right, f"{subject.name} is accused: {allowed}"
        for mutant in mutants:
            found = mutated(mutant, subject, right, allowed.allowed)
            if found is None:
                continue
            wrong += 1
            passes = margin(found.numpy(), truth, FLOOR, 0.0).right
            if mutant.name not in seen:
                passes = passes or subject.report(found).right
            seen.add(mutant.name)
            if passes:
                missed.append(f"{mutant.name} in {subject.name}")
    return Tally(wrong, sorted(seen), missed)


@pytest.mark.full
def test_mutants_of_rmd_are_rejected() -> None:
    found = judge([pair for pair in subjects() if pair[0].name == "RMD mean, separable"])
    assert not found.missed
    assert len(found.names) >= 5


@pytest.mark.full
@pytest.mark.timeout(600)
def test_all_mutants_are_rejected_wherever_they_change_something() -> None:
    found = judge(list(subjects()))
    assert not found.missed, "\n".join(found.missed)
    assert found.wrong >= 100
