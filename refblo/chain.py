"""The inner run: SGD and SGLD transitions; a chain is a loop over them.

One transition is eq. (24) of Kim and Hospedales with E = L_T/τ,

    θ^m = θ^{m−1} − γ ∂_θ L_T(λ, θ^{m−1}; batch^{m−1}) + √ε κ z^{m−1},   γ = ε / (2τ).

At stationarity (ε → 0) it samples exp(−L_T/(τκ²)), not exp(−L_T/τ), unless κ = 1.

Claims: eq-10, eq-24, text-temperature.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from refblo.derivatives import inner_gradient
from refblo.errors import ArgumentTypeError, require_integer, require_real
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FullBatch
from refblo.types import Batch, Estimand, Lam, Theta

SMALL = 4096
"""The largest n for which the noise of several steps is drawn at once: a draw is then mostly calls."""

FIRST_AHEAD, MAX_AHEAD = 8, 46


def steps_ahead(step: int, n: int) -> range:
    """The steps whose noise is drawn together with a step's: about 2 SMALL numbers, but of a run's first few.

    A draw between gradients starts with cold caches, which takes as long as the numbers of 40 steps. From
    the ninth step on it depends on n alone how many steps there are, so that a run of 1,000 needs the bytes
    of one of 10.
    """
    if step < FIRST_AHEAD:
        return range(FIRST_AHEAD)
    ahead = max(FIRST_AHEAD, min(MAX_AHEAD, 2 * SMALL // max(n, 1)))
    start = step - (step - FIRST_AHEAD) % ahead
    return range(start, start + ahead)


@final
@dataclass(frozen=True)
class Langevin:
    """The step rule of SGLD; with κ = 0 it is plain (stochastic) gradient descent.

    Args:
        step_size: γ > 0, what a user calls the learning rate.
        temperature: τ > 0.
        noise_scale: κ ≥ 0.

    Raises:
        ArgumentError, ArgumentTypeError: if one of them is out of range, or no number.
    """

    step_size: float
    temperature: float = 1.0
    noise_scale: float = 0.0

    def __post_init__(self) -> None:
        require_real("step_size", self.step_size, "choose a positive number")
        require_real("temperature", self.temperature, "choose a positive number")
        require_real("noise_scale", self.noise_scale, "use 0 for gradient descent", positive=False)

    @staticmethod
    def from_epsilon(
        epsilon: float, temperature: float = 1.0, noise_scale: float = 1.0
    ) -> "Langevin":
        """The rule with SGLD step ε, that is γ = ε / (2τ).

        Raises:
            ArgumentError, ArgumentTypeError: if ε, τ or κ is out of range, or no number.
        """
        require_real("epsilon", epsilon, "choose a positive number")
        require_real("temperature", temperature, "choose a positive number")
        return Langevin(epsilon / (2 * temperature), temperature, noise_scale)

    @property
    def epsilon(self) -> float:
        """ε = 2τγ, the SGLD step."""
        return 2 * self.temperature * self.step_size

    @property
    def noise(self) -> float:
        """√ε κ, the standard deviation of one step's noise."""
        return math.sqrt(self.epsilon) * self.noise_scale


@final
@dataclass(frozen=True)
class Schedule:
    """How many steps to run and which iterates to average over.

    Args:
        burn_in: B ≥ 0, iterates thrown away.
        samples: M ≥ 1, iterates averaged; with M = 1 only the last one counts.

    Raises:
        ArgumentError, ArgumentTypeError: if one of them is out of range, or no integer.
    """

    burn_in: int
    samples: int

    def __post_init__(self) -> None:
        require_integer("burn_in", self.burn_in, 0, "use 0 to keep every iterate")
        require_integer("samples", self.samples, 1, "use 1 for the last iterate alone")

    @property
    def estimand(self) -> Estimand:
        """The hypergradient of the run's frozen program: pathwise for a mean of iterates, else unrolled."""
        return Estimand.UNROLLED if self.samples == 1 else Estimand.PATHWISE

    @staticmethod
    def last(steps: int) -> "Schedule":
        """`steps` steps of which the last iterate counts: the unrolled program of T steps.

        Raises:
            ArgumentError, ArgumentTypeError: if `steps` is less than 1, or no integer.
        """
        require_integer("steps", steps, 1, "run at least one inner step")
        return Schedule(steps - 1, 1)

    @property
    def steps(self) -> int:
        """T = B + M."""
        return self.burn_in + self.samples

    def sampled(self, step: int) -> bool:
        """Whether iterate θ^step (1 ≤ step ≤ T) is averaged over."""
        return step > self.burn_in


@final
@dataclass(frozen=True, eq=False)
class Drawn:
    """What some transitions draw, as tensors, for code in which draws must be inputs.

    Attributes:
        inner: inner batches by transition.
        outer: outer batches by iterate.
        noise: standard normal numbers by transition, each of shape (n,); empty without noise.
    """

    inner: Mapping[int, Batch]
    outer: Mapping[int, Batch]
    noise: Mapping[int, Tensor]

    def tensors(self) -> tuple[Tensor, ...]:
        """All of them in a fixed order; a full batch has none."""
        columns = (self.inner, self.outer, self.noise)
        return tuple([each for column in columns for each in column.values() if each is not None])

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Drawn":
        """The same draws with other tensors, in the order of `tensors()`."""
        left = iter(tensors)
        inner = {k: None if batch is None else next(left) for k, batch in self.inner.items()}
        outer = {k: None if batch is None else next(left) for k, batch in self.outer.items()}
        return Drawn(inner, outer, {k: next(left) for k in self.noise})


@final
@dataclass(frozen=True, eq=False)
class Chain:
    """A problem, a step rule and the draws: everything that fixes θ¹, θ², … for a given λ.

    Transition number t (from 0) leads from θ^t to θ^{t+1} and uses the batch and the noise of step t.
    What is in `drawn` is not drawn again.
    """

    problem: BilevelProblem
    dynamics: Langevin
    draws: Draws
    drawn: Drawn | None = None
    _ahead: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)
    _scale: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        dynamics: object = self.dynamics  # a caller may give anything
        if not isinstance(dynamics, Langevin):
            raise ArgumentTypeError(
                f"dynamics must be Langevin for this method, got {_shown(dynamics)}; give "
                "Langevin(step_size), or use RMD or FMD, which run any rule"
            )
        # Computed once: a small run's step would spend as long on it as on adding the noise.
        object.__setattr__(self, "_scale", dynamics.noise)

    def draw(self, run: range, outer: Iterable[int], like: Theta) -> Drawn:
        """What the transitions of a run draw, and the outer batches at some iterates."""
        problem = self.problem
        # A full batch is None at every step, and asking for it takes as long as a small kernel's call.
        whole, outer_whole = (
            self.drawn is None and isinstance(batches, FullBatch)
            for batches in (problem.inner_batches, problem.outer_batches)
        )
        return Drawn(
            inner=dict.fromkeys(run) if whole else {t: self.inner_batch(t) for t in run},
            outer=dict.fromkeys(outer) if outer_whole else {t: self.outer_batch(t) for t in outer},
            noise={t: self._normal(t, like) for t in run} if self._scale > 0 else {},
        )

    def initial(self, lam: Lam) -> Theta:
        """θ⁰, detached, shape (n,)."""
        return self.problem.initial(lam.detach()).detach()

    def inner_batch(self, step: int) -> Batch:
        """The batch that transition `step` sees."""
        if self.drawn is not None:
            return self.drawn.inner[step]
        return self.problem.inner_batches(self.draws, Stream.INNER_BATCH, step)

    def outer_batch(self, step: int) -> Batch:
        """The batch that the outer loss sees at iterate θ^step."""
        if self.drawn is not None:
            return self.drawn.outer[step]
        return self.problem.outer_batches(self.draws, Stream.OUTER_BATCH, step)

    def advance(self, theta: Theta, gradient: Theta, step: int, overwrite: bool = False) -> Theta:
        """θ^{step+1} from θ^step and its inner gradient.

        Args:
            theta: θ^step.
            gradient: ∂_θ L_T there.
            step: the transition's number.
            overwrite: put the result where the gradient is, which saves a new vector.
        """
        out = gradient if overwrite else None
        moved = torch.add(theta, gradient, alpha=-self.dynamics.step_size, out=out)
        noise = self._scale
        if noise > 0:
            if self.drawn is None and theta.numel() > SMALL:
                self.draws.add_normal(Stream.LANGEVIN, step, moved, noise)
            else:
                moved.add_(self._normal(step, theta), alpha=noise)
        return moved

    def noise(self, step: int, like: Theta) -> Theta | None:
        """√ε κ z^step, what is added to θ; None without noise."""
        return self._scale * self._normal(step, like) if self._scale > 0 else None

    def lifted(self, theta: Tensor) -> Tensor:
        """The state: θ itself."""
        return theta

    def theta(self, state: Tensor) -> Tensor:
        """The part of the state that is θ: all of it."""
        return state

    def following(self, lam: Lam, state: Theta, gradient: Theta, step: int) -> Theta:  # noqa: ARG002  (other rules need λ)
        """The next state, here `advance`."""
        return self.advance(state, gradient, step)

    def following_with_tangents(
        self,
        lam: Lam,  # noqa: ARG002  (other rules need it)
        state: Theta,
        gradient: Theta,
        step: int,
        u: Tensor,  # noqa: ARG002  (likewise)
        tangent: Tensor,
        change: Tensor,
    ) -> tuple[Theta, Tensor]:
        """The next state and its tangents s − γ ġ, ġ = `change` being those of the gradient."""
        moved = self.advance(state, gradient, step)
        return moved, tangent.sub(change, alpha=self.dynamics.step_size)

    def _normal(self, step: int, like: Theta) -> Theta:
        if self.drawn is not None:
            return self.drawn.noise[step]
        row = self._ahead.get(step)
        if (
            row is not None
            and row.shape == like.shape
            and row.dtype is like.dtype
            and type(row) is type(like)
        ):
            return row
        if like.numel() > SMALL:
            return self.draws.normal(Stream.LANGEVIN, step, like)
        steps = steps_ahead(step, like.numel())
        self._ahead.clear()
        rows = self.draws.normal_steps(Stream.LANGEVIN, steps, like).unbind()
        self._ahead.update(zip(steps, rows, strict=True))
        return self._ahead[step]

    def step(self, lam: Lam, theta: Theta, step: int) -> Theta:
        """One transition, from θ^step to θ^{step+1}."""
        gradient = inner_gradient(self.problem.inner, lam, theta, self.inner_batch(step))
        return self.advance(theta, gradient, step)

    def iterates(self, lam: Lam, steps: int) -> Iterator[Theta]:
        """θ⁰, θ¹, …, θ^steps, one after another."""
        theta = self.initial(lam)
        yield theta
        for step in range(steps):
            theta = self.step(lam, theta, step)
            yield theta

    def last(self, lam: Lam, steps: int) -> Theta:
        """θ^steps."""
        theta = self.initial(lam)
        for step in range(steps):
            theta = self.step(lam, theta, step)
        return theta

    def first_non_finite(self, lam: Lam, steps: int) -> int | None:
        """The first m ≤ steps with a non-finite θ^m, or None: the replay that explains a divergence."""
        for index, theta in enumerate(self.iterates(lam, steps)):
            if not bool(torch.isfinite(theta).all()):
                return index
        return None


def _shown(dynamics: object) -> str:
    """A rule by its formula, anything else by its type."""
    formula: object = getattr(dynamics, "formula", None)
    name: object = getattr(formula, "name", None)
    kind = type(dynamics).__name__
    return kind if name is None else f"a {kind} ({name})"
