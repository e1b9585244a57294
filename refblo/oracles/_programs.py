"""The outer objective of a program as a plain function of λ, its draws frozen."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refblo.chain import Chain, Schedule
from refblo.noise import Draws, Stream
from refblo.problems.case import Case

_CHUNK = 64  # runs at once: bounds the memory that a batch of data for each of them takes


def program_value(case: Case, schedule: Schedule, draws: Draws) -> Callable[[Tensor], float]:
    """λ ↦ F(λ) = (1/M) Σ_{m>B} f(λ, θ^m(λ)) with common random numbers: the same draws for every λ."""
    chain = Chain(case.problem, case.dynamics, draws)

    def value(lam: Tensor) -> float:
        lam, total = lam.to(case.lam), 0.0
        for m, theta in enumerate(chain.iterates(lam, schedule.steps)):
            if m > 0 and schedule.sampled(m):
                total += case.problem.outer(lam, theta, chain.outer_batch(m)).item()
        return total / schedule.samples

    return value


def program_values(
    case: Case, schedule: Schedule, draws: Draws
) -> Callable[[Float64[Tensor, "k p"]], Float64[np.ndarray, " k"]]:
    """The same for many λ at once: their runs go side by side, as one batch."""
    problem, dynamics = case.problem, case.dynamics

    def some(lams: Tensor) -> Tensor:
        # θ⁰ is taken row by row: its function is the only one that need not be differentiable by vmap.
        theta = torch.stack([problem.initial(lam).detach() for lam in lams])
        total = torch.zeros(len(lams), dtype=theta.dtype, device=theta.device)
        for m in range(1, schedule.steps + 1):
            batch = problem.inner_batches(draws, Stream.INNER_BATCH, m - 1)
            slope = torch.func.grad(lambda t, at, b=batch: problem.inner(at, t, b))
            theta = theta - dynamics.step_size * torch.func.vmap(slope)(theta, lams)
            if dynamics.noise > 0:
                noise = draws.normal(Stream.LANGEVIN, m - 1, theta[0])
                theta = theta + dynamics.noise * noise
            if schedule.sampled(m):
                seen = problem.outer_batches(draws, Stream.OUTER_BATCH, m)
                loss = torch.func.vmap(lambda at, t, b=seen: problem.outer(at, t, b))
                total = total + loss(lams, theta)
        return total / schedule.samples

    def values(lams: Tensor) -> np.ndarray:
        parts = [some(part) for part in torch.split(lams.to(case.lam), _CHUNK)]
        return np.asarray(torch.cat(parts).cpu().double().numpy())

    return values
