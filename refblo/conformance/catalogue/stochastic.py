"""Entries for targets that draw their own noise: the mean of what they return has a closed form.

The inner loss is ½ θ'Hθ − θ'(Kλ + c) [+ ½ Σ exp(Wλ)∘θ²] and the noise is Gaussian, so that θ^m is
Gaussian, and E[f] and its derivative by λ follow from its mean and covariance (see
`refblo.problems.quadratic_forms`).
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from refblo.chain import Langevin
from refblo.conformance.catalogue.entries import entries
from refblo.conformance.catalogue.entry import Entry
from refblo.errors import OracleError
from refblo.problems.quadratic_forms import Diagonal, Quadratic, QuadraticForms
from refblo.types import Estimand

Array = np.ndarray
_CHOSEN = ("quadratic-direct", "curved-hessian", "outer-constant", "langevin")


def stochastic_entries() -> tuple[Entry, ...]:
    """The quadratic entries, noisy where the rule has noise, asked for the mean over the noise."""
    chosen = [found for found in entries() if found.name in _CHOSEN]
    asked = []
    for found in chosen:
        noisy = found.rule.noise > 0
        estimands = (
            (Estimand.UNROLLED, Estimand.PATHWISE, Estimand.GIBBS)
            if noisy
            else (Estimand.UNROLLED,)
        )
        asked.append(replace(found, estimands=estimands, _programs={}))
    return tuple(asked)


def forms(entry: Entry) -> QuadraticForms:
    """The closed forms of a quadratic entry.

    Raises:
        OracleError: if the entry is not quadratic.
    """
    data = entry.statement.data
    if "hessian" not in data:
        raise OracleError(f"entry must be quadratic, got {entry.name!r}; its mean has no formula")
    n, p = data["coupling"].shape
    jacobian = np.zeros((n, p)) if entry.start_jacobian is None else entry.start_jacobian
    return QuadraticForms(
        Quadratic(
            hessian=data["hessian"],
            coupling=data["coupling"],
            shift=data["shift"],
            outer_hessian=data["outer_hessian"],
            outer_mixed=data.get("outer_mixed", np.zeros((n, p))),
            outer_direct=data.get("direct", np.zeros((p, p))),
            outer_slope=data["outer_slope"],
            direct_slope=data.get("direct_slope", np.zeros(p)),
            start=entry.theta0,
            start_jacobian=jacobian,
            diagonal=Diagonal(data["weights"], exponential=True) if "weights" in data else None,
        )
    )


def mean_truth(entry: Entry, estimand: Estimand) -> Float64[Array, " p"]:
    """The mean over the noise of an estimand's hypergradient, at the entry's λ.

    Raises:
        OracleError: if it has no formula.
    """
    rule, found = entry.rule, forms(entry)
    if not rule.plain:
        raise OracleError(f"the rule must be Langevin's, got {rule}; its mean has no formula")
    dynamics = Langevin(rule.constant("step_size"), rule.temperature, rule.noise_scale)
    answer: Float64[Array, " p"] | None
    if estimand is Estimand.GIBBS:
        answer = found.gibbs(entry.lam, rule.temperature * rule.noise_scale**2)
    elif estimand is Estimand.IMPLICIT:
        answer = found.implicit(entry.lam)
    else:
        answer = found.mean_pathwise(entry.lam, dynamics, entry.schedule_of(estimand))
    if answer is None:
        raise OracleError(f"{entry.name} must have a {estimand.value} hypergradient, got none")
    return answer
