"""How the derivative of a caller's program is found: the first of several ways that works on it.

From the top: for a large λ, tangents by reverse mode and the symmetry of second derivatives (`symmetric`);
torch.func's transforms batched over tangents; forward mode for one tangent; the derivative of the reverse
pass by its weight; reverse mode; differences. A way that raises anything, or gives what is
not finite, or what differences refute, is passed over. The last two are weaker evidence, and a report
says so: reverse mode is how most people compute the hypergradient themselves, and differences know fewer
digits.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import final

from jaxtyping import Float
from torch import Tensor

from refblo.conformance.rounded import RoundedValuesError
from refblo.conformance.truth.adjoint import adjoint, along, replicated
from refblo.conformance.truth.program import Program
from refblo.conformance.truth.symmetric import by_symmetry, is_for
from refblo.conformance.truth.tangent import (
    Parts,
    Pusher,
    directional,
    push_by_reverse,
    push_forward,
)
from refblo.noise import Draws


class Rung(Enum):
    """A way to differentiate a program; the value is a sentence about what it is worth."""

    SYMMETRIC = (
        "exact differentiation by tangents, their Hessian products by reverse mode and compared with forward "
        "mode at some steps"
    )
    BATCHED = "exact differentiation by torch.func, all tangents side by side"
    FORWARD = "exact differentiation by forward mode, one tangent after another"
    DOUBLE_REVERSE = "exact differentiation by reverse mode twice (an operation lacks forward mode)"
    REVERSE = (
        "reverse mode, which is how the hypergradient itself may be computed: it counts only because "
        "differences confirm it (nothing in the losses can be differentiated in another way)"
    )
    DIFFERENCES = (
        "differences of the outer objective alone, which nothing confirms (torch cannot differentiate "
        "the losses twice)"
    )
    SOLVE = "a dense solve at the minimiser"
    OBJECTIVE = "differences of the objective, which is all that is known of the run"
    QUADRATURE = "two quadratures over theta, by the covariance identity and by differences"

    @property
    def sentence(self) -> str:
        """What it is worth."""
        return str(self.value)


_PUSHERS: dict[Rung, Pusher | None] = {
    Rung.BATCHED: None,
    Rung.FORWARD: push_forward,
    Rung.DOUBLE_REVERSE: push_by_reverse,
}


@final
@dataclass(frozen=True, eq=False)
class Ladder:
    """The derivatives of a program along directions, by one way after another.

    Attributes:
        program: the program.
        directions: columns u.
        draws: the draws of the perturbations.
        ulp: the relative size of a perturbation.
        replicas: how many perturbed runs.
        first: the way to begin with. Differences refuted those above it at another point of the same run,
            where they may have given finite values that are wrong, as forward mode does on TorchScript.
        failures: what the ways that were passed over raised, by name.
    """

    program: Program
    directions: Float[Tensor, "p k"]
    draws: Draws
    ulp: float
    replicas: int
    first: Rung = Rung.SYMMETRIC
    failures: dict[Rung, str] = field(default_factory=dict)

    def climb(self) -> Iterator[tuple[Rung, Parts]]:
        """The ways that give finite derivatives, from the first one on."""
        ways = list(Rung)
        for rung in ways[ways.index(self.first) : ways.index(Rung.DIFFERENCES)]:
            if rung is Rung.SYMMETRIC and not is_for(self.program, self.directions, self.replicas):
                continue
            try:
                parts = self._by(rung)
            except RoundedValuesError:
                raise  # no other way finds a derivative of such values
            except Exception as error:
                self.failures[rung] = f"{type(error).__name__}: {error}"
                continue
            if parts.finite:
                yield rung, parts
            else:
                self.failures[rung] = "not finite"

    @property
    def infinite(self) -> bool:
        """Whether a way failed because the derivative is not finite."""
        return "not finite" in self.failures.values()

    @property
    def reason(self) -> str:
        """What the last way raised, in one line."""
        told = list(self.failures.values())
        return told[-1].splitlines()[0] if told else "no way was tried"

    def _by(self, rung: Rung) -> Parts:
        if rung is Rung.REVERSE:
            return self._by_sweeps()
        arguments = (self.program, self.directions, self.draws, self.ulp, self.replicas)
        if rung is Rung.SYMMETRIC:
            return by_symmetry(*arguments)
        return directional(*arguments, _PUSHERS[rung])

    def _by_sweeps(self) -> Parts:
        sweeps = [adjoint(self.program)]
        sweeps += replicated(self.program, self.draws, self.ulp, self.replicas)
        return along(sweeps, self.directions)
