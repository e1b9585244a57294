"""The estimators on the scalar problem (27), written out by hand for many seeds at once.

They share nothing with `refblo.estimators` but the equations: every derivative below is typed in, no
autograd is used, and a seed is an entry of a NumPy vector. That makes thousands of seeds cheap, and it
makes an agreement with the estimators (`checked` in the reports) say something.

    ∂_θ L_T = (1 + 3e₁) θ² − (1 − λ² + e₂),   H = 2 (1 + 3e₁) θ,   C = 2λ,
    ∂_λ f = 2 (λ − θ),   ∂_θ f = 4θ − 2λ − 1.

Each method is a function of (λ, θ⁰, chain) that returns the hypergradient and θ^T, all of shape (s,) for
s seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64

from refblo.chain import Langevin
from refblo.estimators import NeumannScaling
from refblo.noise import Draws, Stream

Seeds: TypeAlias = Float64[np.ndarray, " s"]
Entries: TypeAlias = np.ndarray
"""Seeds without their shape, in what runs at every step: checking it there would take most of the time."""
Perturbation: TypeAlias = tuple[Entries, Entries] | tuple[float, float]


@runtime_checkable
class Noise(Protocol):
    """The randomness of one inner run."""

    def perturbation(self, step: int) -> Perturbation:
        """(e₁, e₂) of the transition from θ^step."""
        ...

    def langevin(self, step: int) -> Entries | float:
        """The standard normal z of the transition from θ^step."""
        ...

    def directions(self, count: int) -> Entries:
        """Standard normal directions in λ, shape (count, s)."""
        ...


@final
@dataclass(frozen=True)
class ManySeeds:
    """One draw a step that holds all seeds: cheap, and different for every outer step.

    Attributes:
        draws: the randomness of this outer step.
        seeds: how many.
        half_width: w of (27); 0 for no perturbation.
    """

    draws: Draws
    seeds: int
    half_width: float

    def perturbation(self, step: int) -> Perturbation:
        """(e₁, e₂), each of shape (seeds,)."""
        if self.half_width == 0:
            return 0.0, 0.0
        width = self.half_width
        both = self.draws.uniform(Stream.INNER_BATCH, step, (2, self.seeds), -width, width).numpy()
        return both[0], both[1]

    def langevin(self, step: int) -> Entries:
        """z, shape (seeds,)."""
        like = torch.empty(self.seeds, dtype=torch.float64)
        values: Entries = self.draws.normal(Stream.LANGEVIN, step, like).numpy()
        return values

    def directions(self, count: int) -> Entries:
        """z, shape (count, seeds)."""
        like = torch.empty(count, self.seeds, dtype=torch.float64)
        values: Entries = self.draws.normal(Stream.DIRECTIONS, 0, like).numpy()
        return values


@final
@dataclass(frozen=True)
class AsDrawn:
    """The very numbers that the tensor problem draws, for each of a few runs.

    Attributes:
        draws: the randomness of this outer step, one entry a run.
        half_width: w of (27).
    """

    draws: tuple[Draws, ...]
    half_width: float

    def perturbation(self, step: int) -> Perturbation:
        """(e₁, e₂), each with one entry a run."""
        if self.half_width == 0:
            return 0.0, 0.0
        width = self.half_width
        pairs = [d.uniform(Stream.INNER_BATCH, step, (2,), -width, width) for d in self.draws]
        both = torch.stack(pairs, dim=1).numpy()
        return both[0], both[1]

    def langevin(self, step: int) -> Entries:
        """z, one entry a run."""
        like = torch.empty(1, dtype=torch.float64)
        drawn = [d.normal(Stream.LANGEVIN, step, like) for d in self.draws]
        values: Entries = torch.cat(drawn).numpy()
        return values

    def directions(self, count: int) -> Entries:
        """z, shape (count, runs)."""
        like = torch.empty(count, 1, dtype=torch.float64)
        each = [d.normal(Stream.DIRECTIONS, 0, like) for d in self.draws]
        values: Entries = torch.cat(each, dim=1).numpy()
        return values


@final
@dataclass(frozen=True)
class RecursionRun:
    """The inner run: a step rule and its randomness."""

    dynamics: Langevin
    noise: Noise

    def advance(self, lam: Entries, theta: Entries, step: int, pair: Perturbation) -> Entries:
        """(24): θ^{step+1} from θ^step, under the perturbation of that step."""
        e1, e2 = pair
        gradient = (1 + 3 * e1) * theta**2 - (1 - lam**2 + e2)
        moved: Entries = theta - self.dynamics.step_size * gradient
        if self.dynamics.noise > 0:
            moved = moved + self.dynamics.noise * self.noise.langevin(step)
        return moved

    def last(self, lam: Entries, theta: Entries, steps: int) -> Entries:
        """θ^steps."""
        for step in range(steps):
            theta = self.advance(lam, theta, step, self.noise.perturbation(step))
        return theta


Method: TypeAlias = Callable[[Seeds, Seeds, RecursionRun], tuple[Seeds, Seeds]]


@runtime_checkable
class WarmMethod(Protocol):
    """A method with a memory: `begin` gives the function for one trajectory."""

    def begin(self) -> Method:
        """The method before its first call."""
        ...


def begun(method: Method | WarmMethod) -> Method:
    """The function for one trajectory."""
    return method.begin() if isinstance(method, WarmMethod) else method


def outer_slope(lam: Entries, theta: Entries) -> Entries:
    """∂_θ f."""
    slope: Entries = 4 * theta - 2 * lam - 1
    return slope


def outer_direct(lam: Entries, theta: Entries) -> Entries:
    """∂_λ f."""
    direct: Entries = 2 * (lam - theta)
    return direct


def hpo_sgld(burn_in: int, samples: int, half: float = 0.5) -> Method:
    """(24), (22), (25) with dθ⁰/dλ = 0; `half` is the ½ before ε in (22)."""

    def method(lam: Seeds, theta: Seeds, run: RecursionRun) -> tuple[Seeds, Seeds]:
        factor = half * run.dynamics.epsilon / run.dynamics.temperature
        g, h = np.zeros_like(theta), np.zeros_like(theta)
        for m in range(1, burn_in + samples + 1):
            theta = run.advance(lam, theta, m - 1, run.noise.perturbation(m - 1))
            g = g - factor * outer_slope(lam, theta) * 2 * lam
            if m > burn_in:
                h = h + outer_direct(lam, theta) + g
        return h / samples, theta

    return method


def fmd(steps: int) -> Method:
    """(50): the tangent is carried along."""

    def method(lam: Seeds, theta: Seeds, run: RecursionRun) -> tuple[Seeds, Seeds]:
        gamma, tangent = run.dynamics.step_size, np.zeros_like(theta)
        for step in range(steps):
            pair = run.noise.perturbation(step)
            tangent = tangent - gamma * (2 * (1 + 3 * pair[0]) * theta * tangent + 2 * lam)
            theta = run.advance(lam, theta, step, pair)
        return outer_direct(lam, theta) + outer_slope(lam, theta) * tangent, theta

    return method


def rmd(steps: int) -> Method:
    """The adjoint is carried back over the stored iterates."""

    def method(lam: Seeds, theta: Seeds, run: RecursionRun) -> tuple[Seeds, Seeds]:
        gamma, visited = run.dynamics.step_size, []
        for step in range(steps):
            pair = run.noise.perturbation(step)
            visited.append((theta, pair[0]))
            theta = run.advance(lam, theta, step, pair)
        h, alpha = outer_direct(lam, theta), outer_slope(lam, theta)
        for before, e1 in reversed(visited):
            h = h - gamma * 2 * lam * alpha
            alpha = alpha - gamma * 2 * (1 + 3 * e1) * before * alpha
        return h, theta

    return method


def rmd_first_order(steps: int) -> Method:
    """The direct term at θ^T alone."""

    def method(lam: Seeds, theta: Seeds, run: RecursionRun) -> tuple[Seeds, Seeds]:
        theta = run.last(lam, theta, steps)
        return outer_direct(lam, theta), theta

    return method


def ift_neumann(
    steps: int, scale: float, terms: int, scaling: NeumannScaling = NeumannScaling.SCALED
) -> Method:
    """f_λ − q C with q the truncated series; H is drawn anew at θ^T."""

    def method(lam: Seeds, theta: Seeds, run: RecursionRun) -> tuple[Seeds, Seeds]:
        theta = run.last(lam, theta, steps)
        hessian = 2 * (1 + 3 * run.noise.perturbation(steps)[0]) * theta
        term = q = outer_slope(lam, theta)
        for _ in range(terms - 1):
            term = term - scale * hessian * term
            q = q + term
        factor = scale if scaling is NeumannScaling.SCALED else 1.0
        return outer_direct(lam, theta) - factor * q * 2 * lam, theta

    return method


def ift_conjugate_gradient(steps: int, damping: float, hessian_noise: bool = True) -> Method:
    """f_λ − q C with q = f_θ / (H + δ): one CG iteration solves a scalar equation.

    `hessian_noise` off evaluates H at e₁ = 0, to tell the noise in H from the noise in θ^T.
    """

    def method(lam: Seeds, theta: Seeds, run: RecursionRun) -> tuple[Seeds, Seeds]:
        theta = run.last(lam, theta, steps)
        e1 = run.noise.perturbation(steps)[0] if hessian_noise else 0.0
        hessian = 2 * (1 + 3 * e1) * theta
        q = outer_slope(lam, theta) / (hessian + damping)
        return outer_direct(lam, theta) - q * 2 * lam, theta

    return method


@final
@dataclass(frozen=True)
class WarmAmIGO:
    """f_λ − q C with q carried from call to call; `solve_step` None for the CG form.

    One CG iteration solves a scalar equation, so that AmIGO-CG forgets q: q = f_θ / H.
    """

    steps: int
    iterations: int
    solve_step: float | None

    def begin(self) -> Method:
        """With q = 0."""
        memory: list[Entries] = []

        def method(lam: Seeds, theta: Seeds, run: RecursionRun) -> tuple[Seeds, Seeds]:
            theta = run.last(lam, theta, self.steps)
            slope = outer_slope(lam, theta)
            q = memory.pop() if memory else np.zeros_like(theta)
            if self.solve_step is None:
                q = slope / (2 * (1 + 3 * run.noise.perturbation(self.steps)[0]) * theta)
            else:
                for i in range(self.iterations):
                    hessian = 2 * (1 + 3 * run.noise.perturbation(self.steps + i)[0]) * theta
                    q = q - self.solve_step * (hessian * q - slope)
            memory.append(q)
            return outer_direct(lam, theta) - q * 2 * lam, theta

        return method


def evolution(steps: int, sigma: float, count: int, *, paired: bool) -> Method:
    """The mean of z F(λ + σz)/σ, or of z (F(λ + σz) − F(λ − σz))/(2σ), over `count` directions."""

    def method(lam: Seeds, theta: Seeds, run: RecursionRun) -> tuple[Seeds, Seeds]:
        z = run.noise.directions(count)

        def value(lams: Entries) -> Entries:
            last = run.last(lams, np.broadcast_to(theta, lams.shape), steps)
            found: Entries = (lams - last) ** 2 + (last - 0.5) ** 2
            return found

        ahead = value(lam + sigma * z)
        if paired:
            ahead = (ahead - value(lam - sigma * z)) / 2
        return (z * ahead / sigma).mean(axis=0), run.last(lam, theta, steps)

    return method
