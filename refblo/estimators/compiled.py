"""Estimators whose inner loops run as compiled kernels: the same operations, a few calls.

The estimator's own code is traced over a few transitions at a time (`refblo.kernel`), so that there is no
second implementation to be wrong: the numbers are those of the estimator up to the order of roundings. It
pays where calls, or passes over long vectors, are most of the time; the first call compiles, for seconds to a
minute, and torch keeps on disk what it compiled. Kernels stay with the problem, and serve its warm starts.

At each estimate all that the losses read besides their arguments is compared with what it was when the
kernels were made; after a change they are made anew. Where it cannot be compared, where operations depend on
the numbers in tensors, or where losses change what they read, the estimator runs as it is.

Claims: eq-22, eq-49, field-cg, field-neumann.
"""

import warnings
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import final, get_args

import torch
from typing_extensions import override

from refblo.chain import Chain, Drawn, Langevin
from refblo.cost import counting
from refblo.derivatives import initial_vjp
from refblo.errors import ArgumentError, require_integer, require_one_of
from refblo.estimators._implicit import implicit
from refblo.estimators._kept import is_new, kept_for, noting_changes
from refblo.estimators._kernels import Kernels, sampled
from refblo.estimators.hpo_sgld import HPOSGLD, State
from refblo.estimators.ift import IFTConjugateGradient, IFTNeumann
from refblo.estimators.protocol import Estimator, conclude
from refblo.estimators.rmd import RMD
from refblo.kernel import Backend, NotRecordableError, UnwatchableError
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.rules.rule import Rule
from refblo.types import Estimand, Hypergradient, Lam, Theta
from refblo.validation import check_arguments

Method = RMD | HPOSGLD | IFTNeumann | IFTConjugateGradient


class PlainWayWarning(UserWarning):
    """What was to be traced cannot be, and runs as it is."""


@final
@dataclass(frozen=True)
class Compiled(Estimator):
    """An estimator, compiled.

    Where the losses cannot be traced, `estimate` gives a PlainWayWarning with the reason and is the method's
    own. It also raises CompilerError where the machine has no working compiler.

    Args:
        method: RMD (all transitions, nothing checkpointed: compiled, it keeps every `fused`-th iterate and
            recomputes the others anyway), HPO-SGLD, IFT-Neumann or IFT-CG. CG is looked at once a kernel,
            so that it may form up to `fused` − 1 products that it has no use for.
        fused: how many transitions, or iterations of a solve, a kernel holds.
        backend: "inductor" for torch's compiler, or "eager" for the traced operations one after another:
            some tenths of a second to prepare, no compiler, and two to four times as fast as with autograd;
            or "cuda-graph" for the same operations launched at once, on a CUDA device alone: elsewhere a
            PlainWayWarning says so.

    Raises:
        ArgumentError: if `fused` is less than 1, the backend is unknown, or the method is none of these.

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
    name: str = field(default="", init=False)

    def __post_init__(self) -> None:
        require_integer("fused", self.fused, 1, "put at least one transition into a kernel")
        require_one_of("backend", self.backend, get_args(Backend))
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
        if isinstance(method, RMD):
            _langevin_of(method)
        object.__setattr__(self, "name", f"{self.method.name}, compiled")

    @property
    def estimand(self) -> Estimand:
        """The method's."""
        return self.method.estimand

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        # The checks call the losses of a problem that is new.
        with noting_changes(problem) if is_new(problem) else nullcontext():
            check_arguments(problem, lam, draws)
        result = self.traced(problem, lam, draws)
        if isinstance(result, Hypergradient):
            return result
        warnings.warn(
            f"problem must be made of losses that can be traced, got {result}; the estimator runs as it is",
            PlainWayWarning,
            stacklevel=2,
        )
        return self.method.estimate(problem, lam, draws)

    def is_refused(self, problem: BilevelProblem) -> bool:
        """Whether the losses, with what they read now, have been tried and cannot be traced.

        Raises:
            UnwatchableError: if what they read cannot be compared, or changes when they are called.
        """
        return self in kept_for(problem).refused

    def traced(self, problem: BilevelProblem, lam: Lam, draws: Draws) -> Hypergradient | str:
        """The estimate by kernels, or the reason why the losses cannot be traced.

        Raises:
            CompilerError: where the machine has no working compiler.
        """
        method = self.method
        try:
            kept = kept_for(problem)
            if self in kept.refused:
                return kept.refused[self]
            kernels = Kernels(self.fused, self.backend, kept)
            if isinstance(method, RMD):
                return self._reverse(method, problem, lam, draws, kernels)
            if isinstance(method, HPOSGLD):
                return self._recursion(method, problem, lam, draws, kernels)
            return implicit(method, problem, lam, draws, kernels)
        except UnwatchableError as error:
            return str(error)
        except NotRecordableError as error:
            kept.refused[self] = str(error)
            return str(error)

    def _reverse(
        self, method: RMD, problem: BilevelProblem, lam: Lam, draws: Draws, kernels: Kernels
    ) -> Hypergradient:
        lam = lam.detach()
        chain = Chain(problem, _langevin_of(method), draws)
        steps = method.schedule.steps
        with counting() as cost:
            theta, h = chain.initial(lam), torch.zeros_like(lam)
            runs = kernels.parts(steps)
            starts, drawn = [theta], _Draws(method, chain, theta)
            for run in runs[:-1]:
                starts.append(kernels.forward(chain, lam, starts[-1], run, drawn.of(run)))
            alpha, last = torch.zeros_like(theta), theta
            for run in reversed(runs):
                there = (chain, lam, starts.pop())
                end, alpha, h = kernels.pull(method, *there, alpha, h, run, drawn.again(run))
                last = end if run.stop == steps else last
            h.add_(initial_vjp(problem.initial, lam, alpha))
        return conclude(h, method.estimand, last, chain, lam, steps, cost)

    def _recursion(
        self, method: HPOSGLD, problem: BilevelProblem, lam: Lam, draws: Draws, kernels: Kernels
    ) -> Hypergradient:
        lam = lam.detach()
        chain = Chain(problem, method.dynamics, draws)
        with counting() as cost:
            state, h = method.init(chain, lam), torch.zeros_like(lam)
            for run in kernels.parts(method.schedule.steps):
                # The recursion asks for the outer loss at every iterate, the first one included.
                drawn = chain.draw(run, range(run.start, run.stop + 1), state.theta)
                theta, g, h = kernels.recur(method, chain, lam, state, h, run, drawn)
                state = State(theta, g)
            h.div_(method.schedule.samples)
        return conclude(h, method.estimand, state.theta, chain, lam, method.schedule.steps, cost)


@dataclass(eq=False)
class _Draws:
    """What the transitions of a run draw, kept for the way back as far as there is room."""

    method: RMD
    chain: Chain
    like: Theta
    kept: dict[range, Drawn] = field(default_factory=dict)
    size: int = 0

    def of(self, run: range) -> Drawn:
        """What some transitions draw."""
        drawn = self.chain.draw(run, sampled(self.method, run), self.like)
        for tensor in drawn.tensors():
            self.size += tensor.nbytes
        if self.size <= self.method.graph_limit(self.like.device):
            self.kept[run] = drawn
        return drawn

    def again(self, run: range) -> Drawn:
        """The same once more."""
        return self.kept.pop(run) if run in self.kept else self.of(run)


def _langevin_of(method: RMD) -> Langevin:
    """Its dynamics.

    Raises:
        ArgumentError: for a rule, whose buffers no kernel carries.
    """
    dynamics = method.dynamics
    if isinstance(dynamics, Rule):
        raise ArgumentError(
            f"method.dynamics must be Langevin to be compiled, got a Rule ({dynamics.formula.name}); use RMD "
            "as it is"
        )
    return dynamics
