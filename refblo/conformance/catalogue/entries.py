"""The entries of the conformance catalogue."""

from dataclasses import replace

from refblo.conformance.catalogue.builders import (
    BOTH,
    MEAN,
    SPREAD,
    initial_only,
    logistic,
    moving_start,
    network,
    noisy,
    quadratic,
    zero_gradient,
)
from refblo.conformance.catalogue.corners import corner_entries
from refblo.conformance.catalogue.entry import Entry
from refblo.errors import ArgumentError
from refblo.rules.rule import Rule

TWO = [0.5, 0.5, 0.5, 2.0, 2.0, 2.0]
ILL = [0.02, 0.1, 0.3, 0.9, 1.4, 2.0]


def entries() -> tuple[Entry, ...]:
    """All entries, the plainest first, so that a report reads from simple to hard."""
    return (*_plain_entries(), *corner_entries())


def _plain_entries() -> tuple[Entry, ...]:
    plain = Rule(0.3)
    momentum = Rule(0.2, momentum=0.6)
    adam = Rule(0.05, betas=(0.8, 0.9), adam_epsilon=1e-4)
    langevin = Rule(0.08, temperature=0.05, noise_scale=1.0)
    early = Rule(0.4)  # the inverse of the curvature 2.5: gradient descent is done after one step
    return (
        quadratic("quadratic", 1, SPREAD, 3, plain, {"step size is not 1"}, estimands=BOTH),
        quadratic("quadratic-direct", 2, SPREAD, 3, plain, set(), direct=True, estimands=BOTH),
        quadratic(
            "scaled-identity",
            3,
            [2.5] * 5,
            3,
            plain,
            {"Hessian is c·I"},
            direct=True,
            estimands=BOTH,
        ),
        quadratic(
            "converges-at-once",
            4,
            [2.5] * 4,
            3,
            early,
            {"Hessian is c·I", "solver converges exactly before its last iteration"},
            direct=True,
            estimands=BOTH,
        ),
        quadratic(
            "two-eigenvalues",
            5,
            TWO,
            4,
            plain,
            {"solver converges exactly before its last iteration"},
            direct=True,
            estimands=BOTH,
        ),
        quadratic(
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
        quadratic(
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
        quadratic(
            "ill-conditioned",
            8,
            ILL,
            4,
            Rule(0.45),
            {"ill-conditioned"},
            direct=True,
            estimands=BOTH,
        ),
        quadratic(
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
        moving_start(
            quadratic("moving-start", 9, SPREAD, 3, plain, set(), direct=True, curved=True), 90
        ),
        moving_start(
            initial_only(quadratic("initial-point-only", 32, SPREAD, 3, plain, set())), 97
        ),
        network("network", 10, Rule(0.35), set()),
        network("network-direct", 11, Rule(0.35), set(), direct=True),
        moving_start(network("network-moving-start", 12, Rule(0.35), set()), 91),
        logistic("example-weights", 13, Rule(0.8), set(), estimands=BOTH),
        logistic("example-weights-direct", 14, Rule(0.8), set(), direct=True, estimands=BOTH),
        logistic("inner-minibatches", 15, Rule(0.8), {"minibatches"}, inner_batch=4, direct=True),
        logistic("all-minibatches", 16, Rule(0.8), {"minibatches"}, inner_batch=4, outer_batch=5),
        network("network-minibatches", 17, Rule(0.3), {"minibatches"}, batch=4),
        quadratic(
            "decay-in-the-optimiser",
            18,
            SPREAD,
            3,
            Rule(0.3, weight_decay=0.4),
            {"weight decay in the optimiser"},
            direct=True,
            estimands=BOTH,
        ),
        network(
            "network-decay", 19, Rule(0.3, weight_decay=0.2), {"weight decay in the optimiser"}
        ),
        quadratic("momentum", 20, SPREAD, 3, momentum, {"momentum"}, direct=True, estimands=BOTH),
        network("network-momentum", 21, momentum, {"momentum"}, direct=True),
        logistic(
            "momentum-and-decay",
            22,
            Rule(0.5, momentum=0.5, weight_decay=0.1),
            {"momentum", "weight decay in the optimiser"},
        ),
        network("adam", 23, adam, {"Adam"}),
        network(
            "adam-zero-gradient", 24, adam, {"Adam", "exactly zero gradient under Adam"}, unused=1
        ),
        zero_gradient(
            quadratic(
                "adam-crosses-zero",
                33,
                SPREAD,
                3,
                Rule(0.05, betas=(0.8, 0.9), adam_epsilon=1e-2),
                {"Adam"},
                direct=True,
            )
        ),
        noisy(
            quadratic(
                "langevin", 25, SPREAD, 3, langevin, set(), direct=True, curved=True, estimands=MEAN
            ),
            92,
        ),
        noisy(network("network-langevin", 26, langevin, set()), 93),
        quadratic("mean-over-samples", 27, SPREAD, 3, plain, set(), direct=True, estimands=MEAN),
        replace(network("network-mean", 28, Rule(0.3), set()), estimands=MEAN),
        noisy(
            logistic(
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
        moving_start(
            noisy(
                quadratic(
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
