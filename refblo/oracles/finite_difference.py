"""Finite differences of the program with frozen draws (common random numbers).

The function that is differenced is λ ↦ (1/M) Σ_{m>B} f(λ, θ^m(λ)), run from the start for every λ
with the same noise and the same batches. It needs first derivatives of the inner loss alone. The error is
an estimate: scipy.differentiate's own, plus what the measured rounding noise of the program can do to
the difference (see `_differences`).

Claims: eq-49.
"""

from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch

from refblo.chain import Chain
from refblo.derivatives.differences import (
    Differences,
    batched_derivatives,
    one_by_one,
    random_directions,
)
from refblo.errors import DivergenceError, OracleError, require
from refblo.noise import SEED_ZERO, Draws
from refblo.oracles._along import along_directions
from refblo.oracles._programs import program_value, program_values
from refblo.oracles.protocol import (
    PROGRAMS,
    DirectionalTruth,
    check_applies,
    program_schedule,
)
from refblo.problems.case import Case
from refblo.types import ErrorKind, Estimand, Truth
from refblo.validation import check_arguments


@final
@dataclass(frozen=True)
class FiniteDifference:
    """Central differences of order 8 with frozen draws.

    Args:
        largest: the largest p of which all entries are computed, each some 25 runs of the program; beyond
            it use `directional`.
        batched: run many λ side by side by torch.func.vmap; else one after another, for losses that
            vmap cannot take.

    Raises:
        ArgumentError: if `largest` is less than 1.
    """

    largest: int = 16
    batched: bool = True
    name: str = field(default="finite differences", kw_only=True)

    def __post_init__(self) -> None:
        require(self.largest >= 1, "largest", "be at least 1", self.largest, "keep the default")

    def applies(self, case: Case, estimand: Estimand) -> bool:
        """For programs with few hyperparameters."""
        return estimand in PROGRAMS and case.lam.numel() <= self.largest

    def truth(self, case: Case, estimand: Estimand, draws: Draws = SEED_ZERO) -> Truth:
        """The derivative of the program with these draws, shape (p,), with an estimated error.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a case that cannot be used.
            DivergenceError: if the chain leaves the finite numbers.
            OracleError: if the objective is not finite around λ.
        """
        check_applies(self, case, estimand)
        directions = torch.eye(case.lam.numel(), dtype=torch.float64)
        found = self._differences(case, estimand, directions, draws)
        value = torch.as_tensor(found.values).to(case.lam)
        error = float(np.linalg.norm(found.errors))
        return Truth(value, error, ErrorKind.ESTIMATED, estimand, self.name)

    def directional(
        self, case: Case, estimand: Estimand, count: int = 4, draws: Draws = SEED_ZERO
    ) -> tuple[DirectionalTruth, ...]:
        """The derivatives along `count` random directions of length 1, for any p.

        Raises:
            ArgumentError, ArgumentTypeError, LossError, DivergenceError, OracleError: as `truth`.
        """
        require(count >= 1, "count", "be at least 1", count, "ask for at least one direction")
        directions = random_directions(case.lam.numel(), count, draws)
        found = self._differences(case, estimand, directions, draws)
        return along_directions(found, directions, case, estimand, self.name)

    def _differences(
        self, case: Case, estimand: Estimand, directions: torch.Tensor, draws: Draws
    ) -> Differences:
        schedule, lam = program_schedule(case, estimand), case.lam.detach()
        check_arguments(case.problem, lam, draws)
        precision = float(torch.finfo(lam.dtype).eps)
        point, single = lam.cpu().double(), program_value(case, schedule, draws)
        function = program_values(case, schedule, draws) if self.batched else one_by_one(single)
        try:
            found = batched_derivatives(function, point, directions, draws, precision)
        except OracleError as error:
            step = Chain(case.problem, case.dynamics, draws).first_non_finite(lam, schedule.steps)
            if step is None:
                raise
            message = (
                f"step_size must keep the inner run finite, got {case.dynamics.step_size}: the chain left "
                f"the finite numbers at step {step}; lower it"
            )
            raise DivergenceError(message, step) from error
        # The batch is another program until it is seen to compute the same.
        alone, together = single(point), float(function(point[None])[0])
        if not abs(alone - together) <= 2 * found.noise:
            raise OracleError(
                f"inner and outer must compute the same under torch.func.vmap, got {alone} for one run and "
                f"{together} for the same run in a batch; use FiniteDifference(batched=False)"
            )
        return found
