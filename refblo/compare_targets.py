"""Somebody else's implementation in the comparison at equal cost: its evaluations counted from outside.

A target is a function as `refblo check` takes it, in torch. It is given the case's own losses with a probe on
θ: an identity whose first backward pass is one gradient; a backward pass through that one is one product with
H and one with C. (It goes through the identity once more on its way, which is not another gradient.) So
reverse mode counts T gradients and T of each product, as it does here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.conformance.suite.target import declared, load, split
from refblo.conformance.suite.view import View
from refblo.cost import Evaluations
from refblo.errors import require
from refblo.noise import SEED_ZERO
from refblo.problem import FixedInitial, FullBatch
from refblo.problems.case import Case
from refblo.types import Loss


@final
@dataclass
class _Tally:
    """How many probes were passed backward, and how often a backward pass of theirs was."""

    once: int = 0
    twice: int = 0


class _Probe(torch.autograd.Function):
    """The identity; counts its backward passes."""

    @staticmethod
    def forward(theta: Tensor, tally: _Tally) -> Tensor:  # noqa: ARG004
        """The same numbers."""
        return theta.view_as(theta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, _Tally], output: Tensor) -> None:  # noqa: ARG004
        """Remember where to count, and that nothing has passed."""
        ctx.tally, ctx.passed = inputs[1], False

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Count the first pass, and pass on."""
        ctx.tally.once += 0 if ctx.passed else 1
        ctx.passed = True
        passed: Tensor = _Again.apply(gradients[0], ctx.tally)  # type: ignore[no-untyped-call]  # torch's own
        return passed, None


class _Again(torch.autograd.Function):
    """The identity on a gradient; counts its backward passes."""

    @staticmethod
    def forward(gradient: Tensor, tally: _Tally) -> Tensor:  # noqa: ARG004
        """The same numbers."""
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, _Tally], output: Tensor) -> None:  # noqa: ARG004
        """Remember where to count."""
        ctx.tally = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Count, and pass on."""
        ctx.tally.twice += 1
        return gradients[0], None


def _probed(loss: Loss, tally: _Tally) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    def seen(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        return loss(lam, _Probe.apply(theta, tally), batch)  # type: ignore[no-untyped-call]  # torch's own

    return seen


@final
@dataclass(frozen=True, eq=False)
class Target:
    """Somebody else's unrolled hypergradient.

    Attributes:
        name: in the table.
        function: the function.
    """

    name: str
    function: Callable[[Any], Any]

    def applies(self, case: Case) -> bool:
        """Whether it can be run on a case: without batches, and with a direct term and θ⁰(λ) if it can."""
        problem, able = case.problem, declared(self.function).capabilities
        if not isinstance(problem.inner_batches, FullBatch):
            return False
        if not isinstance(problem.outer_batches, FullBatch):
            return False
        if not isinstance(problem.initial, FixedInitial) and "initial" not in able:
            return False
        return "direct" in able

    def run(self, case: Case, steps: int) -> tuple[Float[Tensor, " p"], Evaluations]:
        """Its hypergradient after T steps of gradient descent, and what it evaluated.

        Raises:
            Exception: whatever the target raises.
        """
        inner, outer = _Tally(), _Tally()
        value = self.function(_view(case, steps, inner, outer))
        found = torch.as_tensor(value).detach()
        return found, Evaluations(
            inner_gradients=inner.once,
            outer_gradients=outer.once,
            hessian_products=inner.twice,
            mixed_products=inner.twice,
        )


def target(text: str) -> Target:
    """Load a target by its name, package.module:function or file.py:function.

    Raises:
        ArgumentError: if there is no such function, or it is not meant for the unrolled hypergradient.
        Exception: whatever importing its module raises.
    """
    function = load(text)
    meant = declared(function).estimands
    require(
        "unrolled" in meant,
        "target",
        "be meant for the unrolled hypergradient",
        ", ".join(meant),
        "name one whose inner steps can be counted",
    )
    where, name = split(text)
    module = where.rpartition("/")[2].removesuffix(".py")
    return Target(f"{module.rpartition('.')[2].removeprefix('with_')}:{name}", function)


def _view(case: Case, steps: int, inner: _Tally, outer: _Tally) -> View:
    """The case as a target sees it: gradient descent of T steps, no noise, no batches."""
    problem, lam = case.problem, case.lam.detach().clone()
    theta = problem.initial(lam).detach().clone()
    return View(
        name=case.name,
        estimand="unrolled",
        inner=_probed(problem.inner, inner),
        outer=_probed(problem.outer, outer),
        lam=lam,
        initial=problem.initial,
        theta0=theta,
        moving_start=not isinstance(problem.initial, FixedInitial),
        step_size=case.dynamics.step_size,
        momentum=0.0,
        weight_decay=0.0,
        betas=None,
        adam_epsilon=0.0,
        temperature=case.dynamics.temperature,
        noise_scale=0.0,
        steps=steps,
        burn_in=steps - 1,
        samples=1,
        noise=None,
        inner_batches=None,
        outer_batches=None,
        shapes=((theta.numel(),),),
        terms=None,
        seed=SEED_ZERO.seed,
        xp=torch,
    )
