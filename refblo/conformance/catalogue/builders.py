"""How entries of the conformance catalogue are made: instances drawn from fixed seeds.

They are small, have p ≠ n (but where one of each is the point), a step size other than 1 and a well-behaved
run: what is wrong in an implementation should show in them to many digits, and within milliseconds.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from refblo.chain import Schedule
from refblo.conformance.catalogue import losses
from refblo.conformance.catalogue.entry import Entry
from refblo.problems.namespace import Statement
from refblo.rules.rule import Rule
from refblo.types import Estimand

Array = np.ndarray
UNROLLED, PATHWISE, IMPLICIT = Estimand.UNROLLED, Estimand.PATHWISE, Estimand.IMPLICIT
RUN, BOTH = (UNROLLED,), (UNROLLED, IMPLICIT)
MEAN = (UNROLLED, PATHWISE)
STEPS = 12
"""Inner steps of most entries: enough for every index mistake to show, few enough to be quick."""
SPREAD = [0.4, 0.7, 1.0, 1.5, 2.0]
"""Eigenvalues of a Hessian in no special position."""


def generator(seed: int) -> np.random.Generator:
    """Random numbers of one instance."""
    return np.random.Generator(np.random.Philox(key=seed))


def hessian(eigenvalues: Float64[Array, " n"], draw: np.random.Generator) -> Float64[Array, "n n"]:
    """A symmetric matrix of given eigenvalues."""
    basis, _ = np.linalg.qr(draw.standard_normal((eigenvalues.size, eigenvalues.size)))
    matrix = (basis * eigenvalues) @ basis.T
    symmetric: Array = (matrix + matrix.T) / 2
    return symmetric


def quadratic(
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
    """A quadratic inner loss of given eigenvalues, or one with a diagonal that depends on λ."""
    draw = generator(seed)
    n = len(eigenvalues)
    if shapes:
        traits = traits | {"several tensors coupled through the Hessian"}
    factor = draw.standard_normal((n, n))
    data = {
        "hessian": hessian(np.array(eigenvalues), draw),
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


def zero_gradient(entry: Entry) -> Entry:
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
    return replace(entry, statement=statement, lam=lam, theta0=theta, traits=traits)


def initial_only(entry: Entry) -> Entry:
    """The entry with an inner loss that λ does not enter: all of λ's effect is through θ⁰."""
    coupling = np.zeros_like(entry.statement.data["coupling"])
    data = {**entry.statement.data, "coupling": coupling}
    statement = Statement(entry.statement.factory, data)
    traits = entry.traits | {"inner loss does not depend on lam"}
    return replace(entry, statement=statement, traits=traits)


def network(
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
    """A small network with a decay for each of its tensors."""
    draw = generator(seed)
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
        inner_batches=indices(draw, steps, examples, batch),
    )


def logistic(
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
    """Weighted logistic regression."""
    draw = generator(seed)
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
        inner_batches=indices(draw, steps, examples, inner_batch),
        outer_batches=indices(draw, steps + 1, examples, outer_batch),
    )


def indices(
    draw: np.random.Generator, count: int, population: int, size: int | None
) -> Array | None:
    """The batches of some steps, as rows of indices; None for no batches."""
    if size is None:
        return None
    return np.stack([np.sort(draw.choice(population, size, replace=False)) for _ in range(count)])


def noisy(entry: Entry, seed: int) -> Entry:
    """The entry with noise of the rule's size at each step."""
    draw = generator(seed)
    shape = (entry.schedule.steps, entry.theta0.size)
    noise = entry.rule.noise * draw.standard_normal(shape)
    return replace(entry, noise=noise, traits=entry.traits | {"noise"})


def moving_start(entry: Entry, seed: int) -> Entry:
    """The entry with an initial point that depends on λ."""
    draw = generator(seed)
    jacobian = draw.standard_normal((entry.theta0.size, entry.lam.size))
    traits = entry.traits | {"initial point depends on lam"}
    return replace(entry, start_jacobian=jacobian, traits=traits)
