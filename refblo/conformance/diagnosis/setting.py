"""What a family of mistakes may use, and what it yields."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.conformance.diagnosis.trace import Sweep, Trace, numpy_of, sweep
from refblo.conformance.truth.program import Program
from refblo.conformance.truth.reference import Reference
from refblo.conformance.truth.stationary import Linear, linearise
from refblo.errors import OracleError
from refblo.types import Estimand

Array = np.ndarray


@final
@dataclass(frozen=True, eq=False)
class Candidate:
    """What an implementation with a certain mistake returns.

    Attributes:
        name: of the mistake, the same wherever it is found.
        vector: the wrong hypergradient, shape (p,).
        text: what it means, for a reader; the name when empty.
        fitted: how many numbers were chosen to fit what was observed.
    """

    name: str
    vector: Float64[Array, " p"]
    text: str = ""
    fitted: int = 0


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
    """

    program: Program
    estimand: Estimand
    reference: Reference
    terms: int | None = None
    shapes: tuple[tuple[int, ...], ...] = ()
    _kept: dict[Callable[["Subject"], Iterable[Candidate]], tuple[Candidate, ...]] = field(
        default_factory=dict
    )

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
        """The implicit problem at its root; None where there is none."""
        try:
            return linearise(self.program)
        except OracleError:
            return None

    @cached_property
    def direct(self) -> Float64[Array, " p"]:
        """The right direct term."""
        if self.implicit and self.root is not None:
            return numpy_of(self.root.direct)
        return self.trace.direct()

    @cached_property
    def indirect(self) -> Float64[Array, " p"]:
        """The right indirect term."""
        if self.implicit and self.root is not None:
            return numpy_of(self.root.indirect())
        return self.sweep.total

    @property
    def truth(self) -> Float64[Array, " p"]:
        """The right hypergradient."""
        total: Array = self.direct + self.indirect
        return total

    @property
    def step_size(self) -> float | None:
        """γ, where the rule is known."""
        return None if self.program.losses is None else self.program.losses.rule.step_size

    def kept(self, family: Callable[["Subject"], Iterable[Candidate]]) -> tuple[Candidate, ...]:
        """A family's candidates, which do not depend on what was observed."""
        if family not in self._kept:
            self._kept[family] = tuple(family(self))
        return self._kept[family]


@final
@dataclass(frozen=True, eq=False)
class Setting:
    """What was observed.

    Attributes:
        subject: what it should have been.
        observed: the hypergradient that was returned, shape (p,).
        earlier: (λ, returned) of the calls made before, in order.
        again: calls the implementation once more, at a λ near by; None where it cannot be called.
        accuracy: a bound on what rounding does to the observed vector along the directions.
    """

    subject: Subject
    observed: Float64[Array, " p"]
    earlier: tuple[tuple[Float64[Array, " p"], Float64[Array, " p"]], ...] = ()
    again: Callable[[Array], Array] | None = None
    accuracy: float = 0.0

    def along(self, vector: Float64[Array, " p"]) -> Float64[Array, " k"]:
        """A vector's components along the reference's directions."""
        return self.subject.reference.of(vector)
