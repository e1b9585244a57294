"""Somebody else's implementation in the comparison at equal cost: its evaluations counted from outside.

A target is a function as `refblo check` takes it, in torch. It is given the case's own losses with a probe on
θ: an identity whose first backward pass is one gradient; a backward pass through that one is one product with
H and one with C. (It goes through the identity once more on its way, which is not another gradient.) So
reverse mode counts T gradients and T of each product, as it does here. A method for the implicit
hypergradient asks for the two apart: for it a pass that arrives at θ again is a product with H, and one that
arrives at a probe on λ is one with C.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.chain import Chain, Langevin
from refblo.conformance.suite.target import declared, load, split
from refblo.conformance.suite.view import SHORT, View
from refblo.cost import Evaluations
from refblo.errors import require
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import FixedInitial, FullBatch
from refblo.problems.case import Case
from refblo.types import Batch, Estimand, Loss

COMPARED = (Estimand.UNROLLED, Estimand.IMPLICIT)
"""What a target may be meant for: the first of these that it declares counts."""


@final
@dataclass
class _Tally:
    """What was counted of one loss.

    Attributes:
        once: probes on θ that were passed backward.
        twice: backward passes through such a pass.
        at_theta: those that arrived at θ again.
        at_lam: those that arrived at λ.
    """

    once: int = 0
    twice: int = 0
    at_theta: int = 0
    at_lam: int = 0


@final
@dataclass
class _Call:
    """One evaluation of a loss.

    Attributes:
        tally: of the loss.
        passed: whether a gradient was taken.
        theta_due: whether a backward pass through it is under way that has not been at θ.
        lam_due: likewise λ.
    """

    tally: _Tally
    passed: bool = False
    theta_due: bool = False
    lam_due: bool = False


class _Probe(torch.autograd.Function):
    """The identity; a subclass says what its backward pass counts."""

    @staticmethod
    def forward(tensor: Tensor, call: _Call) -> Tensor:  # noqa: ARG004
        """The same numbers."""
        return tensor.view_as(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, _Call], output: Tensor) -> None:  # noqa: ARG004
        """Remember where to count."""
        ctx.call = inputs[1]


class _ThetaProbe(_Probe):
    """The identity on θ; counts its backward passes."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Count the first pass and what comes back from a later one, and pass on."""
        call: _Call = ctx.call
        call.tally.at_theta += 1 if call.theta_due else 0
        call.tally.once += 0 if call.passed else 1
        call.passed, call.theta_due = True, False
        passed: Tensor = _Again.apply(gradients[0], call)  # type: ignore[no-untyped-call]  # torch's own
        return passed, None


class _Again(_Probe):
    """The identity on a gradient; counts its backward passes."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Count, and pass on."""
        call: _Call = ctx.call
        call.tally.twice += 1
        call.theta_due = call.lam_due = True
        return gradients[0], None


class _LamProbe(_Probe):
    """The identity on λ; counts the backward passes of a gradient that arrive there."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Count, and pass on."""
        call: _Call = ctx.call
        call.tally.at_lam += 1 if call.lam_due else 0
        call.lam_due = False
        return gradients[0], None


def _probed(loss: Loss, tally: _Tally) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    def seen(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        call = _Call(tally)
        at_lam: Tensor = _LamProbe.apply(lam, call)  # type: ignore[no-untyped-call]  # torch's own
        at_theta: Tensor = _ThetaProbe.apply(theta, call)  # type: ignore[no-untyped-call]  # likewise
        return loss(at_lam, at_theta, batch)

    return seen


@final
@dataclass(frozen=True, eq=False)
class Target:
    """Somebody else's hypergradient, by steps that it makes itself.

    Attributes:
        name: in the table.
        function: the function.
    """

    name: str
    function: Callable[[Any], Any]

    @property
    def estimand(self) -> Estimand:
        """What it is meant for."""
        meant = declared(self.function).estimands
        return next(each for each in COMPARED if SHORT[each] in meant)

    def applies(self, case: Case) -> bool:
        """Whether it can be run on a case: with a direct term, and with batches and θ⁰(λ) if it has them."""
        problem, able = case.problem, declared(self.function).capabilities
        if not _without_batches(case) and "minibatches" not in able:
            return False
        if not isinstance(problem.initial, FixedInitial) and "initial" not in able:
            return False
        return "direct" in able

    def run(
        self, case: Case, steps: int, draws: Draws = SEED_ZERO, terms: int | None = None
    ) -> tuple[Float[Tensor, " p"], Evaluations]:
        """Its hypergradient after T steps of gradient descent, and what it evaluated.

        Args:
            case: the problem.
            steps: T ≥ 1.
            draws: of the batches: those that the methods of this package draw.
            terms: K, of a solve; T/2 unless given.

        Raises:
            Exception: whatever the target raises.
        """
        inner, outer = _Tally(), _Tally()
        chosen = share(steps) if terms is None else terms
        view = _view(case, steps, draws, (inner, outer))
        view = replace(view, estimand=SHORT[self.estimand], terms=chosen)
        found = torch.as_tensor(self.function(view)).detach()
        together = self.estimand is Estimand.UNROLLED
        return found, Evaluations(
            inner_gradients=inner.once,
            outer_gradients=outer.once,
            hessian_products=inner.twice if together else inner.at_theta,
            mixed_products=inner.twice if together else inner.at_lam,
        )


def share(steps: int) -> int:
    """Terms of a solve that goes with T inner steps: an equal share of the cost, up to rounding."""
    return max(1, steps // 2)


def target(text: str) -> Target:
    """Load a target by its name, package.module:function or file.py:function.

    Raises:
        ArgumentError: if there is no such function, or it is meant for an estimand that no run of T inner
            steps has.
        Exception: whatever importing its module raises.
    """
    function = load(text)
    meant = declared(function).estimands
    require(
        any(SHORT[each] in meant for each in COMPARED),
        "target",
        "be meant for the unrolled or the implicit hypergradient",
        ", ".join(meant),
        "name one whose inner steps can be counted",
    )
    where, name = split(text)
    module = where.rpartition("/")[2].removesuffix(".py")
    return Target(f"{module.rpartition('.')[2].removeprefix('with_')}:{name}", function)


def _without_batches(case: Case) -> bool:
    problem = case.problem
    return isinstance(problem.inner_batches, FullBatch) and isinstance(
        problem.outer_batches, FullBatch
    )


def _rows(draw: Callable[[int], Batch], count: int) -> Tensor | None:
    """The batches of some steps, one a row; None for full batches."""
    found = [batch for batch in map(draw, range(count)) if batch is not None]
    return torch.stack(found) if found else None


def _view(case: Case, steps: int, draws: Draws, tallies: tuple[_Tally, _Tally]) -> View:
    """The case as a target sees it: gradient descent of T steps, no noise, the chain's own batches.

    There is an inner batch more than steps: implicit differentiation at θ^T takes its products on that one.
    """
    problem, lam = case.problem, case.lam.detach().clone()
    theta = problem.initial(lam).detach().clone()
    chain = Chain(problem, Langevin(case.dynamics.step_size), draws)
    return View(
        name=case.name,
        estimand=SHORT[Estimand.UNROLLED],
        inner=_probed(problem.inner, tallies[0]),
        outer=_probed(problem.outer, tallies[1]),
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
        inner_batches=_rows(chain.inner_batch, steps + 1),
        outer_batches=_rows(chain.outer_batch, steps + 1),
        shapes=((theta.numel(),),),
        terms=None,
        seed=draws.seed,
        xp=torch,
    )
