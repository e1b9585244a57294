"""What a target is given: a problem in its own array library.

A target is a function `hypergradient(problem) -> array of shape (p,)`; `problem` is a `View`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

import numpy as np
from array_api_compat import array_namespace

from refblo.chain import Schedule
from refblo.conformance.catalogue.entry import Entry, losses_in
from refblo.conformance.truth.rules import Rule
from refblo.errors import ArgumentError, MissingExtraError
from refblo.problems.namespace import ArrayNamespace
from refblo.types import Estimand

Native = Any
"""An array of the target's library."""

FRAMEWORKS = ("torch", "jax", "numpy")
SHORT = {
    Estimand.UNROLLED: "unrolled",
    Estimand.PATHWISE: "pathwise",
    Estimand.IMPLICIT: "implicit",
    Estimand.GIBBS: "gibbs",
}


@final
@dataclass(frozen=True, eq=False)
class View:
    """A problem as a target sees it. Vectors are flat; all arrays belong to the target's library.

    Attributes:
        name: of the catalogue's entry.
        estimand: "unrolled", "pathwise", "implicit" or "gibbs".
        inner: (lam, theta, batch) ↦ scalar; batch is None where there are no minibatches.
        outer: likewise.
        lam: λ, shape (p,).
        initial: λ ↦ θ⁰, shape (n,).
        theta0: θ⁰ at this λ, shape (n,).
        moving_start: whether θ⁰ depends on λ.
        step_size: γ, what θ moves by against the gradient.
        momentum: μ of v ← μ v + g, θ ← θ − γ v; 0 for none.
        weight_decay: w of g = ∂_θ inner + w θ, added by the optimiser; 0 for none.
        betas: (β₁, β₂) of Adam, or None for no Adam.
        adam_epsilon: ε of Adam, outside the square root.
        temperature: τ of Langevin dynamics.
        noise_scale: κ; a step's noise has standard deviation √(2τγ) κ.
        steps: T, inner steps.
        burn_in: B: the pathwise mean is over θ^{B+1} … θ^T.
        samples: M = T − B.
        noise: what is added to θ at each step, shape (T, n), or None.
        inner_batches: row t is the batch of the step from θ^t to θ^{t+1}; None for none.
        outer_batches: row m is the batch of the outer loss at θ^m, 0 … T; None for none.
        shapes: of the tensors that θ is made of, one after another.
        terms: K, how many terms a truncated series is to have, for a target that declares one.
        seed: for targets that draw their own numbers.
        xp: the library's namespace: torch, jax.numpy or numpy.
    """

    name: str
    estimand: str
    inner: Callable[[Native, Native, Native | None], Native]
    outer: Callable[[Native, Native, Native | None], Native]
    lam: Native
    initial: Callable[[Native], Native]
    theta0: Native
    moving_start: bool
    step_size: float
    momentum: float
    weight_decay: float
    betas: tuple[float, float] | None
    adam_epsilon: float
    temperature: float
    noise_scale: float
    steps: int
    burn_in: int
    samples: int
    noise: Native | None
    inner_batches: Native | None
    outer_batches: Native | None
    shapes: tuple[tuple[int, ...], ...]
    terms: int | None
    seed: int
    xp: Any

    def split(self, theta: Native) -> tuple[Native, ...]:
        """θ as the tensors it is made of."""
        parts, first = [], 0
        for shape in self.shapes:
            last = first + int(np.prod(shape))
            parts.append(theta[first:last].reshape(shape))
            first = last
        return tuple(parts)

    def join(self, parts: tuple[Native, ...]) -> Native:
        """The flat θ of its tensors."""
        flat = [part.reshape(-1) for part in parts]
        if hasattr(self.xp, "concatenate"):
            return self.xp.concatenate(flat)
        return self.xp.cat(flat)

    def inner_batch(self, step: int) -> Native | None:
        """The batch of the step from θ^step to the next."""
        return None if self.inner_batches is None else self.inner_batches[step]

    def outer_batch(self, step: int) -> Native | None:
        """The batch of the outer loss at θ^step."""
        return None if self.outer_batches is None else self.outer_batches[step]


@final
@dataclass(frozen=True, eq=False)
class Framework:
    """An array library.

    Attributes:
        name: of it.
        xp: its namespace.
        convert: makes one of its arrays from a NumPy array; floats get the dtype that was asked for.
    """

    name: str
    xp: ArrayNamespace[Any]
    convert: Callable[[np.ndarray], Native]


def framework(name: str, dtype: str) -> Framework:
    """Import an array library.

    Args:
        name: "torch", "jax" or "numpy".
        dtype: "float64" or "float32".

    Raises:
        MissingExtraError: if it is not installed.
        ArgumentError: for an unknown name.
    """
    if name == "numpy":
        return Framework(name, np, lambda x: _as(x, dtype).copy())
    if name == "torch":
        torch = import_module("torch")
        torch.set_num_threads(1)
        return Framework(name, torch, lambda x: torch.tensor(_as(x, dtype)))
    if name == "jax":
        try:
            jax = import_module("jax")
        except ImportError as error:
            raise MissingExtraError(
                'framework must be installed, got "jax" without it; pip install "refblo[jax]"'
            ) from error
        jax.config.update("jax_enable_x64", True)
        # Small problems, each compiled for a handful of calls: compiling is where the time goes.
        jax.config.update("jax_disable_most_optimizations", True)
        xp = import_module("jax.numpy")
        return Framework(name, xp, lambda x: xp.asarray(_as(x, dtype)))
    raise ArgumentError(
        f"framework must be one of {', '.join(FRAMEWORKS)}, got {name!r}; choose one"
    )


def _as(x: np.ndarray, dtype: str) -> np.ndarray:
    return x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x


@final
class Views:
    """Views of one entry that share their losses, as the objects of a program that runs on do."""

    def __init__(self, entry: Entry, library: Framework, terms: int | None = None) -> None:
        self._entry, self._terms = entry, terms
        self._library = library
        # The losses keep to the array API standard, whatever else the library calls its functions.
        standard = array_namespace(library.convert(np.zeros(1)))
        self._inner, self._outer = losses_in(entry, standard, library.convert)
        self._initial = entry.initial(library.convert)

    def at(self, lam: np.ndarray, estimand: Estimand, seed: int, *, own_noise: bool) -> View:
        """The view at one λ; a target that draws its own noise is given none."""
        entry, convert = self._entry, self._library.convert
        rule: Rule = entry.rule
        schedule: Schedule = entry.schedule_of(estimand)
        native = convert(lam)
        noise = None if entry.noise is None or own_noise else convert(entry.noise)
        return View(
            name=entry.name,
            estimand=SHORT[estimand],
            inner=self._inner,
            outer=self._outer,
            lam=native,
            initial=self._initial,
            theta0=self._initial(convert(lam)),
            moving_start=entry.start_jacobian is not None,
            step_size=rule.step_size,
            momentum=rule.momentum,
            weight_decay=rule.weight_decay,
            betas=rule.betas,
            adam_epsilon=rule.adam_epsilon,
            temperature=rule.temperature,
            noise_scale=rule.noise_scale,
            steps=schedule.steps,
            burn_in=schedule.burn_in,
            samples=schedule.samples,
            noise=noise,
            inner_batches=None if entry.inner_batches is None else convert(entry.inner_batches),
            outer_batches=None if entry.outer_batches is None else convert(entry.outer_batches),
            shapes=entry.shapes,
            terms=self._terms,
            seed=seed,
            xp=self._library.xp,
        )


def arrays_of(view: View) -> dict[str, np.ndarray]:
    """Copies of every array that a target could change."""
    found = {"lam": view.lam, "theta0": view.theta0, "noise": view.noise}
    found |= {"inner_batches": view.inner_batches, "outer_batches": view.outer_batches}
    return {name: np.array(as_numpy(x)) for name, x in found.items() if x is not None}


def as_numpy(array: Native) -> np.ndarray:
    """An array of any of the libraries as NumPy."""
    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    return np.asarray(array)
