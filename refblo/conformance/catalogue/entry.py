"""An entry of the conformance catalogue: a problem, how its inner run goes, and why it is there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.chain import Schedule
from refblo.conformance.truth.program import Frozen, Losses, Program, build
from refblo.conformance.truth.rules import Rule
from refblo.problems.namespace import A, ArrayNamespace, Statement
from refblo.types import Estimand

Array = np.ndarray

CAPABILITIES = {
    "direct": "an outer loss that depends on lam directly",
    "initial": "an initial point that depends on lam",
    "minibatches": "inner and outer losses that see a batch at each step",
    "noise": "noise that is added to theta at each step",
    "momentum": "an inner optimiser with momentum",
    "weight_decay": "an inner optimiser with weight decay of its own",
    "adam": "Adam as the inner optimiser",
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
        inner_batches: indices that each transition sees, shape (T, b).
        outer_batches: indices that the outer loss sees at each iterate, shape (T + 1, b).
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
    inner_batches: Array | None = None
    outer_batches: Array | None = None
    _programs: dict[Estimand, Program] = field(default_factory=dict)

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
        if self.noise is not None:
            found.add("noise")
        if self.rule.momentum > 0:
            found.add("momentum")
        if self.rule.weight_decay > 0:
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
            self._programs[estimand] = build(losses, lam, self.schedule_of(estimand))
        return self._programs[estimand]


def _rows(batches: Array | None) -> list[Tensor] | None:
    return None if batches is None else [torch.as_tensor(row) for row in batches]


def losses_in(
    entry: Entry, xp: ArrayNamespace[A], convert: Callable[[Array], A]
) -> tuple[Callable[[A, A, A | None], A], Callable[[A, A, A | None], A]]:
    """(inner, outer) in an array library."""
    built = entry.statement.losses(xp, convert)
    return built.inner, built.outer
