"""All contracts. A new estimator adds its line here."""

from functools import cache

from refblo.contracts.agreement import agreement
from refblo.contracts.alignment import direction
from refblo.contracts.contract import Contract
from refblo.contracts.exact import exact
from refblo.contracts.field import field_contracts
from refblo.contracts.first_order import direct_term
from refblo.contracts.hpo_sgld import fixed_horizon, order_with_noise, order_without_noise
from refblo.contracts.implicit import (
    conjugate_gradients,
    dense_at_minimiser,
    geometric_in_steps,
    neumann_series,
)
from refblo.contracts.solve import solves_its_system
from refblo.contracts.stochastic import unbiased
from refblo.contracts.truncated import geometric_truncation
from refblo.estimators import FMD, HPOSGLD, RMD, NeumannScaling, RMDFirstOrder
from refblo.types import Estimand


@cache
def contracts() -> tuple[Contract, ...]:
    """Every contract of every estimator."""
    return (
        *(agreement(estimand) for estimand in Estimand),
        exact("FMD", FMD),
        exact("FMD", FMD, pathwise=False, small=True),
        exact(
            "FMD, column blocks", lambda rule, schedule: FMD(rule, schedule, block=2), small=True
        ),
        exact("RMD", RMD),
        exact("RMD", RMD, pathwise=False),
        exact("RMD, checkpointed", lambda rule, schedule: RMD(rule, schedule, checkpointed=True)),
        unbiased("RMD", RMD),
        geometric_truncation("RMD, truncated"),
        direct_term("RMD-FO", RMDFirstOrder),
        order_without_noise("HPO-SGLD", HPOSGLD),
        order_with_noise("HPO-SGLD", HPOSGLD),
        fixed_horizon("HPO-SGLD", HPOSGLD),
        direction("HPO-SGLD", HPOSGLD),
        neumann_series("IFT-Neumann", NeumannScaling.SCALED),
        neumann_series("IFT-Neumann, unscaled", NeumannScaling.UNSCALED),
        conjugate_gradients("IFT-CG", damping=0.0),
        solves_its_system("IFT-CG"),
        conjugate_gradients("IFT-CG, damped", damping=0.01),
        dense_at_minimiser("IFT-dense"),
        geometric_in_steps("IFT-dense"),
        *field_contracts(),
    )
