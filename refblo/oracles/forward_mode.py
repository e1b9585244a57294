"""Exact forward mode: the truth of the unrolled and the pathwise estimand up to rounding.

Along the chain θ^t = θ^{t−1} − γ ∂_θ L_T(λ, θ^{t−1}) + √ε κ z^{t−1} the tangent s_t = dθ^t/dλ obeys
eq. (50), s_t = (I − γ H) s_{t−1} − γ C, and the answer is (1/M) Σ_{m>B} (f_λ + f_θ s_m). Only forward
derivatives are used: the inner gradient and its tangent by torch.func, the outer loss by
Jacobian-vector products; nothing is shared with the estimators.

The rounding error is estimated by Monte Carlo arithmetic (Parker 1997). Replicas of the run go along
in which λ, θ and s are perturbed before every derivative evaluation, and its results after it, each
entry by its own random relative amount, uniform on ±ulp: twice what one operation rounds by, because an
evaluation is more than one operation. The error reported is

    10 · (mean_r ‖value_r − value‖²)^{1/2} + ulp ‖value‖.

Were the true error a draw from the replicas' distribution, Gaussian and on one entry alone (the
worst case), the ratio of the two would follow Student's t with as many degrees of freedom as
there are replicas: with 8 replicas it exceeds 10 with probability below 10⁻⁵. What the replicas cannot
see is cancellation between constants inside a loss that neither λ nor θ take part in.

Claims: eq-50, eq-51.
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.chain import Chain, Langevin, Schedule
from refblo.derivatives import (
    gradient_and_tangent,
    gradient_and_tangents,
    initial_jvp,
    outer_directional,
)
from refblo.derivatives.rounding import SAFETY, Perturbation, deviation, ulp
from refblo.errors import DivergenceError, require
from refblo.noise import SEED_ZERO, Draws, Stream
from refblo.oracles.protocol import (
    PROGRAMS,
    DirectionalTruth,
    check_applies,
    program_schedule,
)
from refblo.problem import BilevelProblem
from refblo.problems.case import Case
from refblo.types import Batch, ErrorKind, Estimand, Lam, Truth
from refblo.validation import check_arguments, check_vector

_PROBES = 8
"""In how many directions the replicas are differentiated where λ has more entries than that. Eight replicas
in eight directions give the deviation's norm to a tenth of itself."""

# Each step has four perturbations: before and after the inner and the outer derivatives.
_STAGES = 4


@final
@dataclass(frozen=True)
class ForwardMode:
    """Forward mode with the dense tangent.

    Args:
        block: how many columns of the tangent are carried at once; None for all.
        replicas: how many perturbed runs estimate the rounding error. They run side by side, so memory is
            O(n · (block + 8 · replicas)).

    Raises:
        ArgumentError: if `block` or `replicas` is less than 1.
    """

    block: int | None = None
    replicas: int = 8
    name: str = field(default="forward mode", kw_only=True)

    def __post_init__(self) -> None:
        block = self.block
        require(
            block is None or block >= 1,
            "block",
            "be at least 1",
            block,
            "use at least one column at a time",
        )
        require(self.replicas >= 1, "replicas", "be at least 1", self.replicas, "keep the default")

    def applies(self, case: Case, estimand: Estimand) -> bool:  # noqa: ARG002
        """Every program has an exact derivative."""
        return estimand in PROGRAMS

    def truth(self, case: Case, estimand: Estimand, draws: Draws = SEED_ZERO) -> Truth:
        """The derivative of the program with these draws, shape (p,), with its estimated rounding error.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a case that cannot be used.
            DivergenceError: if the chain or its tangent leaves the finite numbers.
        """
        check_applies(self, case, estimand)
        problem, lam, schedule = case.problem, case.lam.detach(), program_schedule(case, estimand)
        check_arguments(problem, lam, draws)
        run = partial(_columns, problem, lam, case.dynamics, schedule, draws)
        p, eye = lam.numel(), torch.eye(lam.numel(), dtype=lam.dtype, device=lam.device)
        block = p if self.block is None else min(self.block, p)
        if block <= _PROBES:
            columns = [run(part, self.replicas) for part in torch.split(eye, block, dim=1)]
            runs, probed = torch.cat(columns, dim=1), p
            value = runs[0]
        else:
            value = torch.cat([run(part, 0)[0] for part in torch.split(eye, block, dim=1)])
            runs, probed = run(_probes(draws, lam), self.replicas), _PROBES
        if not bool(torch.isfinite(runs).all() & torch.isfinite(value).all()):
            raise _divergence(Chain(problem, case.dynamics, draws), lam, schedule.steps)
        # The probes see a p-th of the squared norm each, in the mean.
        spread = deviation(runs) * math.sqrt(p / probed)
        error = SAFETY * spread + ulp(lam) * float(torch.linalg.vector_norm(value))
        return Truth(value, error, ErrorKind.ESTIMATED, estimand, self.name)


def _columns(
    problem: BilevelProblem,
    lam: Lam,
    dynamics: Langevin,
    schedule: Schedule,
    draws: Draws,
    directions: Float[Tensor, "p k"],
    replicas: int,
) -> Float[Tensor, "runs k"]:
    """The derivatives along the directions: of the run itself in row 0, of the replicas in the others."""
    runs = replicas + 1
    columns = [initial_jvp(problem.initial, lam, column) for column in directions.unbind(1)]
    lams = lam.expand(runs, -1)
    theta = problem.initial(lam).detach().expand(runs, -1)
    tangent = torch.stack(columns, dim=1).expand(runs, -1, -1)
    total = torch.zeros(runs, directions.shape[1], dtype=lam.dtype, device=lam.device)
    perturb = Perturbation(draws, ulp(lam) if replicas else 0.0, spared=1)
    for t in range(1, schedule.steps + 1):
        batch = problem.inner_batches(draws, Stream.INNER_BATCH, t - 1)
        point = perturb(_STAGES * t, lams, theta, tangent)
        gradient, change = perturb(_STAGES * t + 1, *_inner(problem, batch, directions, *point))
        theta = theta - dynamics.step_size * gradient + _noise(dynamics, draws, t - 1, theta[0])
        tangent = tangent - dynamics.step_size * change
        if schedule.sampled(t):
            batch = problem.outer_batches(draws, Stream.OUTER_BATCH, t)
            point = perturb(_STAGES * t + 2, lams, theta, tangent)
            total = total + perturb(_STAGES * t + 3, _outer(problem, batch, directions, *point))[0]
    return total / schedule.samples


def _probes(draws: Draws, lam: Lam) -> Float[Tensor, "p k"]:
    """Random orthonormal directions."""
    like = torch.empty(lam.numel(), _PROBES, dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(draws.normal(Stream.DIRECTIONS, 0, like))[0]
    return basis.to(lam)


@final
@dataclass(frozen=True)
class ForwardModeDirectional:
    """Forward mode along one direction: one tangent, O(n) memory at any p.

    Args:
        replicas: how many perturbed runs, one after another, estimate the rounding error.

    Raises:
        ArgumentError: if `replicas` is less than 1.
    """

    replicas: int = 8
    name: str = field(default="forward mode, one direction", kw_only=True)

    def __post_init__(self) -> None:
        require(self.replicas >= 1, "replicas", "be at least 1", self.replicas, "keep the default")

    def derivative(
        self, case: Case, estimand: Estimand, direction: Lam, draws: Draws = SEED_ZERO
    ) -> DirectionalTruth:
        """The derivative along `direction`, u, shape (p,).

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a case or direction that cannot be used.
            DivergenceError: if the chain or its tangent leaves the finite numbers.
        """
        schedule = program_schedule(case, estimand)
        lam = case.lam.detach()
        check_arguments(case.problem, lam, draws)
        direction = check_direction(direction, lam)
        runs = torch.stack(
            [
                self._run(case.problem, lam, case.dynamics, schedule, draws, direction, replica)
                for replica in range(self.replicas + 1)
            ]
        )
        if not bool(torch.isfinite(runs).all()):
            raise _divergence(Chain(case.problem, case.dynamics, draws), lam, schedule.steps)
        value = runs[0].item()
        error = SAFETY * deviation(runs.unsqueeze(1)) + ulp(lam) * abs(value)
        return DirectionalTruth(direction, value, error, ErrorKind.ESTIMATED, estimand, self.name)

    def _run(
        self,
        problem: BilevelProblem,
        lam: Lam,
        dynamics: Langevin,
        schedule: Schedule,
        draws: Draws,
        direction: Lam,
        replica: int,
    ) -> Float[Tensor, ""]:
        theta = problem.initial(lam).detach()
        tangent = initial_jvp(problem.initial, lam, direction)
        total = torch.zeros((), dtype=lam.dtype, device=lam.device)
        perturb = Perturbation(draws, ulp(lam) if replica > 0 else 0.0)
        for t in range(1, schedule.steps + 1):
            stage = _STAGES * (replica * (schedule.steps + 1) + t)
            batch = problem.inner_batches(draws, Stream.INNER_BATCH, t - 1)
            at_lam, at_theta, s = perturb(stage, lam, theta, tangent)
            gradient, change = perturb(
                stage + 1,
                *gradient_and_tangent(problem.inner, at_lam, at_theta, batch, direction, s),
            )
            theta = theta - dynamics.step_size * gradient + _noise(dynamics, draws, t - 1, theta)
            tangent = tangent - dynamics.step_size * change
            if schedule.sampled(t):
                batch = problem.outer_batches(draws, Stream.OUTER_BATCH, t)
                at_lam, at_theta, s = perturb(stage + 2, lam, theta, tangent)
                slope = outer_directional(problem.outer, at_lam, at_theta, batch, direction, s)
                total = total + perturb(stage + 3, slope)[0]
        return total / schedule.samples


def check_direction(direction: Tensor, lam: Lam) -> Lam:
    """The direction in λ's dtype and device.

    Raises:
        ArgumentError, ArgumentTypeError: unless it is a finite vector of λ's length.
    """
    check_vector("direction", direction)
    require(
        direction.shape == lam.shape,
        "direction",
        f"have the shape of lam {tuple(lam.shape)}",
        tuple(direction.shape),
        "give one number for each hyperparameter",
    )
    return direction.detach().to(lam)


def _noise(dynamics: Langevin, draws: Draws, step: int, like: Tensor) -> Tensor:
    """√ε κ z of one transition."""
    if dynamics.noise == 0:
        return torch.zeros_like(like)
    return dynamics.noise * draws.normal(Stream.LANGEVIN, step, like)


def _inner(
    problem: BilevelProblem,
    batch: Batch,
    directions: Float[Tensor, "p k"],
    lams: Float[Tensor, "runs p"],
    thetas: Float[Tensor, "runs n"],
    tangents: Float[Tensor, "runs n k"],
) -> tuple[Float[Tensor, "runs n"], Float[Tensor, "runs n k"]]:
    """The inner gradient and H S + C U of every run."""

    def one(lam: Tensor, theta: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        return gradient_and_tangents(problem.inner, lam, theta, batch, directions, tangent)

    result: tuple[Tensor, Tensor] = torch.func.vmap(one)(lams, thetas, tangents)
    return result


def _outer(
    problem: BilevelProblem,
    batch: Batch,
    directions: Float[Tensor, "p k"],
    lams: Float[Tensor, "runs p"],
    thetas: Float[Tensor, "runs n"],
    tangents: Float[Tensor, "runs n k"],
) -> Float[Tensor, "runs k"]:
    """f_λ U + f_θ S of every run."""

    def one(lam: Tensor, theta: Tensor, u: Tensor, s: Tensor) -> Tensor:
        return outer_directional(problem.outer, lam, theta, batch, u, s)

    columns = torch.func.vmap(one, in_dims=(None, None, 1, 1))
    return torch.func.vmap(columns, in_dims=(0, 0, None, 0))(lams, thetas, directions, tangents)


def _divergence(chain: Chain, lam: Lam, steps: int) -> DivergenceError:
    """The error that says at which step the run left the finite numbers."""
    step = chain.first_non_finite(lam, steps)
    what = "the inner chain"
    if step is None:
        step, what = steps, "the tangent (though not the chain)"
    return DivergenceError(
        f"step_size must keep the inner run finite, got {chain.dynamics.step_size}: {what} left the finite "
        f"numbers at step {step}; lower it",
        step,
    )
