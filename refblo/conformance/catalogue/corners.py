"""Entries at the edges: one number of each, a rule that depends on λ, flat directions, batches of pairs."""

from dataclasses import replace

import numpy as np

from refblo.chain import Schedule
from refblo.conformance.catalogue import losses
from refblo.conformance.catalogue.builders import (
    BOTH,
    RUN,
    SPREAD,
    STEPS,
    generator,
    moving_start,
    quadratic,
)
from refblo.conformance.catalogue.entry import Entry
from refblo.problems.namespace import Statement
from refblo.rules.rule import Rule
from refblo.types import Estimand

FLAT = 2
"""Directions in which a singular Hessian is zero."""


def corner_entries() -> tuple[Entry, ...]:
    """The entries at the edges."""
    plain = Rule(0.3)
    one = quadratic(
        "one-by-one", 97, [1.3], 1, plain, set(), direct=True, curved=True, estimands=BOTH
    )
    one = replace(one, traits=one.traits | {"one hyperparameter and one parameter"})
    blocks = quadratic(
        "uneven-blocks",
        42,
        [0.4, 0.5, 0.7, 0.8, 1.0, 1.3, 1.7, 2.0],
        3,
        plain,
        {"a tensor without dimensions"},
        direct=True,
        curved=True,
        estimands=BOTH,
        shapes=((), (1,), (3, 2)),
    )
    learned = quadratic(
        "learned-step-size", 43, SPREAD, 3, Rule(0.2), set(), direct=True, curved=True
    )
    return (
        one,
        replace(one, name="one-by-one-scalars", scalars=True),
        blocks,
        _learned(learned, 143),
        _learned(
            moving_start(
                quadratic("learned-step-size-moving-start", 44, SPREAD[:4], 3, Rule(0.2), set()), 98
            ),
            144,
        ),
        _flat("many-minimisers", 45, minimiser=True),
        _flat("no-minimiser", 46, minimiser=False),
        _regression("pair-minibatches", 47),
    )


def _learned(entry: Entry, seed: int) -> Entry:
    """The entry with the step size γ exp(r·λ)."""
    rate = 0.3 * generator(seed).standard_normal(entry.lam.size)
    traits = entry.traits | {"the step size depends on lam"}
    return replace(entry, rate=rate, traits=traits)


def _flat(name: str, seed: int, *, minimiser: bool) -> Entry:
    """A quadratic entry whose Hessian is exactly 0 in its last directions.

    With a minimiser the inner loss is constant along them, so that there are many, and where the run ends
    depends on where it began; otherwise it falls along them without end. The run is a program all the same,
    and has its unrolled hypergradient.
    """
    entry = quadratic(name, seed, [*SPREAD, 1.2], 4, Rule(0.3), set(), direct=True, estimands=BOTH)
    data = {key: array.copy() for key, array in entry.statement.data.items()}
    data["hessian"][-FLAT:] = data["hessian"][:, -FLAT:] = 0.0
    if minimiser:
        data["coupling"][-FLAT:] = data["shift"][-FLAT:] = 0.0
    trait = "many inner minimisers" if minimiser else "no inner minimiser"
    reason = (
        "the inner Hessian is singular and there are many minimisers; to choose one, such as that of minimal "
        "norm, is a convention"
        if minimiser
        else "the inner Hessian is singular and there is no minimiser"
    )
    return replace(
        entry,
        statement=Statement(entry.statement.factory, data),
        traits=entry.traits | {trait, "singular inner Hessian"},
        undefined={Estimand.IMPLICIT: reason},
    )


def _regression(name: str, seed: int) -> Entry:
    """Least squares on batches that are pairs (features, targets), with a decay for each group of weights."""
    draw = generator(seed)
    n, groups, examples, size = 5, 3, 10, 4
    data = {
        "features": draw.standard_normal((examples, n)),
        "targets": draw.standard_normal(examples),
        "groups": np.eye(groups)[np.arange(n) % groups],
    }

    def pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
        return draw.standard_normal((count, size, n)), draw.standard_normal((count, size))

    return Entry(
        name=name,
        statement=Statement(losses.regression, data),
        lam=-1.0 + 0.3 * draw.standard_normal(groups),
        theta0=draw.standard_normal(n),
        rule=Rule(0.15),
        schedule=Schedule(STEPS // 2, STEPS - STEPS // 2),
        estimands=RUN,
        traits=frozenset({"minibatches", "a batch is a pair of arrays"}),
        shapes=((n,),),
        inner_batches=pairs(STEPS),
        outer_batches=pairs(STEPS + 1),
    )
