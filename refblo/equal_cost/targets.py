"""Somebody else's implementation in the comparison at equal cost: its evaluations counted from outside.

A target is a function as `refblo check` takes it, in torch. It is given the case's own losses with probes on
their arguments (refblo.equal_cost.probes), which count its derivatives.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.chain import Chain, Langevin
from refblo.conformance.suite.target import declared, load
from refblo.conformance.suite.view import SHORT, View
from refblo.cost import Evaluations
from refblo.equal_cost.methods import share
from refblo.equal_cost.probes import Tally, probed
from refblo.errors import require, require_target
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import FixedInitial, FullBatch
from refblo.problems.case import Case
from refblo.types import Batch, Estimand

COMPARED = (Estimand.UNROLLED, Estimand.IMPLICIT)
"""What a target may be meant for: the first of these that it declares counts."""


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
        """The one that it is compared for: the first of `COMPARED` that it declares."""
        declarations = declared(self.function).estimands
        return next(each for each in COMPARED if SHORT[each] in declarations)

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
        inner, outer = Tally(), Tally()
        chosen = share(steps) if terms is None else terms
        view = _view(case, steps, draws, (inner, outer))
        view = replace(view, estimand=SHORT[self.estimand], terms=chosen)
        value = torch.as_tensor(self.function(view)).detach()
        together = self.estimand is Estimand.UNROLLED
        return value, Evaluations(
            inner_gradients=inner.once,
            outer_gradients=outer.once,
            hessian_products=inner.twice if together else inner.at_theta,
            mixed_products=inner.twice if together else inner.at_lam,
        )


def target(text: str) -> Target:
    """Load a target by its name, package.module:function or file.py:function.

    Raises:
        ArgumentError: if there is no such function, or it is meant for an estimand that no run of T inner
            steps has.
        Exception: whatever importing its module raises.
    """
    function = load(text)
    estimands = declared(function).estimands
    require(
        any(SHORT[each] in estimands for each in COMPARED),
        "target",
        "be meant for the unrolled or the implicit hypergradient",
        ", ".join(estimands),
        "name a target whose inner steps can be counted",
    )
    where, name = require_target(text)
    module = where.rpartition("/")[2].removesuffix(".py")
    return Target(f"{module.rpartition('.')[2].removeprefix('with_')}:{name}", function)


def _without_batches(case: Case) -> bool:
    problem = case.problem
    return isinstance(problem.inner_batches, FullBatch) and isinstance(
        problem.outer_batches, FullBatch
    )


def _rows(draw: Callable[[int], Batch], count: int) -> Tensor | None:
    """The batches of some steps, one a row; None for full batches."""
    batches = [batch for batch in map(draw, range(count)) if batch is not None]
    return torch.stack(batches) if batches else None


def _view(case: Case, steps: int, draws: Draws, tallies: tuple[Tally, Tally]) -> View:
    """The case as a target sees it: gradient descent of T steps, no noise, the chain's own batches.

    There is an inner batch more than steps: implicit differentiation at θ^T takes its products on that one.
    """
    problem, lam = case.problem, case.lam.detach().clone()
    theta = problem.initial(lam).detach().clone()
    chain = Chain(problem, Langevin(case.dynamics.step_size), draws)
    return View(
        name=case.name,
        estimand=SHORT[Estimand.UNROLLED],
        inner=probed(problem.inner, tallies[0]),
        outer=probed(problem.outer, tallies[1]),
        lam=lam,
        initial=problem.initial,
        theta0=theta,
        moving_start=not isinstance(problem.initial, FixedInitial),
        step_size=case.dynamics.step_size,
        step_size_at=lambda _: case.dynamics.step_size,
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
