"""Another density than exp(−L_T/τ): its temperature, its prior, its limit; and the two terms of its truth."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from refblo.conformance.truth.program import Program
from refblo.errors import OracleError

Array = np.ndarray


@final
@dataclass(frozen=True, eq=False)
class Density:
    """The Gibbs hypergradient of a program by its two terms.

    Attributes:
        program: whose losses and rule it is of.
        direct: E_p[∂_λ f].
        indirect: −Cov_p(f, ∂_λ L_T)/τ.
    """

    program: Program
    direct: Float64[Array, " p"]
    indirect: Float64[Array, " p"]

    @staticmethod
    def of(program: Program) -> "Density":
        """By quadrature, the direct term with an inner loss that does not depend on λ."""
        total, direct = hypergradient(program), hypergradient(program, fixed=True)
        return Density(program, direct, total - direct)


def hypergradient(
    program: Program,
    *,
    temperature: float | None = None,
    decay: float | None = None,
    fixed: bool = False,
) -> Float64[Array, " p"]:
    """The Gibbs hypergradient of a program's losses.

    Args:
        program: the program, with a known rule and at most two parameters.
        temperature: τ; the rule's when None.
        decay: the weight decay that is part of the density; the rule's when None.
        fixed: whether the inner loss keeps its λ where it is, so that the direct term alone is left.

    Raises:
        OracleError: for a program without losses.
    """
    # Import inside the function: importing refblo.oracles takes 1 s and a worker process does not need it.
    from refblo.chain import Langevin, Schedule
    from refblo.oracles.quadrature import GibbsQuadrature
    from refblo.problem import BilevelProblem, FixedInitial
    from refblo.problems.case import Case
    from refblo.types import Estimand

    losses = program.losses
    if losses is None:
        raise OracleError(
            "the program must have a known rule for its density, got a step; give losses"
        )
    rule = losses.rule
    here = program.lam.detach()

    def inner(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        at = here + 0 * lam if fixed else lam
        return losses.inner(at, theta, batch) + rule.decay_energy(at, theta, decay)

    problem = BilevelProblem(inner, losses.outer, FixedInitial(losses.initial(here).detach()))
    tau = rule.temperature if temperature is None else temperature
    dynamics = Langevin(rule.constant_step_size or 1.0, tau, noise_scale=1.0)
    case = Case("the density", problem, here, dynamics, Schedule.last(1))
    value: Array = GibbsQuadrature().truth(case, Estimand.GIBBS).value.numpy()
    return value
