"""What each call of a caller's function is judged by: the truth at its λ, from the θ it started at."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.conformance.arguments import FlatProblem
from refblo.conformance.calls import Call
from refblo.conformance.diagnosis import Subject
from refblo.conformance.truth.expectation import gibbs_truth
from refblo.conformance.truth.ladder import Rung
from refblo.conformance.truth.program import Program
from refblo.conformance.truth.reference import LARGE, Reference, reference
from refblo.errors import OracleError
from refblo.noise import Draws, Stream
from refblo.types import Estimand

Array = np.ndarray

ALL_COORDINATES = 32
"""Up to how many hyperparameters every coordinate is checked unless directions are asked for."""

DIRECTIONS = 3
"""Random directions that are taken for more hyperparameters."""

MORE_DIRECTIONS = 16
"""Random directions where a tolerance or a floor is given. What right code stays below but for one run in a
million is √(q/k) times its tolerance, with q the upper quantile of χ²_k: an error of five times the tolerance
is missed along 3 directions in one of four cases, along 16 in one of 30 000."""

MOST_BLOCKS = 8
"""Up to how many tensors of a large λ get a direction of their own."""


@final
@dataclass(frozen=True, eq=False)
class Directions:
    """Along what a hypergradient is judged.

    Attributes:
        columns: of norm one, shape (p, k): all coordinates, or random directions of all of λ followed by one
            inside each block.
        exhaustive: whether they are all coordinates.
        whole: how many are directions of all of λ.
        blocks: the parts of λ that are judged by themselves.
        unjudged: how many parts are not.
    """

    columns: Float64[Array, "p k"]
    exhaustive: bool
    whole: int
    blocks: dict[str, slice]
    unjudged: int = 0


def directions_for(
    problem: FlatProblem, asked: int | None, draws: Draws, *, declared: bool = False
) -> Directions:
    """All coordinates of a small λ, or random directions.

    Args:
        problem: the caller's.
        asked: how many random directions are asked for.
        draws: of the directions.
        declared: whether a tolerance or a floor is given, which takes more directions to keep to.
    """
    p = problem.lam.numel()
    blocks = problem.blocks if len(problem.blocks) > 1 else {}
    if asked is None and p <= ALL_COORDINATES:
        return Directions(np.eye(p), True, p, blocks)
    more = declared and p <= LARGE
    count = (MORE_DIRECTIONS if more else DIRECTIONS) if asked is None else asked
    drawn = [
        draws.normal(Stream.DIRECTIONS, 10 + j, problem.lam).double().cpu().numpy()
        for j in range(count)
    ]
    unjudged = len(blocks) if len(blocks) > MOST_BLOCKS else 0
    blocks = {} if unjudged else blocks
    for where in blocks.values():
        # The first direction again, inside the block.
        inside = np.zeros(p)
        inside[where] = drawn[0][where]
        drawn.append(inside)
    columns = np.stack([column / np.linalg.norm(column) for column in drawn], axis=1)
    return Directions(columns, False, count, blocks, unjudged)


@final
@dataclass(frozen=True, eq=False)
class Truths:
    """The truth at any call.

    Attributes:
        problem: the caller's.
        estimand: what is asked for.
        directions: along which.
        seed: of the oracles' own randomness.
        terms: what the method declares of its solve.
    """

    problem: FlatProblem
    estimand: Estimand
    directions: Directions
    seed: int
    terms: int | None

    @cached_property
    def here(self) -> Subject:
        """At λ, from θ⁰, confirmed by a second oracle.

        Raises:
            OracleError: if there is none.
        """
        program = self.problem.program
        if self.estimand is Estimand.GIBBS:
            return self._subject(program, self._gibbs(program))
        found = reference(
            program,
            self.estimand,
            self.directions.columns,
            exhaustive=self.directions.exhaustive,
            draws=Draws(self.seed),
            ulp=self.problem.ulp,
            runs=4 if self.directions.exhaustive else 2,
        )
        return self._subject(program, found)

    def at(self, call: Call) -> Subject | None:
        """At a call's λ and start; None where there is no truth at a point near λ."""
        program = self._program_of(call.start)
        lam = torch.as_tensor(call.lam, device="cpu").to(program.lam)
        if program is self.problem.program and torch.equal(lam, program.lam):
            return self.here
        try:
            return self._subject(program.at(lam), self._elsewhere(program.at(lam)))
        except OracleError:
            return None

    def _program_of(self, start: Tensor | None) -> Program:
        program = self.problem.program
        if start is None:
            return program
        own = program.start(program.lam).detach()[: start.numel()]
        return program if torch.equal(own, start) else self.problem.from_state(start).program

    def _elsewhere(self, program: Program) -> Reference:
        """The truth at another λ, unconfirmed; of a large λ along one direction alone."""
        if self.estimand is Estimand.GIBBS:
            return self._gibbs(program)
        base, large = self.here.reference, program.lam.numel() > LARGE
        found = reference(
            program,
            self.estimand,
            self.directions.columns[:, :1] if large else self.directions.columns,
            exhaustive=self.directions.exhaustive,
            draws=Draws(0),
            ulp=self.problem.ulp,
            runs=0 if large else 2,
            confirm=0,
            first=base.rung,
        )
        # What differences at λ say of a truth of zero holds nearby as well; here none are taken.
        dust = np.maximum(found.dust, base.dust[: found.dust.size])
        found = replace(found, dust=dust)
        if not large:
            return found
        # No replica: rounding is taken to be what it is at λ, relative to the truth.
        ratio = float(np.max(base.rounding)) / base.scale if base.scale > 0 else 0.0
        return replace(found, rounding=np.maximum(found.rounding, ratio * found.scale))

    def _gibbs(self, program: Program) -> Reference:
        """The Gibbs truth in the same form."""
        truth, apart = gibbs_truth(program)
        value: Array = truth.value.numpy()
        error = np.full(value.size, truth.error / np.sqrt(value.size))
        rounding = self.problem.ulp * np.abs(value)
        return Reference(
            directions=self.directions.columns,
            exhaustive=True,
            direct=np.zeros_like(value),
            indirect=value,
            rounding=rounding,
            error=error,
            confirmed=apart,
            rung=Rung.QUADRATURE,
            dust=rounding,
        )

    def _subject(self, program: Program, found: Reference) -> Subject:
        shapes = tuple(tuple(shape) for shape in self.problem.state_form.shapes.values())
        return Subject(program, self.estimand, found, self.terms, shapes)
