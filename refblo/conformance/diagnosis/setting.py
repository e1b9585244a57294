"""What a family of mistakes may use, and what it yields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import numpy as np
import torch
from jaxtyping import Float64

from refblo.conformance.diagnosis.asked import Asked
from refblo.conformance.diagnosis.gibbs import Density
from refblo.conformance.diagnosis.mistakes import Mistake, Place
from refblo.conformance.diagnosis.trace import Sweep, Trace, numpy_of, sweep
from refblo.conformance.truth.program import Program
from refblo.conformance.truth.reference import Reference
from refblo.conformance.truth.stationary import Linear, linearise
from refblo.errors import OracleError
from refblo.noise import Draws, Stream
from refblo.types import Estimand

Array = np.ndarray

_SMALL_ROOT = 128
"""Entries of the state up to which the implicit problem beside a run's derivative is solved."""

_ALL_COORDINATES = 512
"""Hyperparameters up to which vectors are compared in every coordinate."""

_MORE_DIRECTIONS = 13
_ANOTHER = 1e-2
"""The relative difference from which on two hypergradients of one program are not one."""

_UNITS = 64 * float(np.finfo(np.float64).eps)


@final
@dataclass(frozen=True, eq=False)
class Candidate:
    """What an implementation with a certain mistake returns.

    Attributes:
        mistake: which one.
        vector: the wrong hypergradient, shape (p,).
        text: what it means here, for a reader; what the mistake is in general when empty.
        fitted: how many numbers were chosen to fit what was observed.
        place: which part of the hypergradient it is in.
    """

    mistake: Mistake
    vector: Float64[Array, " p"]
    text: str = ""
    fitted: int = 0
    place: Place = Place.WHOLE

    @property
    def name(self) -> str:
        """As a report prints it."""
        return self.mistake.at(self.place)


@final
@dataclass(frozen=True, eq=False)
class Probes:
    """Where vectors are compared.

    Attributes:
        directions: columns, shape (p, k); None for all coordinates.
        truth: the right hypergradient along them.
    """

    directions: Float64[Array, "p k"] | None
    truth: Float64[Array, " k"]


@final
@dataclass(frozen=True, eq=False)
class Subject:
    """A program with its truth, and what every diagnosis of it needs; computed once.

    Attributes:
        program: the program.
        estimand: what is asked for.
        reference: the truth.
        terms: the number of terms or iterations that the implementation declares for its solve.
        shapes: of the tensors that θ is made of, where they are known.
        whole: whether the losses take the batch None as all data. Without it no loss that was given
            batches is called with None.
    """

    program: Program
    estimand: Estimand
    reference: Reference
    terms: int | None = None
    shapes: tuple[tuple[int, ...], ...] = ()
    whole: bool = False
    kept: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)
    """Families' candidates that do not depend on what was observed."""

    @property
    def implicit(self) -> bool:
        """Whether the estimand is the implicit one."""
        return self.estimand is Estimand.IMPLICIT

    @cached_property
    def trace(self) -> Trace:
        """The run's linearisation."""
        return Trace.of(self.program)

    @cached_property
    def sweep(self) -> Sweep:
        """The right adjoint sweep."""
        return sweep(self.trace)

    @cached_property
    def root(self) -> Linear | None:
        """The implicit problem at its root; None where there is none, or it would take too long to find.

        Where the implicit hypergradient is not what is asked for, it is worth only a small solve.
        """
        if not self.implicit and self.program.start(self.program.lam).numel() > _SMALL_ROOT:
            return None
        try:
            return linearise(self.program)
        except (OracleError, RuntimeError):
            return None

    @cached_property
    def direct(self) -> Float64[Array, " p"]:
        """The right direct term."""
        if self.estimand is Estimand.GIBBS:
            return self.density.direct
        if self.implicit and self.root is not None:
            return numpy_of(self.root.direct)
        return self.trace.direct()

    @cached_property
    def indirect(self) -> Float64[Array, " p"]:
        """The right indirect term."""
        if self.estimand is Estimand.GIBBS:
            return self.density.indirect
        if self.implicit and self.root is not None:
            return numpy_of(self.root.indirect())
        return self.sweep.total

    @property
    def truth(self) -> Float64[Array, " p"]:
        """The right hypergradient."""
        total: Array = self.direct + self.indirect
        return total

    @cached_property
    def agrees(self) -> bool:
        """Whether the adjoint sweep gives the reference's value: then `truth` may be used for all of λ."""
        return self._within(_UNITS)

    @cached_property
    def contradicted(self) -> bool:
        """Whether autograd gives another value than the truth: then no mistake can be computed by it.

        So with `.data`, which autograd does not see and torch.func does, or with a wrong `backward`.
        """
        if self.estimand is Estimand.GIBBS or self.reference.scale <= np.linalg.norm(
            self.reference.dust
        ):
            return False
        return not self._within(_ANOTHER)

    def _within(self, share: float) -> bool:
        reference = self.reference
        if not np.isfinite(self.truth).all():
            return False
        gap = float(np.linalg.norm(reference.of(self.truth) - reference.value))
        noise = float(np.linalg.norm(reference.rounding + reference.error))
        return gap <= 10 * noise + share * reference.scale

    @cached_property
    def probes(self) -> Probes:
        """All coordinates of a small λ; the reference's directions and some more of a large one."""
        reference, p = self.reference, self.program.lam.numel()
        if reference.exhaustive:
            return Probes(None, reference.value)
        try:
            agrees = self.agrees
        except Exception:  # of the caller's functions: the reference's directions are there
            agrees = False
        if not agrees:
            return Probes(reference.directions, reference.value)
        if p <= _ALL_COORDINATES:
            return Probes(None, self.truth)
        columns = [
            Draws(0)
            .normal(Stream.DIRECTIONS, 1000 + j, torch.empty(p, device="cpu"))
            .double()
            .numpy()
            for j in range(_MORE_DIRECTIONS)
        ]
        more = np.stack([column / np.linalg.norm(column) for column in columns], axis=1)
        return Probes(
            np.concatenate([reference.directions, more], axis=1),
            np.concatenate([reference.value, self.truth @ more]),
        )

    @cached_property
    def density(self) -> Density:
        """The Gibbs hypergradient by its two terms."""
        return Density.of(self.program)

    @property
    def step_size(self) -> float | None:
        """γ, where the rule is known and γ is a number."""
        losses = self.program.losses
        return None if losses is None else losses.rule.constant_step_size

    @property
    def weight_decay(self) -> float:
        """w, where the rule is known and w is a number; 0 where it is not."""
        losses = self.program.losses
        number: object = 0.0 if losses is None else losses.rule.weight_decay
        return float(number) if isinstance(number, int | float) else 0.0


@final
@dataclass(frozen=True, eq=False)
class Setting:
    """What was observed.

    Attributes:
        subject: what it should have been.
        observed: the hypergradient that was returned, shape (p,).
        earlier: (λ, returned) of the calls made before, in order.
        later: (λ, returned) of the calls made afterwards.
        again: calls the implementation once more, at a λ near by; None where it cannot be called.
        seconds: how long a call takes.
        accuracy: a bound on what rounding does to the observed vector along the reference's directions.
        blocks: named parts of λ.
    """

    subject: Subject
    observed: Float64[Array, " p"]
    earlier: tuple[tuple[Float64[Array, " p"], Float64[Array, " p"]], ...] = ()
    later: tuple[tuple[Float64[Array, " p"], Float64[Array, " p"]], ...] = ()
    again: Callable[[Array], Array] | None = None
    seconds: float = 0.0
    accuracy: float = 0.0
    blocks: Mapping[str, slice] = field(default_factory=dict)

    def along(self, vector: Float64[Array, " p"]) -> Float64[Array, " k"]:
        """A vector's components along the directions in which vectors are compared."""
        probes = self.subject.probes.directions
        projected: Array = vector if probes is None else vector @ probes
        return projected

    @cached_property
    def asked(self) -> Asked | None:
        """The implementation with the answers that are known; None where it cannot be called."""
        if self.again is None:
            return None
        judged = (numpy_of(self.subject.program.lam), self.observed)
        return Asked(self.again, (judged, *self.earlier, *self.later), self.seconds)

    @cached_property
    def seen(self) -> Float64[Array, " k"]:
        """What was observed, along these directions."""
        return self.along(self.observed)

    @property
    def truth(self) -> Float64[Array, " k"]:
        """What it should be along them."""
        return self.subject.probes.truth

    @cached_property
    def error(self) -> float:
        """‖observed − truth‖ along them."""
        return float(np.linalg.norm(self.seen - self.truth))

    @cached_property
    def noise(self) -> float:
        """What rounding does to a vector along them: at least some units of float64."""
        share = np.sqrt(self.seen.size / self.subject.reference.value.size)
        size = max(self.subject.reference.scale, float(np.linalg.norm(self.seen)))
        return max(float(share) * self.accuracy, _UNITS * size)
