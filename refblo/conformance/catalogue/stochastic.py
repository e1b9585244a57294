"""The entries and the truth by which targets that draw their own noise (`stochastic = True`) are judged.

Such a target is judged by the mean of its hypergradients over seeds (`refblo.conformance.suite`), so an entry
can be used only if that mean has a closed form. It has one if the inner loss is quadratic,

    ½ θ'Hθ − θ'(Kλ + c) [+ ½ Σ exp(Wλ)∘θ²],

and the rule is gradient descent or Langevin with a constant step size: then θ^m is Gaussian, and E[f] and its
derivative by λ follow from the mean and the covariance of θ^m (`refblo.problems.quadratic_forms`).

An entry may be added to `_QUADRATIC_ENTRIES` if `closed_forms` accepts it. Entries without noise are in the
list for targets that are random by themselves, such as evolution strategies: their mean is the exact
hypergradient.
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
_QUADRATIC_ENTRIES = ("quadratic-direct", "curved-hessian", "outer-constant", "langevin")
"""Names of the entries of the catalogue that a stochastic target is run on."""


def stochastic_entries() -> tuple[Entry, ...]:
    """The quadratic entries, each with the estimands whose mean over the noise is judged.

    An entry whose rule has noise is judged for the unrolled, the pathwise and the Gibbs hypergradient, one
    whose rule has none for the unrolled hypergradient alone.
    """
    with_noise = (Estimand.UNROLLED, Estimand.PATHWISE, Estimand.GIBBS)
    return tuple(
        replace(entry, estimands=with_noise if entry.rule.noise > 0 else (Estimand.UNROLLED,))
        for entry in entries()
        if entry.name in _QUADRATIC_ENTRIES
    )


def closed_forms(entry: Entry) -> QuadraticForms:
    """The closed forms of a quadratic entry.

    Raises:
        OracleError: if the entry is not quadratic.
    """
    data = entry.statement.data
    if "hessian" not in data:
        raise OracleError(
            f"entry must be quadratic, got {entry.name!r}; the mean has no closed form"
        )
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
    """The mean over the noise of an estimand's hypergradient, at the entry's λ, shape (p,).

    Raises:
        OracleError: if this mean has no closed form.
    """
    rule, forms = entry.rule, closed_forms(entry)
    if not rule.plain:
        raise OracleError(
            f"entry must have a plain gradient or Langevin rule, got {rule}; the mean has no closed form"
        )
    dynamics = Langevin(rule.constant("step_size"), rule.temperature, rule.noise_scale)
    mean: Float64[Array, " p"] | None
    if estimand is Estimand.GIBBS:
        mean = forms.gibbs(entry.lam, rule.temperature * rule.noise_scale**2)
    elif estimand is Estimand.IMPLICIT:
        mean = forms.implicit(entry.lam)
    else:
        mean = forms.mean_pathwise(entry.lam, dynamics, entry.schedule_of(estimand))
    if mean is None:
        raise OracleError(f"{entry.name} must have a {estimand.value} hypergradient, got none")
    return mean
