"""The entries of the conformance catalogue.

Instances are small, drawn from fixed seeds, have p ≠ n, a step size other than 1 and a well-behaved run:
what is wrong in an implementation should show in them to many digits, and within milliseconds.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from refblo.chain import Schedule
from refblo.conformance.catalogue import losses
from refblo.conformance.catalogue.entry import Entry
from refblo.conformance.truth.rules import Rule
from refblo.errors import ArgumentError
from refblo.problems.namespace import Statement
from refblo.types import Estimand

Array = np.ndarray
UNROLLED, PATHWISE, IMPLICIT = Estimand.UNROLLED, Estimand.PATHWISE, Estimand.IMPLICIT
RUN, BOTH = (UNROLLED,), (UNROLLED, IMPLICIT)
MEAN = (UNROLLED, PATHWISE)
STEPS = 12
"""Inner steps of most entries: enough for every index mistake to show, few enough to be quick."""


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def _hessian(eigenvalues: Float64[Array, " n"], draw: np.random.Generator) -> Float64[Array, "n n"]:
    basis, _ = np.linalg.qr(draw.standard_normal((eigenvalues.size, eigenvalues.size)))
    matrix = (basis * eigenvalues) @ basis.T
    symmetric: Array = (matrix + matrix.T) / 2
    return symmetric


def _quadratic(
    name: str,
    seed: int,
    eigenvalues: list[float],
    p: int,
    rule: Rule,
    traits: set[str],
    *,
    estimands: tuple[Estimand, ...] = RUN,
    direct: bool = False,
    constant: float | None = None,
    curved: bool = False,
    schedule: Schedule | None = None,
    shapes: tuple[tuple[int, ...], ...] = (),
) -> Entry:
    draw = _generator(seed)
    n = len(eigenvalues)
    if shapes:
        traits = traits | {"several tensors coupled through the Hessian"}
    factor = draw.standard_normal((n, n))
    data = {
        "hessian": _hessian(np.array(eigenvalues), draw),
        "coupling": draw.standard_normal((n, p)),
        "shift": draw.standard_normal(n),
        "outer_hessian": factor @ factor.T / n,
        "outer_slope": draw.standard_normal(n),
    }
    if direct:
        square = draw.standard_normal((p, p))
        data["direct"] = (square + square.T) / 2
        data["direct_slope"] = draw.standard_normal(p)
        data["outer_mixed"] = draw.standard_normal((n, p))
        traits = traits | {"direct term"}
    if constant is not None:
        data["constant"] = np.array([constant])
    if curved:
        data["weights"] = 0.5 * draw.standard_normal((n, p))
    return Entry(
        name=name,
        statement=Statement(losses.quadratic, data),
        lam=draw.standard_normal(p),
        theta0=draw.standard_normal(n),
        rule=rule,
        schedule=schedule or Schedule(STEPS // 2, STEPS - STEPS // 2),
        estimands=estimands,
        traits=frozenset(traits),
        shapes=shapes or ((n,),),
    )


def _zero_gradient(entry: Entry) -> Entry:
    """The entry with a first gradient whose entry 0 is exactly 0 and still depends on λ.

    Everything that entry 0 is made of is a small multiple of a power of two, so that no array library
    rounds it: h₀₀ θ₀ − (λ₀ + c₀) = 0.75 − (0.5 + 0.25).
    """
    data = {name: array.copy() for name, array in entry.statement.data.items()}
    lam, theta = entry.lam.copy(), entry.theta0.copy()
    data["hessian"][0, :] = data["hessian"][:, 0] = data["coupling"][0, :] = 0.0
    data["hessian"][0, 0], data["coupling"][0, 0], data["shift"][0] = 1.0, 1.0, 0.25
    lam[0], theta[0] = 0.5, 0.75
    statement = Statement(entry.statement.factory, data)
    traits = entry.traits | {"exactly zero gradient under Adam"}
    return replace(entry, statement=statement, lam=lam, theta0=theta, traits=traits, _programs={})


def _initial_only(entry: Entry) -> Entry:
    """The entry with an inner loss that λ does not enter: all of λ's effect is through θ⁰."""
    coupling = np.zeros_like(entry.statement.data["coupling"])
    data = {**entry.statement.data, "coupling": coupling}
    statement = Statement(entry.statement.factory, data)
    traits = entry.traits | {"inner loss does not depend on lam"}
    return replace(entry, statement=statement, traits=traits, _programs={})


def _network(
    name: str,
    seed: int,
    rule: Rule,
    traits: set[str],
    *,
    direct: bool = False,
    unused: int = 0,
    batch: int | None = None,
    steps: int = STEPS,
) -> Entry:
    draw = _generator(seed)
    inputs, hidden, examples = 2, 3, 10
    data = {
        "features": draw.standard_normal((examples, inputs)),
        "targets": draw.standard_normal(examples),
        "held_features": draw.standard_normal((examples, inputs)),
        "held_targets": draw.standard_normal(examples),
        "hidden": np.zeros(hidden),
    }
    if direct:
        data["direct"] = np.array([0.3, -0.2, 0.1])
        traits = traits | {"direct term"}
    if unused:
        # A column of zeros: the weights that it meets, with no decay to speak of, get no gradient at all.
        data["features"][:, -1] = 0.0
    theta = 0.5 * draw.standard_normal(inputs * hidden + 2 * hidden)
    if unused:
        theta[hidden : inputs * hidden] = 0.0
    return Entry(
        name=name,
        statement=Statement(losses.network, data),
        lam=-2.0 + 0.3 * draw.standard_normal(3),
        theta0=theta,
        rule=rule,
        schedule=Schedule(steps // 2, steps - steps // 2),
        estimands=RUN,
        traits=frozenset(traits | {"several tensors coupled through the Hessian"}),
        shapes=((inputs, hidden), (hidden,), (hidden,)),
        inner_batches=_indices(draw, steps, examples, batch),
    )


def _logistic(
    name: str,
    seed: int,
    rule: Rule,
    traits: set[str],
    *,
    estimands: tuple[Estimand, ...] = RUN,
    direct: bool = False,
    inner_batch: int | None = None,
    outer_batch: int | None = None,
    steps: int = STEPS,
) -> Entry:
    draw = _generator(seed)
    n, examples = 4, 9
    true = draw.standard_normal(n)
    features, held = draw.standard_normal((examples, n)), draw.standard_normal((examples, n))
    data = {
        "features": features,
        "labels": np.sign(features @ true + draw.standard_normal(examples)),
        "held_features": held,
        "held_labels": np.sign(held @ true),
    }
    if direct:
        data["direct"] = np.array(0.05)
        traits = traits | {"direct term"}
    return Entry(
        name=name,
        statement=Statement(losses.weighted_logistic, data),
        lam=draw.standard_normal(examples),
        theta0=0.5 * draw.standard_normal(n),
        rule=rule,
        schedule=Schedule(steps // 2, steps - steps // 2),
        estimands=estimands,
        traits=frozenset(traits | {"more hyperparameters than parameters"}),
        shapes=((n,),),
        inner_batches=_indices(draw, steps, examples, inner_batch),
        outer_batches=_indices(draw, steps + 1, examples, outer_batch),
    )


def _indices(
    draw: np.random.Generator, count: int, population: int, size: int | None
) -> Array | None:
    if size is None:
        return None
    return np.stack([np.sort(draw.choice(population, size, replace=False)) for _ in range(count)])


def _noisy(entry: Entry, seed: int) -> Entry:
    draw = _generator(seed)
    shape = (entry.schedule.steps, entry.theta0.size)
    noise = entry.rule.noise * draw.standard_normal(shape)
    return replace(entry, noise=noise, traits=entry.traits | {"noise"}, _programs={})


def _moving_start(entry: Entry, seed: int) -> Entry:
    draw = _generator(seed)
    jacobian = draw.standard_normal((entry.theta0.size, entry.lam.size))
    traits = entry.traits | {"initial point depends on lam"}
    return replace(entry, start_jacobian=jacobian, traits=traits, _programs={})


SPREAD = [0.4, 0.7, 1.0, 1.5, 2.0]
TWO = [0.5, 0.5, 0.5, 2.0, 2.0, 2.0]
ILL = [0.02, 0.1, 0.3, 0.9, 1.4, 2.0]


def entries() -> tuple[Entry, ...]:
    """All entries, the plainest first, so that a report reads from simple to hard."""
    plain = Rule(0.3)
    momentum = Rule(0.2, momentum=0.6)
    adam = Rule(0.05, betas=(0.8, 0.9), adam_epsilon=1e-4)
    langevin = Rule(0.08, temperature=0.05, noise_scale=1.0)
    early = Rule(0.4)  # the inverse of the curvature 2.5: gradient descent is done after one step
    return (
        _quadratic("quadratic", 1, SPREAD, 3, plain, {"step size is not 1"}, estimands=BOTH),
        _quadratic("quadratic-direct", 2, SPREAD, 3, plain, set(), direct=True, estimands=BOTH),
        _quadratic(
            "scaled-identity",
            3,
            [2.5] * 5,
            3,
            plain,
            {"Hessian is c·I"},
            direct=True,
            estimands=BOTH,
        ),
        _quadratic(
            "converges-at-once",
            4,
            [2.5] * 4,
            3,
            early,
            {"Hessian is c·I", "solver converges exactly before its last iteration"},
            direct=True,
            estimands=BOTH,
        ),
        _quadratic(
            "two-eigenvalues",
            5,
            TWO,
            4,
            plain,
            {"solver converges exactly before its last iteration"},
            direct=True,
            estimands=BOTH,
        ),
        _quadratic(
            "outer-constant",
            6,
            SPREAD,
            3,
            plain,
            {"constant added to the outer loss"},
            direct=True,
            constant=1e3,
            estimands=BOTH,
        ),
        _quadratic(
            "curved-hessian",
            7,
            SPREAD[:4],
            3,
            Rule(0.11),
            {"Hessian depends on lam"},
            direct=True,
            curved=True,
            estimands=BOTH,
        ),
        _quadratic(
            "ill-conditioned",
            8,
            ILL,
            4,
            Rule(0.45),
            {"ill-conditioned"},
            direct=True,
            estimands=BOTH,
        ),
        _quadratic(
            "split-parameters",
            31,
            [0.4, 0.5, 0.8, 1.0, 1.3, 1.7, 2.0],
            3,
            plain,
            set(),
            direct=True,
            curved=True,
            estimands=BOTH,
            shapes=((2, 2), (3,)),
        ),
        _moving_start(
            _quadratic("moving-start", 9, SPREAD, 3, plain, set(), direct=True, curved=True), 90
        ),
        _moving_start(
            _initial_only(_quadratic("initial-point-only", 32, SPREAD, 3, plain, set())), 97
        ),
        _network("network", 10, Rule(0.35), set()),
        _network("network-direct", 11, Rule(0.35), set(), direct=True),
        _moving_start(_network("network-moving-start", 12, Rule(0.35), set()), 91),
        _logistic("example-weights", 13, Rule(0.8), set(), estimands=BOTH),
        _logistic("example-weights-direct", 14, Rule(0.8), set(), direct=True, estimands=BOTH),
        _logistic("inner-minibatches", 15, Rule(0.8), {"minibatches"}, inner_batch=4, direct=True),
        _logistic("all-minibatches", 16, Rule(0.8), {"minibatches"}, inner_batch=4, outer_batch=5),
        _network("network-minibatches", 17, Rule(0.3), {"minibatches"}, batch=4),
        _quadratic(
            "decay-in-the-optimiser",
            18,
            SPREAD,
            3,
            Rule(0.3, weight_decay=0.4),
            {"weight decay in the optimiser"},
            direct=True,
            estimands=BOTH,
        ),
        _network(
            "network-decay", 19, Rule(0.3, weight_decay=0.2), {"weight decay in the optimiser"}
        ),
        _quadratic("momentum", 20, SPREAD, 3, momentum, {"momentum"}, direct=True, estimands=BOTH),
        _network("network-momentum", 21, momentum, {"momentum"}, direct=True),
        _logistic(
            "momentum-and-decay",
            22,
            Rule(0.5, momentum=0.5, weight_decay=0.1),
            {"momentum", "weight decay in the optimiser"},
        ),
        _network("adam", 23, adam, {"Adam"}),
        _network(
            "adam-zero-gradient", 24, adam, {"Adam", "exactly zero gradient under Adam"}, unused=1
        ),
        _zero_gradient(
            _quadratic(
                "adam-crosses-zero",
                33,
                SPREAD,
                3,
                Rule(0.05, betas=(0.8, 0.9), adam_epsilon=1e-2),
                {"Adam"},
                direct=True,
            )
        ),
        _noisy(
            _quadratic(
                "langevin", 25, SPREAD, 3, langevin, set(), direct=True, curved=True, estimands=MEAN
            ),
            92,
        ),
        _noisy(_network("network-langevin", 26, langevin, set()), 93),
        _quadratic("mean-over-samples", 27, SPREAD, 3, plain, set(), direct=True, estimands=MEAN),
        replace(_network("network-mean", 28, Rule(0.3), set()), estimands=MEAN),
        _noisy(
            _logistic(
                "everything-drawn",
                29,
                Rule(0.5, temperature=0.02, noise_scale=1.0),
                {"minibatches"},
                inner_batch=4,
                outer_batch=5,
                estimands=MEAN,
            ),
            94,
        ),
        _moving_start(
            _noisy(
                _quadratic(
                    "moving-mean", 30, SPREAD[:4], 3, langevin, set(), direct=True, estimands=MEAN
                ),
                95,
            ),
            96,
        ),
    )


def entry(name: str) -> Entry:
    """One entry by its name.

    Raises:
        ArgumentError: for an unknown name.
    """
    for found in entries():
        if found.name == name:
            return found
    known = ", ".join(found.name for found in entries())
    raise ArgumentError(f"name must be one of {known}, got {name!r}; choose one of these")
