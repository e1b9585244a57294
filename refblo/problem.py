"""Bilevel problems as pure functions of flat vectors, with the structure they declare.

A problem is min_λ f(λ, θ(λ)) where θ(λ) comes out of an inner training run on L_T(λ, θ). Structure is
declared by the type of the inner loss: an estimator that knows that λ enters only through a
regulariser, or only through the loss on top of the network, never differentiates twice through the
network.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, final, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from refblo.errors import require, require_integer
from refblo.noise import Draws
from refblo.types import Batch, Lam, Loss, Scalar, Theta


@final
@dataclass(frozen=True, eq=False)
class RegulariserProducts:
    """Closed-form derivatives of a regulariser R(λ, θ), for those who have them.

    Attributes:
        gradient: (lam, theta) ↦ ∂_θ R, shape (n,).
        mixed: (lam, theta, v) ↦ v·∂²R/∂λ∂θ, shape (p,).
    """

    gradient: Callable[[Tensor, Tensor], Tensor]
    mixed: Callable[[Tensor, Tensor, Tensor], Tensor]


@final
@dataclass(frozen=True, eq=False)
class Separable:
    """An inner loss L_T = data(θ; batch) + regulariser(λ, θ): eq. (1) of Kim and Hospedales.

    Attributes:
        data: (theta, batch) ↦ scalar.
        regulariser: (lam, theta) ↦ scalar.
        products: the regulariser's derivatives in closed form; autograd is used without them.
    """

    data: Callable[[Tensor, Batch], Tensor]
    regulariser: Callable[[Tensor, Tensor], Tensor]
    products: RegulariserProducts | None = None

    def __call__(self, lam: Lam, theta: Theta, batch: Batch) -> Scalar:
        """The inner loss."""
        return self.data(theta, batch) + self.regulariser(lam, theta)


@final
@dataclass(frozen=True, eq=False)
class Composed:
    """An inner loss L_T = loss(λ, outputs(θ; batch); batch): λ only in the loss, as in (28).

    Attributes:
        outputs: (theta, batch) ↦ tensor of any shape, the network's outputs.
        loss: (lam, outputs, batch) ↦ scalar.
    """

    outputs: Callable[[Tensor, Batch], Tensor]
    loss: Callable[[Tensor, Tensor, Batch], Tensor]

    def __call__(self, lam: Lam, theta: Theta, batch: Batch) -> Scalar:
        """The inner loss."""
        return self.loss(lam, self.outputs(theta, batch), batch)


@runtime_checkable
class Batches(Protocol):
    """Where minibatches, or any other randomness of a loss, come from."""

    def __call__(self, draws: Draws, stream: int, step: int) -> Batch:
        """The batch of one step, a function of (seed, stream, step)."""
        ...


@final
@dataclass(frozen=True)
class FullBatch:
    """No sampling: the loss sees `None` and uses all it has."""

    def __call__(self, draws: Draws, stream: int, step: int) -> Batch:  # noqa: ARG002
        """No batch."""
        return None


@final
@dataclass(frozen=True)
class Minibatches:
    """Indices into a data set, drawn without replacement within a batch.

    Args:
        population: size of the data set.
        size: size of a batch, between 1 and `population`.
        device: where the indices are drawn: that of the data set, so that nothing is copied.

    Raises:
        ArgumentError: if either is out of range.
    """

    population: int
    size: int
    device: str = "cpu"

    def __post_init__(self) -> None:
        require_integer("population", self.population, 1, "give at least one row of data")
        require_integer("size", self.size, 1, "choose a batch size of at least 1")
        require(
            self.size <= self.population,
            "size",
            f"be at most population = {self.population}",
            self.size,
            "choose a smaller batch",
        )

    def __call__(self, draws: Draws, stream: int, step: int) -> Batch:
        """The indices of one step, shape (size,), int64."""
        return draws.indices(stream, step, self.population, self.size, self.device)


@final
@dataclass(frozen=True)
class UniformBatches:
    """Uniform numbers, for losses that are perturbed at every call as in (27).

    Args:
        count: how many, at least 1.
        low: the least that can come.
        high: what they stay below.
        device: where they are drawn.

    Raises:
        ArgumentError: if `count` is less than 1, or [low, high) is empty or unbounded.
    """

    count: int
    low: float
    high: float
    device: str = "cpu"

    def __post_init__(self) -> None:
        require_integer("count", self.count, 1, "draw at least one number")
        require(
            math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high,
            "high",
            f"be finite and exceed low = {self.low}",
            self.high,
            "give a bounded interval with low < high",
        )

    def __call__(self, draws: Draws, stream: int, step: int) -> Batch:
        """The numbers of one step, shape (count,), float64."""
        return draws.uniform(stream, step, (self.count,), self.low, self.high, self.device)


@final
@dataclass(frozen=True, eq=False)
class FixedInitial:
    """An initial point θ⁰ that does not depend on λ."""

    theta: Float[Tensor, " n"]

    def __call__(self, lam: Lam) -> Theta:  # noqa: ARG002
        """θ⁰."""
        return self.theta


@final
@dataclass(frozen=True, eq=False)
class LamInitial:
    """An initial point θ⁰(λ) with its products.

    Attributes:
        function: lam ↦ θ⁰, shape (n,).
        vjp: (lam, v) ↦ v·dθ⁰/dλ, shape (p,); autograd is used when it is None.
        jvp: (lam, u) ↦ dθ⁰/dλ·u, shape (n,); autograd is used when it is None.
    """

    function: Callable[[Tensor], Tensor]
    vjp: Callable[[Tensor, Tensor], Tensor] | None = None
    jvp: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, lam: Lam) -> Theta:
        """θ⁰(λ)."""
        return self.function(lam)


def identity_initial() -> LamInitial:
    """θ⁰ = λ, the initial point of MAML-type problems; dθ⁰/dλ = I."""
    return LamInitial(lambda lam: lam, lambda _, v: v, lambda _, u: u)


Initial = FixedInitial | LamInitial


@final
@dataclass(frozen=True, eq=False)
class BilevelProblem:
    """min_λ f(λ, θ) over the θ that an inner run on L_T(λ, ·) ends at: eq. (3).

    Attributes:
        inner: L_T, as a plain function (lam, theta, batch) ↦ scalar, `Separable` or `Composed`.
        outer: f = L_V, a function (lam, theta, batch) ↦ scalar.
        initial: θ⁰.
        inner_batches: where the inner loss's batches come from.
        outer_batches: where the outer loss's batches come from.
        name: for reports.
    """

    inner: Loss | Separable | Composed
    outer: Loss
    initial: Initial
    inner_batches: Batches = field(default_factory=FullBatch)
    outer_batches: Batches = field(default_factory=FullBatch)
    name: str = "unnamed problem"
    _started_from: "BilevelProblem | None" = field(default=None, init=False, repr=False)

    def starting_at(self, theta: Theta) -> "BilevelProblem":
        """The same problem started from a fixed θ, shape (n,): a warm start."""
        started = replace(self, initial=FixedInitial(theta.detach()))
        object.__setattr__(started, "_started_from", self.origin)
        return started

    @property
    def origin(self) -> "BilevelProblem":
        """The problem that this one is a warm start of, else itself: what is known of one holds for both."""
        return self if self._started_from is None else self._started_from
