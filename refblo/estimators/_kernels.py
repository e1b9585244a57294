"""The inner loops of the estimators as compiled kernels, some transitions or iterations to a kernel.

What is traced is the estimators' own code; what is written here is how a loop is cut into kernels.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import final

import torch
from torch import Tensor

from refblo.chain import Chain, Drawn
from refblo.cost import numbers
from refblo.derivatives import (
    MixedProduct,
    hessian_product_function,
    mixed_product,
    outer_gradients,
)
from refblo.estimators._implicit import Flag, Solve, Solver
from refblo.estimators._kept import Kept, check_unchanged
from refblo.estimators.hpo_sgld import HPOSGLD, State
from refblo.estimators.ift import IFTConjugateGradient, IFTNeumann, SolveState
from refblo.estimators.rmd import RMD
from refblo.kernel import Backend, Kernel, Tensors, trace
from refblo.problem import BilevelProblem
from refblo.types import Lam, Status, Theta


@final
@dataclass(frozen=True)
class Kernels:
    """The kernels of one way to compile.

    Args:
        fused: how many transitions, or iterations of a solve, a kernel holds.
        backend: of the compiler.
        kept: where they are kept.
        found: kernels that this estimate has run, by what tells them apart within one estimate.
    """

    fused: int
    backend: Backend
    kept: Kept
    found: dict[Hashable, Kernel] = field(default_factory=dict, compare=False)

    def parts(self, steps: int) -> list[range]:
        """The numbers below `steps`, `fused` at a time."""
        return [range(t, min(t + self.fused, steps)) for t in range(0, steps, self.fused)]

    # ------------------------------------------------------------ the unrolled estimators

    def forward(self, chain: Chain, lam: Lam, theta: Theta, run: range, drawn: Drawn) -> Theta:
        """θ after the run."""

        def function(lam: Tensor, theta: Tensor, *given: Tensor) -> Tensors:
            at = _given(chain, drawn, given)
            for t in run:
                theta = at.step(lam, theta, t)
            return (theta,)

        key = ("forward", len(run))
        return self._call(chain.problem, key, chain.dynamics, function, (lam, theta), drawn)[0]

    def pull(
        self,
        method: RMD,
        chain: Chain,
        lam: Lam,
        start: Theta,
        alpha: Theta,
        h: Lam,
        run: range,
        drawn: Drawn,
    ) -> Tensors:
        """θ where the run ends, α where it starts, and h with what the run contributes."""

        def function(
            lam: Tensor, start: Tensor, alpha: Tensor, h: Tensor, *given: Tensor
        ) -> Tensors:
            at = _given(chain, drawn, given)
            return method.pull_through_graph(at, lam, start, run, alpha, h)

        key = ("pull", len(run), number_sampled(method, run))
        return self._call(chain.problem, key, method, function, (lam, start, alpha, h), drawn)

    def recur(
        self,
        method: HPOSGLD,
        chain: Chain,
        lam: Lam,
        state: State,
        h: Lam,
        run: range,
        drawn: Drawn,
    ) -> Tensors:
        """θ, g and h after the run."""

        def function(lam: Tensor, theta: Tensor, g: Tensor, h: Tensor, *given: Tensor) -> Tensors:
            total, at = h.clone(), _given(chain, drawn, given)
            end = method.run(at, lam, State(theta, g), total, run)
            return end.theta, end.g, total

        key = ("recur", len(run), number_sampled(method, run))
        given = (lam, state.theta, state.g, h)
        return self._call(chain.problem, key, method, function, given, drawn)

    # ------------------------------------------------------------ the implicit estimators

    def last(self, chain: Chain, lam: Lam, steps: int) -> Theta:
        """θ^T."""
        theta = chain.initial(lam)
        for run in self.parts(steps):
            theta = self.forward(chain, lam, theta, run, chain.draw(run, (), theta))
        return theta

    def slopes(self, chain: Chain, lam: Lam, theta: Theta, step: int) -> tuple[Lam, Theta, Flag]:
        """∂_λ f and ∂_θ f at θ^step, and whether they and it are finite."""
        drawn = Drawn({}, {0: chain.outer_batch(step)}, {})

        def function(lam: Tensor, theta: Tensor, *given: Tensor) -> Tensors:
            batch = drawn.with_tensors(given).outer[0]
            both = outer_gradients(chain.problem.outer, lam, theta, batch)
            finite = [torch.isfinite(vector).all() for vector in (theta, *both)]
            return (*both, torch.stack(finite).all())

        direct, slope, finite = self._call(
            chain.problem, "slopes", None, function, (lam, theta), drawn
        )
        return direct, slope, finite

    def adjoint(
        self, method: Solver, chain: Chain, lam: Lam, theta: Theta, step: int, rhs: Theta
    ) -> tuple[Solve, MixedProduct]:
        """The solve for q with H at θ^step, and the function q ↦ q·C."""
        inner, drawn = chain.problem.inner, Drawn({0: chain.inner_batch(step)}, {}, {})

        def mixed(v: Theta) -> Lam:
            def function(lam: Tensor, theta: Tensor, v: Tensor, *given: Tensor) -> Tensors:
                batch = drawn.with_tensors(given).inner[0]
                return (mixed_product(inner, lam, theta, batch, v),)

            return self._call(chain.problem, "mixed", None, function, (lam, theta, v), drawn)[0]

        def advance(
            key: Hashable, by: Callable[[MixedProduct, Tensors], Tensors], state: Tensors
        ) -> Tensors:
            """A few iterations, each with a product with H."""

            def function(lam: Tensor, theta: Tensor, *rest: Tensor) -> Tensors:
                batch = drawn.with_tensors(rest[len(state) :]).inner[0]
                hessian = hessian_product_function(inner, lam, theta, batch)
                return by(hessian, rest[: len(state)])

            given = (lam, theta, *state)
            return self._call(chain.problem, key, None, function, given, drawn)

        if isinstance(method, IFTNeumann):
            return self._neumann(method, advance, rhs), mixed
        assert isinstance(method, IFTConjugateGradient)
        return self._conjugate(method, advance, rhs), mixed

    def _neumann(self, method: IFTNeumann, advance: "Advance", rhs: Theta) -> Solve:
        def more(term: Theta, total: Theta, number: int) -> tuple[Theta, Theta]:
            def by(hessian: MixedProduct, state: Tensors) -> Tensors:
                return method.add_terms(hessian, state[0], state[1], number)

            after, summed = advance(("series", method.scale, number), by, (term, total))
            return after, summed

        term, total = rhs, rhs
        for run in self.parts(method.terms - 1):
            term, total = more(term, total, len(run))
        return method.conclude(rhs, term, total, more)

    def _conjugate(self, method: IFTConjugateGradient, advance: "Advance", rhs: Theta) -> Solve:
        def by(hessian: MixedProduct, state: Tensors, number: int) -> Tensors:
            """From rhs, at the start, or from CG's state and the floor under its residual."""
            if len(state) == 1:
                start = method.begin(state[0])
                state = (*start, method.floor(start.square))
            *before, floor = state
            after, moved, negative = method.iterate_unlooked(
                hessian, SolveState(*before), floor, number
            )
            return (*after, floor, torch.stack((moved, negative.to(moved.dtype))))

        state: Tensors = (rhs,)
        iterations = 0
        for run in self.parts(method.iterations):
            key = ("directions", method.damping, method.tolerance, len(run), len(state))
            *after, told = advance(key, partial(by, number=len(run)), state)
            state = tuple(after)
            moved, negative = numbers(told, without_numbers=[len(run), 0])
            iterations += int(moved)
            if negative:
                return Solve(state[0], (Status.SERIES_DIVERGED, iterations))
            if moved < len(run):
                return Solve(state[0])
        return method.conclude(rhs, SolveState(*state[:-1]))

    # ------------------------------------------------------------ calls

    def _call(
        self,
        problem: BilevelProblem,
        key: Hashable,
        settings: Hashable,
        function: Callable[..., Tensors],
        arguments: Tensors,
        drawn: Drawn,
    ) -> Tensors:
        """Run the kernel of a function, made at its first call.

        Args:
            problem: whose losses it calls.
            key: what tells it apart from the other functions of an estimate.
            settings: what else it depends on, the same in one estimate.
            function: the function.
            arguments: of the same shapes in one estimate.
            drawn: its further arguments.
        """
        draws = drawn.tensors()
        small = (key, tuple((each.shape, each.dtype) for each in draws)) if draws else key
        kernel = self.found.get(small)
        if kernel is None:
            kernel = self._kernel(problem, (key, settings), function, (*arguments, *draws))
            self.found[small] = kernel
        return kernel(*arguments, *draws)

    def _kernel(
        self,
        problem: BilevelProblem,
        key: Hashable,
        function: Callable[..., Tensors],
        arguments: Tensors,
    ) -> Kernel:
        known = self.kept.kernels
        shapes = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in arguments)
        whole = (self.backend, key, type(problem.initial), shapes)
        if whole not in known:
            kernel = trace(function, arguments, self.backend)
            check_unchanged(problem, self.kept.reading)
            known[whole] = kernel
        return known[whole]


Advance = Callable[[Hashable, Callable[[MixedProduct, Tensors], Tensors], Tensors], Tensors]
"""(name, a few iterations of a solve, the solve's state) ↦ the state after them."""


def _given(chain: Chain, drawn: Drawn, tensors: Tensors) -> Chain:
    """The chain with its draws replaced by a kernel's inputs."""
    given = drawn.with_tensors(tensors)
    return Chain(chain.problem, chain.dynamics, chain.draws, given)


def number_sampled(method: RMD | HPOSGLD, run: range) -> int:
    """How many of the iterates that a run leads to are averaged over, the last ones."""
    return min(len(run), max(0, run.stop - method.schedule.burn_in))


def sampled(method: RMD, run: range) -> range:
    """The iterates that a run leads to and that are averaged over."""
    return range(run.stop + 1 - number_sampled(method, run), run.stop + 1)
