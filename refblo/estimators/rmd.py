"""Reverse-mode differentiation of the inner run, and its truncations.

Computes d/dλ (1/M) Σ_{m>B} f(λ, θ^m) (Franceschi et al. 2017; with M = 1 the unrolled hypergradient
(49)) by the adjoint recursion, for t = T, …, 1,

    α ← α + f_θ(θ^t)/M  if t > B,      h ← h + f_λ(θ^t)/M − γ α·C(θ^{t−1}),      α ← α − γ H(θ^{t−1}) α,

and finally h ← h + α·dθ⁰/dλ. Exact up to rounding.

Claims: eq-49, franceschi-limit, tab-1, text-rmd-fo.
"""

import math
from dataclasses import dataclass, field
from typing import final
from weakref import WeakKeyDictionary

import torch
from typing_extensions import override

from refblo.chain import Chain, Langevin, Schedule
from refblo.cost import counting, machine_memory, uncounted
from refblo.derivatives import (
    initial_vjp,
    leaf,
    outer_gradients,
    pull_back,
    recorded_bytes,
    recorded_inner_gradient,
    recorded_outer,
)
from refblo.errors import require, require_integer
from refblo.estimators.checkpointing import next_state
from refblo.estimators.protocol import Estimator, conclude
from refblo.estimators.rule_chain import AnyChain, chain_of
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem
from refblo.rules.rule import Rule
from refblo.types import Estimand, Hypergradient, Lam, Theta
from refblo.validation import Signature, check_arguments

MOST_MEMORY = 2**32
"""The bytes of a segment's graph by default, on a machine that has four times as many."""

LITTLE_MEMORY = 2**28
"""The same where the stored iterates are limited."""


@final
@dataclass(frozen=True)
class RMD(Estimator):
    """Reverse-mode differentiation.

    The run is cut into segments. Going forward only the iterate at the start of each is stored; going
    backward a segment's graph is built from it, α is pulled through, and the graph is dropped. The
    longer the segments, the fewer gradients are computed twice and the more memory a graph takes.

    A long run stores fewer iterates than it has segments and computes the others again: with `checkpointed`
    O(√T) of them, each step twice; with `states` as many as are allowed, chosen so that the fewest steps are
    repeated (binomial checkpointing, see `refblo.estimators.checkpointing`): 20 states reverse 100,000 steps
    with 5.3 advances a step.

    Args:
        dynamics: the step rule: Langevin, or any `Rule`.
        schedule: B and M.
        checkpointed: keep O(√T) iterates and recompute the others, one more inner run in all.
        last_transitions: K, to keep only the last K transition Jacobians (truncated RMD); None for all
            of them. The truncation error is geometric in K where the inner loss is strongly convex.
        graph_bytes: how much memory a segment's graph may take. With 0 a segment is one step: no
            graph spans two, and memory is the iterates' (O(T·n), checkpointed O(√T·n)) and one
            step's graph. Where the whole run fits in one segment, nothing is computed twice. None for
            4 GiB, or a quarter of the memory of the machine or the device where that is less; and for
            256 MiB with `checkpointed` or `states`, which limit memory. The bits do not depend on it.
        states: how many iterates may be stored at once, at least 2, the start among them; None for no limit.
        memory_bytes: how much memory the stored iterates and one segment's graph may take together; it sets
            `states`. None for no limit.

    Raises:
        ArgumentError: if `last_transitions` is less than 1, `graph_bytes` is negative, there are fewer than 2
            `states`, or more than one of `checkpointed`, `states` and `memory_bytes` is given.
    """

    dynamics: Langevin | Rule
    schedule: Schedule
    checkpointed: bool = False
    last_transitions: int | None = None
    graph_bytes: int | None = None
    states: int | None = None
    memory_bytes: int | None = None
    name: str = field(default="RMD", kw_only=True)

    def __post_init__(self) -> None:
        if self.last_transitions is not None:
            require_integer(
                "last_transitions",
                self.last_transitions,
                1,
                "use RMDFirstOrder for the direct term alone",
            )
        if self.graph_bytes is not None:
            require_integer(
                "graph_bytes", self.graph_bytes, 0, "use 0 to keep the graph of one step at a time"
            )
        limits = [self.checkpointed, self.states is not None, self.memory_bytes is not None]
        require(
            sum(limits) <= 1,
            "states",
            "stand alone",
            "more than one of checkpointed, states and memory_bytes",
            "choose one way to limit what is stored",
        )
        if self.states is not None:
            require_integer("states", self.states, 2, "store the start and one more iterate")
        if self.memory_bytes is not None:
            require_integer("memory_bytes", self.memory_bytes, 1, "give a number of bytes")

    @property
    def estimand(self) -> Estimand:
        """The pathwise mean; with one sample, the unrolled hypergradient."""
        return self.schedule.estimand

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        lam = lam.detach()
        steps = self.schedule.steps
        chain = chain_of(problem, self.dynamics, draws, lam, steps)
        kept = steps if self.last_transitions is None else min(self.last_transitions, steps)
        with counting() as cost:
            h, theta = torch.zeros_like(lam), chain.lifted(chain.initial(lam))
            # Truncated: iterates before the kept transitions are taken as given.
            for t in range(1, steps - kept + 1):
                theta = chain.step(lam, theta, t - 1)
                if self.schedule.sampled(t):
                    at = chain.theta(theta)
                    direct, _ = outer_gradients(problem.outer, lam, at, chain.outer_batch(t))
                    h.add_(direct, alpha=1 / self.schedule.samples)
            run, alpha = range(steps - kept, steps), torch.zeros_like(theta)
            block = self._block(chain, lam, theta, kept)
            states = self._states(chain, lam, theta, block)
            if states is None:
                segments = (math.isqrt(kept), block) if self.checkpointed else (block,)
                last, alpha, h = self._pull(chain, lam, theta, run, segments, alpha, h)
            else:
                few = (block, states)
                last, alpha, h = self._pull_from_few(chain, lam, theta, run, *few, alpha, h)
            if kept == steps:
                h.add_(initial_vjp(problem.initial, lam, chain.theta(alpha)))
        return conclude(h, self.estimand, chain.theta(last), chain, lam, steps, cost)

    def graph_limit(self, device: torch.device) -> int:
        """How many bytes a segment's graph may take on a device: `graph_bytes`, or its default."""
        if self.graph_bytes is not None:
            return self.graph_bytes
        if self.checkpointed or self.states is not None:
            return LITTLE_MEMORY
        memory = machine_memory(device)
        return MOST_MEMORY if memory is None else min(MOST_MEMORY, memory // 4)

    def _block(self, chain: AnyChain, lam: Lam, theta: Theta, steps: int) -> int:
        """How many steps a segment has: as many as have their graph in `graph_bytes`."""
        allowed = self.graph_limit(lam.device)
        if self.memory_bytes is not None:
            allowed = min(allowed, self.memory_bytes // 2)
        longest = max(1, math.isqrt(steps)) if self.checkpointed else steps
        return max(1, min(allowed // bytes_of_a_step(chain, lam, theta), longest))

    def _states(self, chain: AnyChain, lam: Lam, theta: Theta, block: int) -> int | None:
        """How many iterates may be stored; None for as many as there are segments."""
        if self.memory_bytes is None:
            return self.states
        one, graph = theta.nbytes, block * bytes_of_a_step(chain, lam, theta)
        states = (self.memory_bytes - graph) // one
        require(
            states >= 2,
            "memory_bytes",
            f"be at least {2 * one + graph}, for two states of {one} bytes and a step's graph of {graph}",
            self.memory_bytes,
            "allow more memory",
        )
        return int(states)

    def _pull(
        self,
        chain: AnyChain,
        lam: Lam,
        theta: Theta,
        run: range,
        segments: tuple[int, ...],
        alpha: Theta,
        h: Lam,
    ) -> tuple[Theta, Theta, Lam]:
        """Pull α back through a run of transitions, adding to h what they contribute.

        The bits do not depend on the segments: h goes through their graphs as α does.

        Args:
            chain: the chain.
            lam: λ.
            theta: θ where the run starts.
            run: the transitions; number t leads from θ^t to θ^{t+1}.
            segments: the lengths that the run is to be cut into, coarse to fine.
            alpha: α where the run ends.
            h: the sum of what later transitions contribute.

        Returns:
            θ where the run ends, α where it starts, and h with what the run contributes.
        """
        if not segments or len(run) <= segments[-1]:
            return self.pull_through_graph(chain, lam, theta, run, alpha, h)
        parts = [run[i : i + segments[0]] for i in range(0, len(run), segments[0])]
        starts = [theta]
        for part in parts[:-1]:
            for t in part:
                theta = chain.step(lam, theta, t)
            starts.append(theta)
        end: Theta | None = None
        while parts:
            at = self._pull(chain, lam, starts.pop(), parts.pop(), segments[1:], alpha, h)
            end, alpha, h = at[0] if end is None else end, *at[1:]
        return theta if end is None else end, alpha, h

    def _pull_from_few(
        self,
        chain: AnyChain,
        lam: Lam,
        theta: Theta,
        run: range,
        block: int,
        states: int,
        alpha: Theta,
        h: Lam,
    ) -> tuple[Theta, Theta, Lam]:
        """`_pull` with at most `states` stored iterates, θ among them, in segments of `block` steps.

        What lies behind the last stored iterate is pulled through first; then that iterate is dropped.
        """
        end: Theta | None = None
        stop, stored = run.stop, [(run.start, theta)]
        while stored:
            start, theta = stored[-1]
            room = states - len(stored)
            segments = -(-(stop - start) // block)
            if segments > 1 and room > 0:
                middle = start + block * next_state(segments, room + 1)
                stored.append((middle, self._advanced(chain, lam, theta, range(start, middle))))
                continue
            # One segment is left, or no room: the last segment's start is computed and not stored.
            middle = start + block * (segments - 1)
            theta = self._advanced(chain, lam, theta, range(start, middle))
            if segments == 1:
                stored.pop()
            segment = range(middle, stop)
            last, alpha, h = self.pull_through_graph(chain, lam, theta, segment, alpha, h)
            end, stop = last if end is None else end, middle
        return theta if end is None else end, alpha, h

    @staticmethod
    def _advanced(chain: AnyChain, lam: Lam, theta: Theta, run: range) -> Theta:
        """θ after a run of transitions."""
        for t in run:
            theta = chain.step(lam, theta, t)
        return theta

    def pull_through_graph(
        self, chain: AnyChain, lam: Lam, theta: Theta, run: range, alpha: Theta, h: Lam
    ) -> tuple[Theta, Theta, Lam]:
        """Pull α back through a whole segment: record its transitions and samples, then differentiate.

        Returns:
            θ where the run ends, α where it starts, and h with what the run contributes.
        """
        problem = chain.problem
        weight = torch.full((), 1 / self.schedule.samples, dtype=lam.dtype, device=lam.device)
        lam, start = leaf(lam), leaf(theta)
        end, sampled = start, []
        for t in run:
            batch, at = chain.inner_batch(t), chain.theta(end)
            gradient = recorded_inner_gradient(problem.inner, lam, at, batch)
            end = chain.following(lam, end, gradient, t)
            if self.schedule.sampled(t + 1):
                batch, at = chain.outer_batch(t + 1), chain.theta(end)
                sampled.append(recorded_outer(problem.outer, lam, at, batch))
        # λ as an output of weight h: what the segment contributes is added to h term by term, in the order in
        # which one graph of the whole run adds it.
        weights = (alpha, *(weight for _ in sampled), h)
        h, alpha = pull_back((end, *sampled, lam), (lam, start), weights)
        return end.detach(), alpha, h


_step_bytes: WeakKeyDictionary[BilevelProblem, dict[Signature, int]] = WeakKeyDictionary()


_GRAPH_OF_A_BUFFER = 6
"""How many tensors of its size a step's graph keeps for each of a rule's buffers; Adam's two have twelve."""


def bytes_of_a_step(chain: AnyChain, lam: Lam, state: Theta) -> int:
    """The size of one step's graph, measured once for each problem and signature."""
    known = _step_bytes.setdefault(chain.problem.origin, {})
    theta = chain.theta(state)
    signature = (lam.dtype, lam.device, lam.numel(), theta.numel())
    if signature not in known:
        with uncounted():
            known[signature] = recorded_bytes(chain.problem.inner, lam, theta, chain.inner_batch(0))
    buffers = state.nbytes - theta.nbytes
    return max(1, known[signature] + _GRAPH_OF_A_BUFFER * buffers)


@final
@dataclass(frozen=True)
class RMDFirstOrder(Estimator):
    """RMD-FO: the direct term alone, (1/M) Σ_{m>B} ∂_λ f(λ, θ^m).

    It is what remains of RMD when every second-order product is dropped and θ⁰ does not depend on λ;
    where it does, α·dθ⁰/dλ with α = (1/M) Σ f_θ(θ^m) is kept (first-order MAML).

    Args:
        dynamics: the step rule.
        schedule: B and M.
    """

    dynamics: Langevin
    schedule: Schedule
    name: str = field(default="RMD-FO", kw_only=True)

    @property
    def estimand(self) -> Estimand:
        """The pathwise mean; with one sample, the unrolled hypergradient."""
        return self.schedule.estimand

    @override
    def estimate(
        self, problem: BilevelProblem, lam: Lam, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        check_arguments(problem, lam, draws)
        lam = lam.detach()
        chain = Chain(problem, self.dynamics, draws)
        weight = 1 / self.schedule.samples
        with counting() as cost:
            theta = chain.initial(lam)
            h, alpha = torch.zeros_like(lam), torch.zeros_like(theta)
            for t in range(1, self.schedule.steps + 1):
                theta = chain.step(lam, theta, t - 1)
                if self.schedule.sampled(t):
                    direct, slope = outer_gradients(problem.outer, lam, theta, chain.outer_batch(t))
                    h.add_(direct, alpha=weight)
                    alpha.add_(slope, alpha=weight)
            h.add_(initial_vjp(problem.initial, lam, alpha))
        return conclude(h, self.estimand, theta, chain, lam, self.schedule.steps, cost)
