"""What a target is given: a problem in its own array library.

A target is a function `hypergradient(problem) -> array of shape (p,)`; `problem` is a `View`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

import numpy as np
from array_api_compat import array_namespace

from refblo.chain import Schedule
from refblo.conformance.catalogue.entry import Entry, Rows, losses_in
from refblo.errors import ArgumentError, MissingExtraError
from refblo.problems.namespace import ArrayNamespace
from refblo.rules.rule import Rule
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
        outer: (lam, theta, batch) ↦ scalar, as `inner`.
        lam: λ, shape (p,).
        initial: λ ↦ θ⁰, shape (n,).
        theta0: θ⁰ at this λ, shape (n,).
        moving_start: whether θ⁰ depends on λ.
        step_size: γ, what θ moves by against the gradient, at this λ.
        step_size_at: λ ↦ γ; the same for every λ unless the target declares "rule".
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
        inner_batches: row t is the batch of the step from θ^t to θ^{t+1}; None for none. Batches of several
            arrays are a tuple of arrays of rows.
        outer_batches: row m is the batch of the outer loss at θ^m, 0 … T; likewise.
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
    step_size_at: Callable[[Native], Native]
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
        return _row(self.inner_batches, step)

    def outer_batch(self, step: int) -> Native | None:
        """The batch of the outer loss at θ^step."""
        return _row(self.outer_batches, step)


def _row(batches: Native | None, step: int) -> Native | None:
    if isinstance(batches, tuple):
        return tuple(part[step] for part in batches)
    return None if batches is None else batches[step]


@final
@dataclass(frozen=True, eq=False)
class Framework:
    """An array library.

    Attributes:
        name: of it.
        xp: the array library's namespace.
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
        if entry.scalars:
            self._inner, self._outer = _of_scalars(self._inner), _of_scalars(self._outer)
            flat = self._initial
            self._initial = lambda lam: flat(lam.reshape((1,))).reshape(())
        self._exp = standard.exp

    def at(self, lam: np.ndarray, estimand: Estimand, seed: int, *, own_noise: bool) -> View:
        """The view at one λ; a target that draws its own noise is given none."""
        entry, convert = self._entry, self._library.convert
        rule: Rule = entry.rule
        schedule: Schedule = entry.schedule_of(estimand)
        betas = tuple(float(beta) for beta in rule.betas or () if isinstance(beta, float))
        shape = () if entry.scalars else lam.shape
        native = convert(lam).reshape(shape)
        step_size = rule.constant("step_size")
        if entry.rate is not None:
            step_size *= math.exp(float(entry.rate @ lam))
        noise = None if entry.noise is None or own_noise else convert(entry.noise)
        return View(
            name=entry.name,
            estimand=SHORT[estimand],
            inner=self._inner,
            outer=self._outer,
            lam=native,
            initial=self._initial,
            theta0=self._initial(convert(lam).reshape(shape)),
            moving_start=entry.start_jacobian is not None,
            step_size=step_size,
            step_size_at=self._step_size_at(),
            momentum=rule.constant("momentum"),
            weight_decay=rule.constant("weight_decay"),
            betas=None if rule.betas is None else (betas[0], betas[1]),
            adam_epsilon=rule.constant("adam_epsilon"),
            temperature=rule.temperature,
            noise_scale=rule.noise_scale,
            steps=schedule.steps,
            burn_in=schedule.burn_in,
            samples=schedule.samples,
            noise=noise,
            inner_batches=_converted(entry.inner_batches, convert),
            outer_batches=_converted(entry.outer_batches, convert),
            shapes=entry.shapes,
            terms=self._terms,
            seed=seed,
            xp=self._library.xp,
        )

    def _step_size_at(self) -> Callable[[Native], Native]:
        entry, exp = self._entry, self._exp
        if entry.rate is None:
            return lambda _: entry.rule.constant("step_size")
        rate = self._library.convert(entry.rate)
        return lambda lam: entry.rule.constant("step_size") * exp(rate @ lam)


def _of_scalars(loss: Callable[..., Native]) -> Callable[..., Native]:
    """A loss of λ and θ without dimensions."""
    return lambda lam, theta, batch: loss(lam.reshape((1,)), theta.reshape((1,)), batch)


def _converted(batches: Rows, convert: Callable[[np.ndarray], Native]) -> Native | None:
    if isinstance(batches, tuple):
        return tuple(convert(part) for part in batches)
    return None if batches is None else convert(batches)


def arrays_of(view: View) -> dict[str, np.ndarray]:
    """Copies of every array that a target could change."""
    found = {"lam": view.lam, "theta0": view.theta0, "noise": view.noise}
    for name in ("inner_batches", "outer_batches"):
        batches = getattr(view, name)
        parts = enumerate(batches) if isinstance(batches, tuple) else ()
        found |= {f"{name}[{position}]": part for position, part in parts} or {name: batches}
    return {name: np.array(as_numpy(x)) for name, x in found.items() if x is not None}


def as_numpy(array: Native) -> np.ndarray:
    """An array of any of the libraries as NumPy."""
    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    return np.asarray(array)
