"""Estimators whose inner loops run as compiled kernels: the same operations, a few calls.

The estimator's own code is traced over a few transitions at a time (`refblo.kernel`), so that there is no
second implementation to be wrong: the numbers are those of the estimator up to the order of roundings. It
pays on small problems, where a step takes longer to dispatch than to compute; the first call compiles, for
seconds to a minute, and torch keeps what it compiled on disk.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from refblo.chain import Chain, Drawn
from refblo.cost import counting
from refblo.derivatives import MixedProduct, hessian_product_function, initial_vjp
from refblo.errors import ArgumentError, require_integer
from refblo.estimators._run import conclude
from refblo.estimators.hpo_sgld import HPOSGLD, State
from refblo.estimators.ift import IFTConjugateGradient, IFTNeumann, implicit
from refblo.estimators.rmd import RMD
from refblo.kernel import Backend, Kernel, Tensors, trace
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.types import Batch, Estimand, Hypergradient, Lam, Loss, Theta
from refblo.validation import check_arguments

Method = RMD | HPOSGLD | IFTNeumann | IFTConjugateGradient

_kernels: WeakKeyDictionary[BilevelProblem, dict[Hashable, Kernel]] = WeakKeyDictionary()


@final
@dataclass(frozen=True)
class Compiled:
    """An estimator, compiled.

    Args:
        method: RMD (all transitions, nothing checkpointed: compiled, it keeps every `fused`-th iterate and
            recomputes the others anyway), HPO-SGLD, IFT-Neumann or IFT-CG. Of the last two the inner run
            and each Hessian product are compiled; a product computes the inner gradient's graph anew, which
            costs nothing where the loss is quadratic.
        fused: how many transitions a kernel holds.
        backend: "inductor", or "eager" for traced operations without a compiler.

    Raises:
        ArgumentError: if `fused` is less than 1, or the method is none of these.

    Example:
        >>> import torch
        >>> from refblo.chain import Langevin, Schedule
        >>> from refblo.problems import build
        >>> case = build("quadratic")
        >>> plain = RMD(case.dynamics, Schedule.last(20))
        >>> fast = Compiled(plain, backend="eager")
        >>> a, b = (method.estimate(case.problem, case.lam).value for method in (plain, fast))
        >>> bool(torch.allclose(a, b, rtol=1e-13))
        True
    """

    method: Method
    fused: int = 10
    backend: Backend = "inductor"
    name: str = field(init=False)

    def __post_init__(self) -> None:
        require_integer("fused", self.fused, 1, "put one transition or more in a kernel")
        method: object = self.method
        if not isinstance(method, Method):
            raise ArgumentError(
                f"method must be RMD, HPOSGLD, IFTNeumann or IFTConjugateGradient, got "
                f"{type(method).__name__}; use it as it is"
            )
        if isinstance(method, RMD) and (method.last_transitions or method.checkpointed):
            raise ArgumentError(
                "method must be RMD over all transitions, neither truncated nor checkpointed, got "
                f"{method}; use it as it is"
            )
        object.__setattr__(self, "name", f"{self.method.name}, compiled")

    @property
    def estimand(self) -> Estimand:
        """The method's."""
        return self.method.estimand

    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        """The method's estimate at λ, shape (p,).

        Args:
            problem: the bilevel problem.
            lam: λ, shape (p,).
            draws: the run's randomness.

        Returns:
            The estimate; its status says what the method's does.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used, or a loss
                whose operations depend on the numbers it is given.
            MissingProductError: if a second-order product cannot be formed.
            CompilerError: if the machine has no working compiler.
        """
        method = self.method
        if isinstance(method, RMD):
            return self._reverse(method, problem, lam, draws)
        if isinstance(method, HPOSGLD):
            return self._recursion(method, problem, lam, draws)
        return implicit(method, problem, lam, draws, self._last, self._products(problem))

    def _reverse(
        self, method: RMD, problem: BilevelProblem, lam: Lam, draws: Draws
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        lam = lam.detach()
        chain = Chain(problem, method.dynamics, draws)
        steps = method.schedule.steps
        with counting() as cost:
            theta, h = chain.initial(lam), torch.zeros_like(lam)
            parts = [
                (run, chain.draw(run, _sampled(method, run), theta)) for run in self._parts(steps)
            ]
            starts = [theta]
            for run, drawn in parts[:-1]:
                starts.append(self._forward(chain, lam, starts[-1], run, drawn))
            alpha, last = torch.zeros_like(theta), theta
            for (run, drawn), start in zip(reversed(parts), reversed(starts), strict=True):
                part, end, alpha = self._pull(method, chain, lam, start, alpha, run, drawn)
                last = end if run.stop == steps else last
                h.add_(part)
            h.add_(initial_vjp(problem.initial, lam, alpha))
        return conclude(h, method.estimand, last, chain, lam, steps, cost)

    def _recursion(
        self, method: HPOSGLD, problem: BilevelProblem, lam: Lam, draws: Draws
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        lam = lam.detach()
        chain = Chain(problem, method.dynamics, draws)
        with counting() as cost:
            state, h = method.init(chain, lam), torch.zeros_like(lam)
            for run in self._parts(method.schedule.steps):
                # The recursion asks for the outer loss at every iterate, the first one included.
                drawn = chain.draw(run, range(run.start, run.stop + 1), state.theta)
                theta, g, h = self._recur(method, chain, lam, state, h, run, drawn)
                state = State(theta, g)
            h.div_(method.schedule.samples)
        return conclude(h, method.estimand, state.theta, chain, lam, method.schedule.steps, cost)

    def _parts(self, steps: int) -> list[range]:
        """The transitions of a run, `fused` at a time."""
        return [range(t, min(t + self.fused, steps)) for t in range(0, steps, self.fused)]

    def _last(self, chain: Chain, lam: Lam, steps: int) -> Theta:
        theta = chain.initial(lam)
        for run in self._parts(steps):
            theta = self._forward(chain, lam, theta, run, chain.draw(run, (), theta))
        return theta

    def _forward(self, chain: Chain, lam: Lam, theta: Theta, run: range, drawn: Drawn) -> Theta:
        def function(lam: Tensor, theta: Tensor, *tensors: Tensor) -> Tensors:
            at = _given(chain, drawn, tensors)
            for t in run:
                theta = at.step(lam, theta, t)
            return (theta,)

        key = ("forward", chain.dynamics, len(run))
        return self._call(chain.problem, key, function, (lam, theta), drawn)[0]

    def _pull(
        self,
        method: RMD,
        chain: Chain,
        lam: Lam,
        start: Theta,
        alpha: Theta,
        run: range,
        drawn: Drawn,
    ) -> Tensors:
        """What the part adds to h, where it ends, and α where it starts."""

        def function(lam: Tensor, start: Tensor, alpha: Tensor, *tensors: Tensor) -> Tensors:
            part, at = torch.zeros_like(lam), _given(chain, drawn, tensors)
            end, pulled = method.pull_through_graph(at, lam, start, run, alpha, part)
            return part, end, pulled

        key = ("pull", method, len(run), _pattern(method, run))
        return self._call(chain.problem, key, function, (lam, start, alpha), drawn)

    def _recur(
        self,
        method: HPOSGLD,
        chain: Chain,
        lam: Lam,
        state: State,
        h: Lam,
        run: range,
        drawn: Drawn,
    ) -> Tensors:
        """θ, g and h after the part."""

        def function(lam: Tensor, theta: Tensor, g: Tensor, h: Tensor, *given: Tensor) -> Tensors:
            total, at = h.clone(), _given(chain, drawn, given)
            end = method.run(at, lam, State(theta, g), total, run)
            return end.theta, end.g, total

        key = ("recur", method, len(run), _pattern(method, run))
        return self._call(chain.problem, key, function, (lam, state.theta, state.g, h), drawn)

    def _products(
        self, problem: BilevelProblem
    ) -> Callable[[Loss, Lam, Theta, Batch], MixedProduct]:
        def products(inner: Loss, lam: Lam, theta: Theta, batch: Batch) -> MixedProduct:
            drawn = Drawn({0: batch}, {}, {})

            def function(lam: Tensor, theta: Tensor, v: Tensor, *tensors: Tensor) -> Tensors:
                at = drawn.with_tensors(tensors).inner[0]
                return (hessian_product_function(inner, lam, theta, at)(v),)

            return lambda v: self._call(problem, "product", function, (lam, theta, v), drawn)[0]

        return products

    def _call(
        self,
        problem: BilevelProblem,
        key: Hashable,
        function: Callable[..., Tensors],
        arguments: Tensors,
        drawn: Drawn,
    ) -> Tensors:
        """Run the kernel of a function, made at its first call."""
        arguments = (*arguments, *drawn.tensors())
        known = _kernels.setdefault(problem, {})
        shapes = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in arguments)
        whole = (self.backend, key, shapes)
        if whole not in known:
            known[whole] = trace(function, arguments, self.backend)
        return known[whole](*arguments)


def _given(chain: Chain, drawn: Drawn, tensors: Tensors) -> Chain:
    """The chain with its draws replaced by a kernel's inputs."""
    given = drawn.with_tensors(tensors)
    return Chain(chain.problem, chain.dynamics, chain.draws, given)


def _pattern(method: RMD | HPOSGLD, run: range) -> tuple[bool, ...]:
    """Which of the iterates that a run leads to are averaged over: all that a kernel has to know of it."""
    return tuple(method.schedule.sampled(t + 1) for t in run)


def _sampled(method: RMD, run: range) -> Iterable[int]:
    return [t + 1 for t in run if method.schedule.sampled(t + 1)]
