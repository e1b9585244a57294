"""What a hypergradient is the derivative of: an inner run as pure functions on flat vectors.

The state z holds θ in its first n entries and whatever the optimiser keeps behind them:
z⁰ = start(λ), z^{t+1} = Φ_t(λ, z^t), and the outer objective is (1/M) Σ_{m>B} f_m(λ, z^m).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import Any, TypeAlias, TypeVar, final

import torch
import torch.autograd.forward_ad as forward
from jaxtyping import Float
from torch import Tensor

from refblo.chain import Schedule
from refblo.conformance.truth.growth import Growth, bound_of
from refblo.conformance.truth.guard import Guarded, differentiable_kernels, guarded
from refblo.derivatives import functional_gradient
from refblo.rules.rule import Rule

T = TypeVar("T")
Sample: TypeAlias = Any
"""What one step sees of the data: a tensor, several of them, or a seed; whatever the losses take."""
Batches = Sequence[Sample] | None

_LOOKED_AT = 8
"""Every so many steps a run is asked whether it has stopped moving, to the last bit."""

Flat = Callable[[Tensor, Tensor, Any], Tensor]
"""A loss (lam, theta, batch) ↦ scalar on flat vectors."""


@final
@dataclass(frozen=True, eq=False)
class Frozen:
    """The randomness of a run, drawn beforehand.

    Attributes:
        noise: what is added to θ at each step, shape (T, n), or None.
        inner_batches: entry t is what transition t sees, or None.
        outer_batches: entry m is what the outer loss sees at iterate m (0 … T), or None.
    """

    noise: Float[Tensor, "T n"] | None = None
    inner_batches: Batches = None
    outer_batches: Batches = None

    @property
    def anything(self) -> bool:
        """Whether there is any randomness."""
        return not (
            self.noise is None and self.inner_batches is None and self.outer_batches is None
        )

    def inner(self, step: int) -> Sample | None:
        """The batch of one transition."""
        return None if self.inner_batches is None else self.inner_batches[step]

    def outer(self, step: int) -> Sample | None:
        """The batch of the outer loss at one iterate."""
        return None if self.outer_batches is None else self.outer_batches[step]


@final
@dataclass(frozen=True, eq=False)
class Losses:
    """What a program with a known rule is made of, so that variants of it can be built.

    Attributes:
        inner: L_T.
        outer: f.
        initial: λ ↦ θ⁰.
        rule: the optimiser.
        frozen: the randomness.
    """

    inner: Flat
    outer: Flat
    initial: Callable[[Tensor], Tensor]
    rule: Rule
    frozen: Frozen

    def __post_init__(self) -> None:
        for name in ("inner", "outer", "initial"):
            function = getattr(self, name)
            if not isinstance(function, Guarded):
                object.__setattr__(self, name, guarded(function))

    @property
    def promotes(self) -> torch.dtype | None:
        """The dtype in whose place they compute with float64, if any."""
        return self.inner.promoted if isinstance(self.inner, Guarded) else None

    def promoted(self, dtype: torch.dtype) -> "Losses":
        """The same losses, computing in float64 with what they hold in a smaller dtype."""
        return replace(
            self,
            inner=guarded(self.inner, dtype),
            outer=guarded(self.outer, dtype),
            initial=guarded(self.initial, dtype),
        )


@final
@dataclass(frozen=True, eq=False)
class Program:
    """An inner run with its outer objective.

    Attributes:
        lam: λ, shape (p,).
        start: λ ↦ z⁰, shape (N,).
        transition: (λ, z, t) ↦ z^{t+1}.
        outer: (λ, z, m) ↦ scalar, the outer loss at iterate m.
        schedule: B and M.
        size: n, how many entries of z are θ; the first ones.
        losses: the losses and the rule that the program was built from, where the rule is known.
        plain: the run in the caller's own dtype, where this program is in a wider one.
    """

    lam: Float[Tensor, " p"]
    start: Callable[[Tensor], Tensor]
    transition: Callable[[Tensor, Tensor, int], Tensor]
    outer: Callable[[Tensor, Tensor, int], Tensor]
    schedule: Schedule
    size: int
    losses: Losses | None = None
    plain: "Program | None" = None

    def __post_init__(self) -> None:
        for name in ("start", "transition", "outer"):
            function = getattr(self, name)
            if not isinstance(function, Guarded):
                object.__setattr__(self, name, guarded(function))

    def at(self, lam: Float[Tensor, " p"]) -> "Program":
        """The same program at another λ."""
        plain = None if self.plain is None else self.plain.at(lam.to(self.plain.lam))
        return replace(self, lam=lam, plain=plain)

    @property
    def promotes(self) -> torch.dtype | None:
        """The dtype in whose place its functions compute with float64, if any."""
        return self.start.promoted if isinstance(self.start, Guarded) else None

    def promoted(self, dtype: torch.dtype) -> "Program":
        """The same program, computing in float64 with what its functions hold in a smaller dtype."""
        if self.losses is not None:
            return build(self.losses.promoted(dtype), self.lam, self.schedule)
        return replace(
            self,
            start=guarded(self.start, dtype),
            transition=guarded(self.transition, dtype),
            outer=guarded(self.outer, dtype),
        )

    def unrecorded(self, call: Callable[[], T]) -> T:
        """Make a call that needs no graph around it, as the transitions of a known rule do not.

        A caller's own transition may call autograd on its arguments, and is given one.
        """
        if self.losses is None:
            return call()
        with torch.no_grad():
            return call()

    def gradient_at(self, step: int) -> Callable[[Tensor, Tensor], Tensor]:
        """(λ, z) ↦ ∂_θ L_T of a step; of a program with a known rule."""
        losses = self.losses
        if losses is None:
            raise AssertionError("the program has losses")

        def gradient(at: Tensor, state: Tensor) -> Tensor:
            batch = losses.frozen.inner(step)
            return gradient_by_theta(losses.inner, at, state[: self.size], batch)

        return guarded(gradient, losses.promotes)

    def states(self, lam: Float[Tensor, " p"]) -> list[Float[Tensor, " N"]]:
        """z⁰ … z^T, detached."""
        return list(self._iterates(lam))

    @cached_property
    def growth(self) -> Growth:
        """How far the run at λ goes, and where it ends."""
        caller = self.plain.lam.dtype if self.plain is not None else self.promotes
        bound = bound_of(caller or self.lam.dtype)
        return Growth.of(self._iterates(self.lam), self.size, self.schedule.steps, bound)

    @property
    def autonomous(self) -> bool:
        """Whether every transition is the same function of (λ, z): then a state that it keeps is the last."""
        losses = self.losses
        if losses is None or losses.rule.betas is not None or losses.rule.functions:
            return False
        return losses.frozen.noise is None and losses.frozen.inner_batches is None

    def _iterates(self, lam: Float[Tensor, " p"]) -> Iterator[Float[Tensor, " N"]]:
        at = leaf(lam)
        state = self.start(at).detach()
        yield state
        for step in range(self.schedule.steps):
            moved = self._moved(at, state.clone(), step)
            if step % _LOOKED_AT == 0 and self.autonomous and torch.equal(moved, state):
                yield from repeat(state, self.schedule.steps - step)
                return
            state = moved
            yield state

    def _moved(self, at: Float[Tensor, " p"], state: Tensor, step: int) -> Tensor:
        """The next state, detached; `at` is a leaf, and nobody else needs the state.

        A caller's own transition is given leaves of its own.
        """
        if self.losses is None:
            return self.transition(leaf(at), leaf(state), step).detach()
        with torch.no_grad():
            return self.transition(at, state, step).detach()

    def objective(self, lam: Float[Tensor, " p"]) -> float:
        """(1/M) Σ_{m>B} f_m(λ, z^m), a number."""
        at = leaf(lam)
        total = 0.0
        with differentiable_kernels():  # once, and not at every call
            state = self.start(at).detach().clone()
            for step in range(self.schedule.steps):
                state = self._moved(at, state, step)
                if self.schedule.sampled(step + 1):
                    total += float(self.outer(leaf(lam), leaf(state), step + 1).detach())
        return total / self.schedule.samples


def leaf(vector: Tensor) -> Tensor:
    """The same numbers as a leaf: a caller's own transition may call autograd on its arguments."""
    return vector.detach().clone().requires_grad_()


def gradient_by_theta(
    loss: Flat, lam: Tensor, theta: Tensor, batch: Sample | None
) -> Float[Tensor, " n"]:
    """∂_θ of a loss, itself differentiable in the way in which the arguments are being differentiated.

    Inside a transform of torch.func by torch.func, otherwise by autograd: then the loss may do whatever
    autograd can differentiate, such as write in place or call autograd itself.
    """
    if torch._C._are_functorch_transforms_active():
        return functional_gradient(lambda at: loss(lam, at, batch), theta)
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        at = theta if recorded and theta.requires_grad else _leaf_with_tangent(theta)
        value = loss(lam, at, batch)
        if not value.requires_grad:
            return torch.zeros_like(theta)
        (gradient,) = torch.autograd.grad(
            value, at, create_graph=recorded, allow_unused=True, materialize_grads=True
        )
    return gradient


def _leaf_with_tangent(theta: Tensor) -> Tensor:
    """A leaf with the same numbers, and with the tangent that the tensor carries in forward mode, if any."""
    primal, tangent = forward.unpack_dual(theta)  # type: ignore[no-untyped-call]  # torch's own
    at: Tensor = primal.detach().requires_grad_()
    if tangent is None:
        return at
    dual: Tensor = forward.make_dual(at, tangent)  # type: ignore[no-untyped-call]  # torch's own
    return dual


def build(losses: Losses, lam: Float[Tensor, " p"], schedule: Schedule) -> Program:
    """The program of a known rule on a problem's losses."""
    rule, frozen = losses.rule, losses.frozen
    size = losses.initial(lam.detach()).numel()

    def transition(at: Tensor, state: Tensor, step: int) -> Tensor:
        batch = frozen.inner(step)
        gradient = gradient_by_theta(losses.inner, at, state[:size], batch)
        noise = None if frozen.noise is None else frozen.noise[step]
        return rule.advance(state, gradient, step, noise, at)

    def start(at: Tensor) -> Tensor:
        return rule.state(losses.initial(at))

    def outer(at: Tensor, state: Tensor, step: int) -> Tensor:
        return losses.outer(at, state[:size], frozen.outer(step))

    dtype = losses.promotes
    return Program(
        lam=lam.detach(),
        start=guarded(start, dtype),
        transition=guarded(transition, dtype),
        outer=guarded(outer, dtype),
        schedule=schedule,
        size=size,
        losses=losses,
    )


def rebuilt(
    program: Program,
    *,
    frozen: Frozen | None = None,
    rule: Rule | None = None,
    schedule: Schedule | None = None,
) -> Program | None:
    """The same program with other randomness, another rule or another schedule; None if it cannot be.

    A program made from a caller's own transition can only change its schedule.
    """
    if program.losses is None:
        if frozen is None and rule is None:
            return replace(program, schedule=schedule or program.schedule)
        return None
    losses = replace(
        program.losses,
        frozen=program.losses.frozen if frozen is None else frozen,
        rule=program.losses.rule if rule is None else rule,
    )
    return build(losses, program.lam, schedule or program.schedule)
