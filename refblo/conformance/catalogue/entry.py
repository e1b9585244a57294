"""An entry of the conformance catalogue: a problem, how its inner run goes, and why it is there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.chain import Schedule
from refblo.conformance.truth.program import (
    Frozen,
    Losses,
    Program,
    Sample,
    build,
    gradient_by_theta,
)
from refblo.problems.namespace import A, ArrayNamespace, Statement
from refblo.rules.rule import Rule
from refblo.types import Estimand

Array = np.ndarray
Rows = Array | tuple[Array, ...] | None

CAPABILITIES = {
    "direct": "an outer loss that depends on lam directly",
    "initial": "an initial point that depends on lam",
    "minibatches": "inner and outer losses that see a batch at each step",
    "noise": "noise that is added to theta at each step",
    "momentum": "an inner optimiser with momentum",
    "weight_decay": "an inner optimiser with weight decay of its own",
    "adam": "Adam as the inner optimiser",
    "rule": "a step size that depends on lam, problem.step_size_at",
    "pairs": "batches that are tuples of arrays, such as (features, targets)",
    "scalars": "lam and theta of shape (), where there is one of each",
}
"""What a target may lack; an entry that needs it is then skipped."""


@final
@dataclass(frozen=True, eq=False)
class Entry:
    """One problem of the conformance catalogue, in NumPy.

    Attributes:
        name: unique in the catalogue.
        statement: the losses for any array library.
        lam: λ, shape (p,).
        theta0: θ⁰ at λ = 0, shape (n,).
        start_jacobian: dθ⁰/dλ, shape (n, p), of θ⁰ = theta0 + start_jacobian·λ; None for a fixed θ⁰.
        rule: the inner optimiser.
        schedule: B and M; the unrolled estimand looks at the last iterate.
        estimands: which are asked for.
        traits: what it has that exposes bugs.
        shapes: of the tensors that θ is made of.
        noise: what is added to θ at each step, shape (T, n).
        inner_batches: what each transition sees, row by row: indices, shape (T, b), or a tuple of arrays.
        outer_batches: what the outer loss sees at each iterate, T + 1 rows, likewise.
        scalars: whether a target is to see λ and θ without dimensions.
        rate: r of a step size γ exp(r·λ), shape (p,); None for a constant one.
        undefined: the estimands that do not exist here, with the reason; they are not asked for.
    """

    name: str
    statement: Statement
    lam: Float64[Array, " p"]
    theta0: Float64[Array, " n"]
    rule: Rule
    schedule: Schedule
    estimands: tuple[Estimand, ...]
    traits: frozenset[str]
    shapes: tuple[tuple[int, ...], ...] = ()
    start_jacobian: Float64[Array, "n p"] | None = None
    noise: Float64[Array, "T n"] | None = None
    inner_batches: Rows = None
    outer_batches: Rows = None
    scalars: bool = False
    rate: Float64[Array, " p"] | None = None
    undefined: Mapping[Estimand, str] = field(default_factory=dict)
    # Not an argument of __init__, so that `dataclasses.replace` starts with an empty cache.
    _programs: dict[Estimand, Program] = field(default_factory=dict, init=False)

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities that a target must have."""
        found = set()
        if "direct" in self.statement.data:
            found.add("direct")
        if self.start_jacobian is not None:
            found.add("initial")
        if self.inner_batches is not None or self.outer_batches is not None:
            found.add("minibatches")
        if isinstance(self.inner_batches, tuple) or isinstance(self.outer_batches, tuple):
            found.add("pairs")
        if self.rate is not None:
            found.add("rule")
        if self.scalars:
            found.add("scalars")
        if self.noise is not None:
            found.add("noise")
        if self.rule.has("momentum"):
            found.add("momentum")
        if self.rule.has("weight_decay"):
            found.add("weight_decay")
        if self.rule.betas is not None:
            found.add("adam")
        return frozenset(found)

    def initial(self, convert: Callable[[Array], A]) -> Callable[[A], A]:
        """λ ↦ θ⁰ in an array library."""
        theta = convert(self.theta0)
        if self.start_jacobian is None:
            return lambda _: theta
        jacobian = convert(self.start_jacobian)
        return lambda lam: theta + jacobian @ lam

    def schedule_of(self, estimand: Estimand) -> Schedule:
        """Which iterates count for an estimand."""
        if estimand is Estimand.PATHWISE:
            return self.schedule
        return Schedule.last(self.schedule.steps)

    def program(self, estimand: Estimand) -> Program:
        """The program in torch, float64; built once."""
        if estimand not in self._programs:
            built = self.statement.in_torch(torch.float64, "cpu")
            frozen = Frozen(
                None if self.noise is None else torch.as_tensor(self.noise),
                _rows(self.inner_batches),
                _rows(self.outer_batches),
            )
            initial = self.initial(torch.as_tensor)
            losses = Losses(built.inner, built.outer, initial, self.rule, frozen)
            lam = torch.as_tensor(self.lam)
            program = build(losses, lam, self.schedule_of(estimand))
            self._programs[estimand] = self._with_rate(program, losses)
        return self._programs[estimand]

    def _with_rate(self, program: Program, losses: Losses) -> Program:
        """The program with the step size γ exp(r·λ), where there is such a rate."""
        if self.rate is None:
            return program
        rate, frozen = torch.as_tensor(self.rate), losses.frozen

        def transition(lam: Tensor, theta: Tensor, step: int) -> Tensor:
            batch = frozen.inner(step)
            gradient = gradient_by_theta(losses.inner, lam, theta, batch)
            return theta - self.rule.constant("step_size") * torch.exp(rate @ lam) * gradient

        # Its rule is none of those that are known by their settings.
        return replace(program, transition=transition, losses=None)


def _rows(batches: Rows) -> list[Sample] | None:
    """What each step sees, in torch."""
    if batches is None:
        return None
    if isinstance(batches, tuple):
        return [tuple(map(torch.as_tensor, row)) for row in zip(*batches, strict=True)]
    return [torch.as_tensor(row) for row in batches]


def losses_in(
    entry: Entry, xp: ArrayNamespace[A], convert: Callable[[Array], A]
) -> tuple[Callable[[A, A, A | None], A], Callable[[A, A, A | None], A]]:
    """(inner, outer) in an array library."""
    built = entry.statement.losses(xp, convert)
    return built.inner, built.outer
