"""One hypergradient, counted: FLOPs, bytes and derivative evaluations of a method on a problem."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException

from refblo.cost import Cost, LiveBytes, measure, shapes_only
from refblo.equal_cost.methods import BY_SLUG
from refblo.errors import ArgumentError
from refblo.problem import BilevelProblem
from refblo.problems import build
from refblo.problems.vit_b_16 import Attention, vit_problem

VIT = "vit-b-16"

NEEDS_PLAIN_ATTENTION = frozenset(BY_SLUG) - {"hpo-sgld", "hpo-sgld-averaged", "rmd-fo"}
"""Methods that differentiate twice through the network, which fused attention does not allow."""


@final
@dataclass(frozen=True)
class CostedRun:
    """A run that was counted.

    Attributes:
        cost: its counts.
        held: bytes of tensors that the problem and λ hold before it starts.
        n: entries of θ.
        p: entries of λ.
    """

    cost: Cost
    held: int
    n: int
    p: int

    @property
    def needed(self) -> int:
        """Bytes that must be there: held and peak."""
        return self.held + self.cost.peak_bytes


def price(
    problem: str, estimator: str, steps: int, batch: int = 8, dtype: torch.dtype | None = None
) -> CostedRun:
    """Count one hypergradient.

    Args:
        problem: a case of the catalogue, run with its numbers, or `vit-b-16`, run on shapes alone.
        estimator: a key of `refblo.equal_cost.methods.BY_SLUG`.
        steps: T.
        batch: images a gradient, for `vit-b-16`.
        dtype: float32 for `vit-b-16` and float64 for the catalogue by default.

    Raises:
        ArgumentError: for a name that is not known, or an estimator that needs numbers at this scale.
        MissingProductError: if the estimator cannot form a product for this problem.
    """
    if estimator not in BY_SLUG:
        known = ", ".join(BY_SLUG)
        raise ArgumentError(f"estimator must be one of {known}, got {estimator!r}; choose one")
    scale = problem == VIT
    with shapes_only() if scale else nullcontext():
        with LiveBytes() as holding:
            if scale:
                plain = estimator in NEEDS_PLAIN_ATTENTION
                attention: Attention = "plain" if plain else "fused"
                kind = dtype or torch.float32
                bilevel, lam = vit_problem(batch, attention=attention, dtype=kind)
                step_size = 1e-3
            else:
                case = build(problem, dtype=dtype or torch.float64)
                bilevel, lam, step_size = case.problem, case.lam, case.dynamics.step_size
        method = BY_SLUG[estimator](step_size, steps)
        try:
            cost = measure(lambda: method.estimate(bilevel, lam))
        except DataDependentOutputException as error:
            raise ArgumentError(
                f"estimator must not depend on numbers for {problem}, which has none, got {estimator!r}; "
                "choose hpo-sgld, rmd, rmd-fo, ift-cg or ift-neumann, or a problem of the catalogue"
            ) from error
        held, n = max(holding.live, _vectors(bilevel, lam)), bilevel.initial(lam).numel()
    return CostedRun(cost, held, n, lam.numel())


def _vectors(problem: BilevelProblem, lam: Tensor) -> int:
    """Bytes of λ and θ⁰: the least that a problem holds (data may be shared with NumPy)."""
    theta = problem.initial(lam)
    return lam.numel() * lam.element_size() + theta.numel() * theta.element_size()
