"""The vector aliases and the result of every estimator.

Vectors are flat: λ has p entries, θ has n. Shapes are checked at run time where the shape checker is
installed (it is in the tests).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.cost import Evaluations
from refblo.errors import DivergenceError

Lam: TypeAlias = Float[Tensor, " p"]
Theta: TypeAlias = Float[Tensor, " n"]
Scalar: TypeAlias = Float[Tensor, ""]
Batch: TypeAlias = Tensor | None
Loss: TypeAlias = Callable[[Tensor, Tensor, Batch], Tensor]
"""A loss takes (lam, theta, batch) and returns a scalar tensor."""


class Estimand(Enum):
    """What a hypergradient is an estimate of; see "The four truths" in the docs."""

    UNROLLED = "unrolled"
    PATHWISE = "pathwise mean"
    GIBBS = "Gibbs"
    IMPLICIT = "implicit"


class Status(Enum):
    """How a computation ended; the text names the remedy."""

    COMPLETED = "completed"
    NOT_CONVERGED = (
        "the iteration used all its steps before it reached its tolerance: allow more steps, or ask "
        "for less"
    )
    CHAIN_DIVERGED = "the inner chain left the finite numbers: lower the step size"
    SERIES_DIVERGED = (
        "the series' terms grow: its scale exceeds 2 / (largest eigenvalue of the inner Hessian), or "
        "the Hessian is indefinite; lower the scale or use a dense solve"
    )
    OUTER_NOT_FINITE = (
        "the outer loss has no finite gradient at this iterate, which is itself finite: mend the outer "
        "loss, or keep the iterates where it is defined"
    )
    SENSITIVITY_DIVERGED = (
        "the iterates stay finite but their sensitivity to lam overflows: lower the step size, or run "
        "fewer steps"
    )


DIVERGED = (
    Status.CHAIN_DIVERGED,
    Status.SERIES_DIVERGED,
    Status.OUTER_NOT_FINITE,
    Status.SENSITIVITY_DIVERGED,
)
"""The statuses under which there is no hypergradient."""


class ErrorKind(Enum):
    """How far the `error` of a value can be trusted."""

    CERTIFIED = "certified"
    ESTIMATED = "estimated"


@final
@dataclass(frozen=True, eq=False)
class Ending:
    """What is known of a hypergradient once its numbers have been looked at.

    Attributes:
        estimate: see `Hypergradient`, as the others.
        status: how the computation ended.
        diverged_at: where it left the finite numbers.
        error: of the estimate.
    """

    estimate: Tensor | None
    status: Status = Status.COMPLETED
    diverged_at: int | None = None
    error: float | None = None


_LATE = tuple(field.name for field in fields(Ending))


@final
@dataclass(frozen=True, eq=False)
class Hypergradient:
    """An estimate of a hypergradient, and all that is known about it.

    Attributes:
        estimate: the vector as computed, shape (p,), or None when it is not finite; `value` is what
            may be relied on.
        estimand: what it estimates.
        theta: the last inner iterate, shape (n,): the warm start for the next outer step.
        status: how the computation ended.
        diverged_at: the step of the chain at which it left the finite numbers, or the first term of the
            series that exceeds its first (for a solve, the iteration that failed).
        error: a bound on or an estimate of ‖value − estimand‖₂, or None when none is known.
        cost: counted derivative evaluations.

    Whether an estimate is finite is a look at its numbers, for which the host waits on a GPU. An estimator
    leaves it to whoever reads `value`, `estimate`, `status`, `diverged_at` or `error` first (`later`). Read
    one of them before λ or `theta` is changed in place, or a divergence is explained by the wrong run.
    """

    estimate: Float[Tensor, " p"] | None
    estimand: Estimand
    theta: Float[Tensor, " n"]
    # By factories: a default would be an attribute of the class, and a late one would never be looked for.
    status: Status = field(default_factory=lambda: Status.COMPLETED)
    diverged_at: int | None = field(default_factory=lambda: None)
    error: float | None = field(default_factory=lambda: None)
    cost: Evaluations = field(default_factory=Evaluations)

    @staticmethod
    def later(
        estimand: Estimand, theta: Theta, cost: Evaluations, look: Callable[[], Ending]
    ) -> "Hypergradient":
        """A hypergradient whose numbers are looked at when it is first read.

        Args:
            estimand: what it estimates.
            theta: the last inner iterate, shape (n,).
            cost: counted derivative evaluations.
            look: finds out how the computation ended; called once, with autograd on.
        """
        made = object.__new__(Hypergradient)
        made.__dict__.update(estimand=estimand, theta=theta, cost=cost, _look=look)
        return made

    def of(self, estimand: Estimand) -> "Hypergradient":
        """The same as an estimate of something else; nothing is looked at for it."""

        def look() -> Ending:
            return Ending(self.estimate, self.status, self.diverged_at, self.error)

        return Hypergradient.later(estimand, self.theta, self.cost, look)

    def _settle(self) -> None:
        """Look, once."""
        look: Callable[[], Ending] | None = self.__dict__.get("_look")
        if look is None:
            return
        # Whoever reads may be inside no_grad(), and an explanation takes derivatives.
        with torch.inference_mode(False), torch.enable_grad():
            ending = look()
        self.__dict__.update({name: getattr(ending, name) for name in _LATE})
        del self.__dict__["_look"]

    def __getstate__(self) -> dict[str, object]:
        """All fields: a function that looks can be neither copied nor written to a file."""
        self._settle()
        return dict(self.__dict__)

    if not TYPE_CHECKING:  # the fields are declared above; any other name stays an error

        def __getattr__(self, name: str) -> object:
            """A field that is not there yet."""
            if name in _LATE and "_look" in self.__dict__:
                self._settle()
                return self.__dict__[name]
            raise AttributeError(f"Hypergradient has no attribute {name!r}")

    @property
    def value(self) -> Float[Tensor, " p"]:
        """The hypergradient, shape (p,).

        Raises:
            DivergenceError: if the computation diverged; it carries the step.
        """
        if self.estimate is None or self.status in DIVERGED:
            step = -1 if self.diverged_at is None else self.diverged_at
            message = f"there is no hypergradient: diverged at step {step}; {self.status.value}"
            raise DivergenceError(message, step)
        return self.estimate


@final
@dataclass(frozen=True, eq=False)
class Truth:
    """What an oracle answers: a value and how far it can be off.

    Attributes:
        value: the vector, shape (p,).
        error: bound on or estimate of the Euclidean norm of its error.
        kind: whether `error` is certified (a rigorous bound) or estimated.
        estimand: what it is the truth of.
        oracle: the oracle's name.
    """

    value: Float[Tensor, " p"]
    error: float
    kind: ErrorKind
    estimand: Estimand
    oracle: str
