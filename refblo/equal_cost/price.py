"""One hypergradient, counted: FLOPs, bytes and derivative evaluations of a method on a problem."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException

from refblo.cost import Cost, LiveBytes, measure, pretend_device, shapes_only
from refblo.cost.traffic import PRETEND
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
        cost: counted evaluations and bytes of the run.
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
    problem: str,
    estimator: str,
    steps: int,
    batch: int = 8,
    dtype: torch.dtype | None = None,
    pretend: bool = False,
) -> CostedRun:
    """Count one hypergradient.

    Args:
        problem: a case of the catalogue, run with its numbers, or `vit-b-16`, run on shapes alone.
        estimator: a key of `refblo.equal_cost.methods.BY_SLUG`.
        steps: T.
        batch: images a gradient, for `vit-b-16`.
        dtype: float32 for `vit-b-16` and float64 for the catalogue by default.
        pretend: count on the pretend device, which shows transfers; for a process of its own.

    Raises:
        ArgumentError: for a name that is not known, or an estimator that needs numbers at this scale.
        MissingProductError: if the estimator cannot form a product for this problem.
        PretendDeviceError: for what would be a fault on a GPU.
    """
    if estimator not in BY_SLUG:
        known = ", ".join(BY_SLUG)
        raise ArgumentError(f"estimator must be one of {known}, got {estimator!r}; choose one")
    if problem == VIT:
        with pretend_device() if pretend else shapes_only():
            device = PRETEND if pretend else "cpu"
            plain = estimator in NEEDS_PLAIN_ATTENTION
            attention: Attention = "plain" if plain else "fused"
            with LiveBytes() as holding:
                bilevel, lam = vit_problem(
                    batch, attention=attention, dtype=dtype or torch.float32, device=device
                )
            return _counted(problem, estimator, (bilevel, lam), (1e-3, steps), holding)
    with LiveBytes() as holding:
        case = build(problem, dtype=dtype or torch.float64)
    with pretend_device(adopt=True) if pretend else nullcontext():
        lam = torch.empty_like(case.lam, device=PRETEND) if pretend else case.lam
        rule = (case.dynamics.step_size, steps)
        return _counted(problem, estimator, (case.problem, lam), rule, holding)


def _counted(
    name: str,
    estimator: str,
    where: tuple[BilevelProblem, Tensor],
    rule: tuple[float, int],
    holding: LiveBytes,
) -> CostedRun:
    """The run at λ of a problem, by γ and T."""
    problem, lam = where
    method = BY_SLUG[estimator](*rule)
    try:
        cost = measure(lambda: method.estimate(problem, lam))
    except DataDependentOutputException as error:
        raise ArgumentError(
            f"estimator must not depend on numbers for {name}, which has none, got {estimator!r}; "
            "choose hpo-sgld, rmd, rmd-fo, ift-cg or ift-neumann, or a problem of the catalogue"
        ) from error
    held, n = max(holding.live, _vectors(problem, lam)), problem.initial(lam).numel()
    return CostedRun(cost, held, n, lam.numel())


def _vectors(problem: BilevelProblem, lam: Tensor) -> int:
    """Bytes of λ and θ⁰: the least that a problem holds (data may be shared with NumPy)."""
    theta = problem.initial(lam)
    return lam.numel() * lam.element_size() + theta.numel() * theta.element_size()
