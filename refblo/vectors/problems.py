"""The problems of the test vectors: small, and made of numbers that every number system has.

Every entry of every array is a multiple of 1/64 or so: its decimal string is short, and a double holds
it exactly, so that all implementations solve the same problem to the last bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import sympy
from jaxtyping import Float64

from refblo.problems.symbolic import SymbolicProblem, symbols

Array = np.ndarray
Matrix = list[list[sympy.Expr]]


@final
@dataclass(frozen=True)
class VectorSettings:
    """How the inner run goes: gradient descent, with noise where it is given.

    Attributes:
        step_size: γ.
        burn_in: B, iterates that the pathwise mean leaves out.
        samples: M; the run has T = B + M steps.
        temperature: of the Gibbs distribution p ∝ exp(−inner/temperature).
        terms: K, of a truncated series and of truncated back-propagation.
    """

    step_size: float = 0.25
    burn_in: int = 4
    samples: int = 3
    temperature: float = 0.125
    terms: int = 4

    @property
    def steps(self) -> int:
        """T."""
        return self.burn_in + self.samples


@final
@dataclass(frozen=True, eq=False)
class Posed:
    """One problem, stated.

    Attributes:
        name: of the file.
        kind: which formula it has: "quadratic" or "weighted logistic".
        arrays: the problem's numbers by name.
        lam: λ, shape (p,).
        theta0: θ⁰ where λ does not move it, shape (n,).
        settings: of the run.
        noise: what is added to θ at each step, shape (T, n), or None.
        inner_batches: the indices of the examples that each step sees, shape (T, b), or None.
        outer_batches: of those that the outer loss sees at each iterate, shape (T + 1, b), or None.
        estimands: which truths it is asked for.
    """

    name: str
    kind: str
    arrays: Mapping[str, Array]
    lam: Float64[Array, " p"]
    theta0: Float64[Array, " n"]
    settings: VectorSettings = field(default_factory=VectorSettings)
    noise: Float64[Array, "T n"] | None = None
    inner_batches: Array | None = None
    outer_batches: Array | None = None
    estimands: tuple[str, ...] = ("unrolled", "pathwise", "implicit")

    @property
    def drawn(self) -> bool:
        """Whether a loss sees minibatches."""
        return self.inner_batches is not None or self.outer_batches is not None


@final
@dataclass(frozen=True)
class Formulas:
    """A problem's losses in sympy, the entries of its arrays as symbols, and in words.

    Attributes:
        inner: L_T.
        outer: f.
        initial: θ⁰, n expressions.
        words: what they are, by name.
    """

    inner: sympy.Expr
    outer: sympy.Expr
    initial: tuple[sympy.Expr, ...]
    words: Mapping[str, str]


def formulas(posed: Posed) -> Formulas:
    """State a problem with a symbol for each number: hessian_0_1 is row 0, column 1 of `hessian`."""
    return _quadratic(posed) if posed.kind == "quadratic" else _logistic(posed)


def symbolic(posed: Posed) -> SymbolicProblem:
    """The same with the numbers in their places, exact; a batch is the weights of the examples."""
    found = formulas(posed)
    values = {
        symbol: sympy.Rational(float(array[index]))
        for name, array in posed.arrays.items()
        for index, symbol in np.ndenumerate(_symbols(name, array.shape))
    }
    values |= {
        symbol: sympy.Rational(float(entry))
        for symbol, entry in zip(symbols("start", posed.theta0.size), posed.theta0, strict=True)
    }

    def weights(name: str, array: str, given: Array | None) -> tuple[sympy.Symbol, ...]:
        if posed.kind == "quadratic":
            return ()
        count = len(posed.arrays[array])
        if given is not None:
            return symbols(name, count)
        values.update(dict.fromkeys(symbols(name, count), sympy.Rational(1, count)))
        return ()

    inner = weights("weight", "features", posed.inner_batches)
    outer = weights("outer_weight", "held_features", posed.outer_batches)
    return SymbolicProblem(
        lam=symbols("lambda", posed.lam.size),
        theta=symbols("theta", posed.theta0.size),
        inner=found.inner.xreplace(values),
        outer=found.outer.xreplace(values),
        initial=tuple(entry.xreplace(values) for entry in found.initial),
        inner_batch=inner,
        outer_batch=outer,
    )


def _symbols(name: str, shape: tuple[int, ...]) -> Array:
    """An array of symbols, named by their places."""
    found = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        found[index] = sympy.Symbol("_".join([name, *map(str, index)]), real=True)
    return found


def _start(posed: Posed, lam: Array) -> tuple[tuple[sympy.Expr, ...], str]:
    theta = np.array(symbols("start", posed.theta0.size), dtype=object)
    if "start_jacobian" not in posed.arrays:
        return tuple(theta), "theta^0 = start, the entries of `theta0`"
    jacobian = _symbols("start_jacobian", posed.arrays["start_jacobian"].shape)
    moved = tuple(theta + jacobian @ lam)
    return moved, "theta^0 = start + start_jacobian lambda, start being the entries of `theta0`"


def _quadratic(posed: Posed) -> Formulas:
    at = {name: _symbols(name, array.shape) for name, array in posed.arrays.items()}
    lam = np.array(symbols("lambda", posed.lam.size), dtype=object)
    theta = np.array(symbols("theta", posed.theta0.size), dtype=object)
    half = sympy.Rational(1, 2)
    inner = half * (theta @ at["hessian"] @ theta) - theta @ (at["coupling"] @ lam + at["shift"])
    outer = half * (theta @ at["outer_hessian"] @ theta) + at["outer_slope"] @ theta
    inner_words = "1/2 theta' hessian theta - theta' (coupling lambda + shift)"
    outer_words = "1/2 theta' outer_hessian theta + outer_slope' theta"
    if "weights" in at:
        inner += half * sum(
            sympy.exp(power) * t**2 for power, t in zip(at["weights"] @ lam, theta, strict=True)
        )
        inner_words += " + 1/2 sum_i exp((weights lambda)_i) theta_i^2"
    if "direct" in at:
        outer += half * (lam @ at["direct"] @ lam) + at["direct_slope"] @ lam
        outer += theta @ at["outer_mixed"] @ lam
        outer_words += (
            " + 1/2 lambda' direct lambda + direct_slope' lambda + theta' outer_mixed lambda"
        )
    initial, start_words = _start(posed, lam)
    words = {"inner": inner_words, "outer": outer_words, "initial": start_words}
    return Formulas(inner, outer, initial, words)


def _logistic(posed: Posed) -> Formulas:
    at = {name: _symbols(name, array.shape) for name, array in posed.arrays.items()}
    lam = np.array(symbols("lambda", posed.lam.size), dtype=object)
    theta = np.array(symbols("theta", posed.theta0.size), dtype=object)

    def misfits(features: Array, labels: Array) -> list[sympy.Expr]:
        rows = zip(features, labels, strict=True)
        return [sympy.log(1 + sympy.exp(-y * (x @ theta))) for x, y in rows]

    chosen = symbols("weight", len(at["features"]))
    held = symbols("outer_weight", len(at["held_features"]))
    inner = sympy.Rational(1, 20) * (theta @ theta) + sum(
        weight * loss / (1 + sympy.exp(-power))
        for weight, loss, power in zip(
            chosen, misfits(at["features"], at["labels"]), lam, strict=True
        )
    )
    losses = misfits(at["held_features"], at["held_labels"])
    outer = sum(weight * loss for weight, loss in zip(held, losses, strict=True))
    if "direct" in at:
        outer += at["direct"][()] * (lam @ lam)
    initial, start_words = _start(posed, lam)
    words = {
        "inner": "sum_i weight_i log(1 + exp(-labels_i features_i' theta)) / (1 + exp(-lambda_i)) "
        "+ theta' theta / 20, weight_i being 1/b for the b examples in the step's batch and 0 for "
        "the others; without batches 1 over the number of examples",
        "outer": "sum_i outer_weight_i log(1 + exp(-held_labels_i held_features_i' theta))"
        + (" + direct lambda' lambda" if "direct" in at else "")
        + ", outer_weight_i likewise",
        "initial": start_words,
    }
    return Formulas(inner, outer, initial, words)


def _grid(draw: np.random.Generator, largest: int, unit: int, *shape: int) -> Array:
    """Multiples of 1/unit, at most `largest`/unit in size."""
    drawn: Array = draw.integers(-largest, largest + 1, shape) / unit
    return drawn


def _quadratic_data(
    draw: np.random.Generator, n: int, p: int, *, direct: bool, curved: bool
) -> dict[str, Array]:
    factor, outer = _grid(draw, 8, 8, n, n), _grid(draw, 8, 8, n, n)
    square = _grid(draw, 8, 8, p, p)
    data = {
        "hessian": factor @ factor.T / 2 + np.eye(n) / 2,
        "coupling": _grid(draw, 16, 16, n, p),
        "shift": _grid(draw, 16, 16, n),
        "outer_hessian": outer @ outer.T / 4,
        "outer_slope": _grid(draw, 16, 16, n),
    }
    if direct:
        data["direct"] = (square + square.T) / 2
        data["direct_slope"] = _grid(draw, 16, 16, p)
        data["outer_mixed"] = _grid(draw, 16, 16, n, p)
    if curved:
        data["weights"] = _grid(draw, 8, 16, n, p)
    return data


def _a_quadratic(
    name: str, seed: int, n: int, p: int, *, direct: bool = True, curved: bool = False
) -> Posed:
    draw = np.random.Generator(np.random.Philox(key=seed))
    data = _quadratic_data(draw, n, p, direct=direct, curved=curved)
    return Posed(name, "quadratic", data, _grid(draw, 16, 16, p), _grid(draw, 16, 16, n))


def _a_logistic(name: str, seed: int, *, batches: bool) -> Posed:
    draw = np.random.Generator(np.random.Philox(key=seed))
    n, examples, settings = 3, 6, VectorSettings(step_size=0.5)
    data = {
        "features": _grid(draw, 16, 8, examples, n),
        "labels": np.where(_grid(draw, 8, 8, examples) > 0, 1.0, -1.0),
        "held_features": _grid(draw, 16, 8, examples, n),
        "held_labels": np.where(_grid(draw, 8, 8, examples) > 0, 1.0, -1.0),
        "direct": np.array(0.0625),
    }
    posed = Posed(
        name, "weighted logistic", data, _grid(draw, 16, 16, examples), _grid(draw, 8, 16, n)
    )
    if not batches:
        return replace(posed, settings=settings)

    def indices(rows: int, size: int) -> Array:
        chosen = [draw.choice(examples, size, replace=False) for _ in range(rows)]
        return np.sort(np.stack(chosen), axis=1)

    return replace(
        posed,
        settings=settings,
        inner_batches=indices(settings.steps, 3),
        outer_batches=indices(settings.steps + 1, 4),
        estimands=("unrolled", "pathwise"),
    )


def problems() -> tuple[Posed, ...]:
    """All of them, the plainest first."""
    plain = _a_quadratic("quadratic", 1, 4, 3, direct=False)
    identity = _a_quadratic("scaled-identity", 3, 4, 3)
    moving = _a_quadratic("moving-start", 5, 3, 2, curved=True)
    noisy = _a_quadratic("langevin", 6, 3, 4, curved=True)
    kicks = _grid(np.random.Generator(np.random.Philox(key=60)), 16, 64, noisy.settings.steps, 3)
    jacobian = _grid(np.random.Generator(np.random.Philox(key=50)), 16, 16, 3, 2)
    everything = ("unrolled", "pathwise", "implicit", "gibbs")
    return (
        plain,
        _a_quadratic("quadratic-direct", 2, 3, 4),
        # The Hessian is 2.5 times the identity: a series or a solve may seem right that is not.
        replace(identity, arrays={**identity.arrays, "hessian": np.eye(4) * 2.5}),
        replace(_a_quadratic("curved", 4, 4, 3, curved=True), estimands=everything),
        replace(moving, arrays={**moving.arrays, "start_jacobian": jacobian}),
        replace(noisy, noise=kicks, estimands=("unrolled", "pathwise", "gibbs")),
        _a_logistic("example-weights", 7, batches=False),
        _a_logistic("minibatches", 8, batches=True),
    )
