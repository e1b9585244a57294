"""A run's linearisation: what every unrolled hypergradient, right or wrong, is put together from.

With J_t = ∂_zΦ_t and G_t = ∂_λΦ_t along the run, a slope a_m = ∂_z f_m and a direct term d_m = ∂_λ f_m
for every sample, the right answer is Σ_m w_m d_m + Σ_t α_{t+1}·G_t + α_0·dz⁰/dλ with
α_t = α_{t+1}·J_t + w_t a_t. A mistake is a change of one of these.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.conformance.diagnosis.budget import check_time
from refblo.conformance.truth.jacobian import jacobians_of
from refblo.conformance.truth.program import Program, leaf
from refblo.conformance.truth.tangent import push

Array = np.ndarray
Row = Float64[Array, " p"]
Slope = Float64[Array, " N"]
Pull = Callable[[int, Array], tuple[Array, Array]]
"""(t, v) ↦ (v·J_t, v·G_t)."""

_DENSE_ENTRIES = 2**22
_DENSE_STATE = 48
"""Entries of the state up to which a Jacobian is worth having: about as many as sweeps are made with it."""

_GRAPH_ENTRIES = 2**21
"""Entries of all states together up to which the graphs of the transitions are kept."""


def numpy_of(tensor: Tensor) -> Array:
    """A tensor's numbers in float64."""
    result: Array = tensor.detach().cpu().to(torch.float64).numpy()
    return result


@final
@dataclass(frozen=True, eq=False)
class Trace:
    """The linearisation of a program along given states.

    Attributes:
        program: the program.
        states: z⁰ … z^T, the program's own unless others are given.
    """

    program: Program
    states: Sequence[Tensor]
    _dense: dict[int, tuple[Array, Array]] = field(default_factory=dict)
    _outer: dict[int, tuple[Array, Array]] = field(default_factory=dict)
    _graphs: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    @staticmethod
    def of(program: Program) -> "Trace":
        """Along the program's own states."""
        check_time()
        return Trace(program, program.states(program.lam))

    @property
    def steps(self) -> int:
        """T."""
        return self.program.schedule.steps

    @property
    def dense(self) -> bool:
        """Whether the Jacobians are small enough to be kept as matrices."""
        n, p = self.states[0].numel(), self.program.lam.numel()
        return n <= _DENSE_STATE and self.steps * n * (n + p) <= _DENSE_ENTRIES

    @cached_property
    def _first_at(self) -> list[int]:
        """The first step with the same transition from the same state: of a run that has stopped moving."""
        if not self.program.autonomous:
            return list(range(self.steps))
        found: list[int] = []
        for t in range(self.steps):
            stays = t > 0 and self.states[t] is self.states[t - 1]
            found.append(found[-1] if stays else t)
        return found

    def weight(self, m: int) -> float:
        """The weight of iterate m in the outer objective."""
        schedule = self.program.schedule
        return 1 / schedule.samples if m > 0 and schedule.sampled(m) else 0.0

    def matrices(self, t: int) -> tuple[Float64[Array, "N N"], Float64[Array, "N p"]]:
        """(J_t, G_t), kept."""
        t = self._first_at[t]
        if t not in self._dense:
            lam, z = leaf(self.program.lam), leaf(self.states[t])
            found = jacobians_of(self.program.transition(lam, z, t), (z, lam))
            self._dense[t] = numpy_of(found[0]), numpy_of(found[1])
        return self._dense[t]

    def pull(self, t: int, v: Slope) -> tuple[Slope, Row]:
        """(v·J_t, v·G_t)."""
        check_time()
        if not self.dense:
            return self._pulled(t, v)
        jacobian, mixed = self.matrices(t)
        return v @ jacobian, v @ mixed

    def pull_transposed(self, t: int, v: Slope) -> tuple[Slope, Row]:
        """(J_t·v, v·G_t): with the transition Jacobian on the wrong side."""
        return self.pushed(t, np.zeros(self.program.lam.numel()), v), self.pull(t, v)[1]

    def pushed(self, t: int, u: Row, v: Slope) -> Slope:
        """G_t·u + J_t·v."""
        check_time()
        if self.dense:
            jacobian, mixed = self.matrices(t)
            moved: Array = jacobian @ v + mixed @ u
            return moved
        program, lam, z = self.program, self.program.lam, self.states[t]
        along = (torch.as_tensor(u, device="cpu").to(lam), torch.as_tensor(v, device="cpu").to(z))
        return numpy_of(push(lambda x, y: program.transition(x, y, t), (lam, z), along)[1])

    def _pulled(self, t: int, v: Array) -> tuple[Array, Array]:
        if t not in self._graphs:
            lam, z = leaf(self.program.lam), leaf(self.states[t])
            self._graphs[t] = (self.program.transition(lam, z, t), z, lam)
        value, z, lam = self._graphs[t]
        keep = self.steps * z.numel() <= _GRAPH_ENTRIES
        if not keep:
            del self._graphs[t]
        return pulled(value, (z, lam), v, keep=keep)

    def pull_start(self, v: Slope) -> Row:
        """v·dz⁰/dλ."""
        lam = leaf(self.program.lam)
        return pulled(self.program.start(lam), (lam, lam), v)[0]

    def outer(self, m: int) -> tuple[Row, Slope]:
        """(d_m, a_m) at iterate m, kept."""
        if m not in self._outer:
            self._outer[m] = self.outer_at(m, self.states[m])
        return self._outer[m]

    def outer_at(self, m: int, state: Tensor, lam: Tensor | None = None) -> tuple[Row, Slope]:
        """(d, a) of the outer loss number m at any state and λ."""
        check_time()
        at_lam = leaf(self.program.lam if lam is None else lam)
        z = leaf(state)
        value = self.program.outer(at_lam, z, m)
        return pulled(value, (at_lam, z), np.ones(()))

    def direct(self) -> Row:
        """Σ_m w_m d_m."""
        total: Array = np.sum([self.weight(m) * self.outer(m)[0] for m in self.sampled()], axis=0)
        return total

    def sampled(self) -> list[int]:
        """The iterates that the outer objective averages."""
        return [m for m in range(1, self.steps + 1) if self.weight(m) > 0]


def pulled(
    value: Tensor, inputs: tuple[Tensor, Tensor], v: Array, *, keep: bool = False
) -> tuple[Array, Array]:
    """v·∂value/∂inputs, zeros where there is no dependence; the graph may be kept for another call."""
    if not value.requires_grad:
        return tuple(numpy_of(torch.zeros_like(x)) for x in inputs)  # type: ignore[return-value]  # two inputs, two results
    weight = torch.as_tensor(v, device="cpu").to(value)
    first, second = torch.autograd.grad(
        value, inputs, weight, retain_graph=keep, allow_unused=True, materialize_grads=True
    )
    return numpy_of(first), numpy_of(second)


@final
@dataclass(frozen=True, eq=False)
class Sweep:
    """An adjoint sweep: what each transition and the start contribute.

    Attributes:
        terms: entry t is α_{t+1}·G_t, shape (T, p).
        start: α_0·dz⁰/dλ, shape (p,).
    """

    terms: Float64[Array, "T p"]
    start: Row

    @property
    def total(self) -> Row:
        """The indirect term."""
        result: Array = self.terms.sum(axis=0) + self.start
        return result


def sweep(
    trace: Trace,
    pull: Pull | None = None,
    slopes: Callable[[int], Array] | None = None,
    samples: Sequence[int] | None = None,
) -> Sweep:
    """The adjoint sweep, or one with a mistake in it.

    Args:
        trace: the linearisation.
        pull: replaces `trace.pull`.
        slopes: m ↦ what replaces a_m.
        samples: the samples whose paths are differentiated; all of them when None.
    """
    pull = trace.pull if pull is None else pull
    alpha = np.zeros(trace.states[0].numel())
    terms = np.zeros((trace.steps, trace.program.lam.numel()))
    kept = trace.sampled() if samples is None else samples
    for t in range(trace.steps, 0, -1):
        if t in kept:
            slope = trace.outer(t)[1] if slopes is None else slopes(t)
            alpha = alpha + trace.weight(t) * slope
        alpha, terms[t - 1] = pull(t - 1, alpha)
    return Sweep(terms, trace.pull_start(alpha))
