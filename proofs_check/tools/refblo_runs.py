"""Where the ledger runs the package: small problems handed to refblo's chains and estimators.

Everything here returns plain numbers, so that the claims' own formulas share no code with what they
judge.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refblo.chain import Chain, Langevin, Schedule
from refblo.estimators.fmd import FMD
from refblo.estimators.hpo_sgld import HPOSGLD
from refblo.estimators.rmd import RMD
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial, Initial, LamInitial, identity_initial

TorchLoss = Callable[[Tensor, Tensor], Tensor]
Vector = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Small:
    """A small problem in torch operations, full batch.

    Attributes:
        inner: (lam, theta) ↦ scalar.
        outer: (lam, theta) ↦ scalar.
        theta0: θ⁰, shape (n,); None for θ⁰ = λ.
        start: θ⁰(λ), in place of `theta0`.
    """

    inner: TorchLoss
    outer: TorchLoss
    theta0: Vector | None
    start: LamInitial | None = None

    def problem(self) -> BilevelProblem:
        """The same problem for refblo."""
        start: Initial = self.start or identity_initial()
        if self.theta0 is not None:
            start = FixedInitial(torch.as_tensor(self.theta0))
        return BilevelProblem(
            inner=lambda lam, theta, _: self.inner(lam, theta),
            outer=lambda lam, theta, _: self.outer(lam, theta),
            initial=start,
        )


@final
@dataclass(frozen=True)
class RefbloRun:
    """The settings of one inner run.

    Attributes:
        step_size: γ.
        burn_in: B.
        samples: M.
        temperature: τ.
        noise_scale: κ.
        seed: of the frozen noise.
    """

    step_size: float
    burn_in: int
    samples: int
    temperature: float = 1.0
    noise_scale: float = 0.0
    seed: int = 0

    def dynamics(self) -> Langevin:
        """The step rule."""
        return Langevin(self.step_size, self.temperature, self.noise_scale)

    def schedule(self) -> Schedule:
        """B and M."""
        return Schedule(self.burn_in, self.samples)


def _numbers(tensor: Tensor) -> Vector:
    return np.asarray(tensor.detach().to(torch.float64).tolist(), dtype=np.float64).reshape(-1)


def langevin_step(
    theta: float, slope: float, epsilon: float, temperature: float
) -> tuple[float, float]:
    """One transition of refblo's chain on the inner loss slope·θ, κ = 1.

    Args:
        theta: the iterate before it.
        slope: ∂_θ L_T.
        epsilon: ε.
        temperature: τ.

    Returns:
        The iterate after it, and the standard normal number that was drawn.
    """
    small = Small(lambda _, t: slope * t.sum(), lambda _, t: t.sum(), np.array([theta]))
    draws = Draws(1)
    chain = Chain(small.problem(), Langevin.from_epsilon(epsilon, temperature, 1.0), draws)
    start = torch.tensor([theta], dtype=torch.float64)
    lam = torch.zeros(1, dtype=torch.float64)
    after = chain.step(lam, start, 0)
    return after.item(), draws.normal(Stream.LANGEVIN, 0, start).item()


def iterates(small: Small, run: RefbloRun, lam: Vector) -> Vector:
    """θ⁰, …, θ^T of refblo's chain.

    Args:
        small: the problem.
        run: the settings.
        lam: λ, shape (p,).

    Returns:
        The iterates as rows, shape (T + 1, n).
    """
    chain = Chain(small.problem(), run.dynamics(), Draws(run.seed))
    steps = run.schedule().steps
    return np.array([_numbers(t) for t in chain.iterates(torch.as_tensor(lam), steps)])


def noises(small: Small, run: RefbloRun, lam: Vector) -> Vector:
    """The standard normal numbers that the chain of `iterates` draws, shape (T, n)."""
    chain = Chain(small.problem(), run.dynamics(), Draws(run.seed))
    like = chain.initial(torch.as_tensor(lam))
    steps = range(run.schedule().steps)
    return np.array([_numbers(chain.draws.normal(Stream.LANGEVIN, t, like)) for t in steps])


def hpo_sgld(small: Small, run: RefbloRun, lam: Vector) -> Vector:
    """The HPO-SGLD estimate of refblo, shape (p,)."""
    method = HPOSGLD(run.dynamics(), run.schedule())
    return _numbers(method.estimate(small.problem(), torch.as_tensor(lam), Draws(run.seed)).value)


def forward_mode(small: Small, run: RefbloRun, lam: Vector) -> Vector:
    """The forward-mode hypergradient of refblo on the same noise, shape (p,)."""
    method = FMD(run.dynamics(), run.schedule())
    return _numbers(method.estimate(small.problem(), torch.as_tensor(lam), Draws(run.seed)).value)


def reverse_mode(small: Small, run: RefbloRun, lam: Vector) -> Vector:
    """The reverse-mode hypergradient of refblo on the same noise, shape (p,)."""
    method = RMD(run.dynamics(), run.schedule())
    return _numbers(method.estimate(small.problem(), torch.as_tensor(lam), Draws(run.seed)).value)
