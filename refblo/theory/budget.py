"""The error budget: HPO-SGLD's distance from the implicit hypergradient, part by part.

    HPO-SGLD − implicit = (HPO-SGLD − pathwise)          recursion
                        + (pathwise − its mean)          Monte Carlo
                        + (its mean − Gibbs)             burn-in and discretisation
                        + (Gibbs − implicit)             temperature

Each part is a vector and the four add up to the whole, exactly: none is a bound.

Claims: eq-22, field-ula.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.errors import require
from refblo.estimators import HPOSGLD, RMD
from refblo.noise import Draws
from refblo.problems.case import Case

Array = np.ndarray


@final
@dataclass(frozen=True, eq=False)
class ErrorBudget:
    """The parts of an error, each of shape (p,).

    Attributes:
        case: the case's name.
        recursion: from replacing every transition Jacobian by the identity.
        monte_carlo: from one noise realisation instead of the mean.
        discretisation: from a finite run at a finite step instead of the stationary distribution.
        temperature: from a Gibbs distribution instead of the inner minimiser.
        truth: the implicit hypergradient.
    """

    case: str
    recursion: Float64[Array, " p"]
    monte_carlo: Float64[Array, " p"]
    discretisation: Float64[Array, " p"]
    temperature: Float64[Array, " p"]
    truth: Float64[Array, " p"]

    @property
    def total(self) -> Float64[Array, " p"]:
        """HPO-SGLD − implicit."""
        parts = (self.recursion, self.monte_carlo, self.discretisation, self.temperature)
        total: Array = np.sum(parts, axis=0)
        return total

    @property
    def shares(self) -> dict[str, float]:
        """Norm of each part over the norm of the implicit hypergradient."""
        size = float(np.linalg.norm(self.truth))
        parts = {
            "recursion": self.recursion,
            "Monte Carlo": self.monte_carlo,
            "burn-in and discretisation": self.discretisation,
            "temperature": self.temperature,
        }
        return {name: float(np.linalg.norm(part)) / size for name, part in parts.items()}


def has_budget(case: Case) -> bool:
    """Whether the case has closed forms for every truth that the budget needs."""
    forms = case.closed_forms
    if forms is None:
        return False
    lam = case.lam.detach().cpu().double().numpy()
    temperature = case.dynamics.temperature * case.dynamics.noise_scale**2
    implicit = forms.implicit(lam)
    # Where λ is the initial point alone, the implicit hypergradient is zero: nothing to be off from.
    if temperature == 0 or implicit is None or not np.any(implicit):
        return False
    mean = forms.mean_pathwise(lam, case.dynamics, case.schedule)
    return mean is not None and forms.gibbs(lam, temperature) is not None


def error_budget(case: Case, draws: Draws) -> ErrorBudget:
    """Measure the budget of one HPO-SGLD run.

    Args:
        case: a case with closed forms for the mean pathwise, Gibbs and implicit hypergradients, and with
            noise (κ > 0).
        draws: the run's randomness.

    Raises:
        ArgumentError: if the case lacks one of them.
    """
    remedy = "use a case of the quadratic family, with κ > 0"
    require(has_budget(case), "case", "have noise and every closed form", case.name, remedy)
    forms = case.closed_forms
    assert forms is not None  # has_budget says so
    lam = case.lam.detach().cpu().double().numpy()
    hpo = HPOSGLD(case.dynamics, case.schedule).estimate(case.problem, case.lam, draws)
    pathwise = RMD(case.dynamics, case.schedule).estimate(case.problem, case.lam, draws)
    estimate, exact = (result.value.detach().cpu().double().numpy() for result in (hpo, pathwise))
    mean = forms.mean_pathwise(lam, case.dynamics, case.schedule)
    gibbs = forms.gibbs(lam, case.dynamics.temperature * case.dynamics.noise_scale**2)
    implicit = forms.implicit(lam)
    assert mean is not None  # has_budget says so, for all three
    assert gibbs is not None
    assert implicit is not None
    return ErrorBudget(
        case.name, estimate - exact, exact - mean, mean - gibbs, gibbs - implicit, implicit
    )
