"""The families of mistakes, in the order in which they are asked: what costs little first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

from refblo.conformance.diagnosis import (
    blocks,
    chain,
    conjugate,
    curvature,
    damping,
    densities,
    drawn,
    entries,
    estimands,
    leftover,
    mixed,
    moments,
    normaliser,
    optimiser,
    order,
    parts,
    repeated,
    rule_numbers,
    rule_parts,
    series,
    shift,
    stale,
    swapped,
    transition,
    truncation,
    unconverged,
)
from refblo.conformance.diagnosis.setting import Candidate, Setting, Subject
from refblo.types import Estimand


@final
@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: as a diagnosis lists it where it could not be evaluated.
        candidates: what implementations with its mistakes return.
        keeps: whether they do not depend on what was observed.
    """

    name: str
    candidates: Callable[[Setting], Iterator[Candidate]]
    keeps: bool


def _fixed(name: str, candidates: Callable[[Subject], Iterator[Candidate]]) -> Family:
    return Family(name, lambda setting: candidates(setting.subject), True)


def _run(name: str, candidates: Callable[[Subject], Iterator[Candidate]]) -> Family:
    """A family that has nothing to say of a density."""

    def of_run(setting: Setting) -> Iterator[Candidate]:
        if setting.subject.estimand is not Estimand.GIBBS:
            yield from candidates(setting.subject)

    return Family(name, of_run, True)


def _fit(name: str, candidates: Callable[[Setting], Iterator[Candidate]]) -> Family:
    return Family(name, candidates, False)


STAGES: tuple[tuple[Family, ...], ...] = (
    (
        _fixed("terms, signs and factors", parts.candidates),
        _fit("accumulation over calls", repeated.candidates),
        _fit("difference quotients", parts.differences),
        _fixed("derivative along ones", entries.ones),
        _run("mixed product", mixed.candidates),
        _run("transition Jacobian", transition.candidates),
        _run("truncation", truncation.candidates),
        _run("old theta", stale.theta_candidates),
        _run("off by one", shift.candidates),
        _run("advanced state", shift.advanced),
        _run("noise and batches", drawn.candidates),
        _run("optimiser", optimiser.candidates),
        _run("Adam", moments.candidates),
        _run("the rule's own derivative", rule_parts.candidates),
        _run("theta detached", rule_numbers.detached),
        _fixed("density", densities.candidates),
        _fixed("another estimand", estimands.candidates),
        _run("Hessian's blocks", blocks.candidates),
        _run("conjugate gradients", conjugate.candidates),
        _run("usual damping", damping.usual),
        _run("Neumann series", series.candidates),
        _run("inner loss for outer loss", swapped.inner_for_outer),
        _run("displacement", swapped.displacement),
        _run("continuous adjoint", swapped.continuous),
        _run("tasks", swapped.tasks),
    ),
    (
        _run("the rule's numbers", rule_numbers.candidates),
        _run("another number of steps", rule_numbers.lengths),
        _fixed("implicit estimand", estimands.solution),
        _fit("old lambda", stale.candidates),
        _run("normalisers", normaliser.candidates),
        _run("curvature matrices", curvature.candidates),
        _run("unconverged inner solver", unconverged.candidates),
    ),
    (
        _fit("scaled terms", parts.scaled),
        _fit("order of the entries", order.candidates),
        _fit("one entry or block", entries.one_part),
        _fit("entries that are zero", entries.zeros),
        _fit("chain factor", chain.candidates),
        _fit("damping", damping.candidates),
        _fit("Neumann series with another factor", series.fitted),
        _fit("another step size", rule_numbers.step_size),
        _fit("scaled noise", drawn.noise_scales),
    ),
    (_run("inner gradients left in a buffer", leftover.candidates),),
)
"""Stages: no later one is asked once one explains all but rounding."""
