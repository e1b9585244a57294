"""All contracts. A new estimator adds its line here."""

from functools import cache

from refblo.chain import Langevin, Schedule
from refblo.contracts.agreement import agreement
from refblo.contracts.alignment import direction
from refblo.contracts.bounded import holds, meets
from refblo.contracts.closed_form_head import exact_in_one_step, refuses_the_rest
from refblo.contracts.contract import Contract
from refblo.contracts.covariance import gibbs
from refblo.contracts.evolution import order_in_sigma, smoothed
from refblo.contracts.exact import exact
from refblo.contracts.first_order import direct_term
from refblo.contracts.hpo_sgld import fixed_horizon, order_with_noise, order_without_noise
from refblo.contracts.implicit import (
    conjugate_gradients,
    dense_at_minimiser,
    geometric_in_steps,
    neumann_series,
)
from refblo.contracts.joint_objective import envelope
from refblo.contracts.joint_objective import geometric_in_steps as joint_geometric_in_steps
from refblo.contracts.laplace_evidence import gaussian_evidence
from refblo.contracts.meta import (
    exact_on_moving_starts,
    first_order_error,
    geometric_in_products,
    implicit_when_solved,
    reptile_expansion,
)
from refblo.contracts.particles import ParticleLayout, through_particles
from refblo.contracts.random_forward import random_tangents, uoro
from refblo.contracts.running import discounted_limit, discounted_rate, running_solve
from refblo.contracts.solve import solves_its_system
from refblo.contracts.stochastic import unbiased
from refblo.contracts.truncated import geometric_truncation
from refblo.contracts.warm import (
    geometric_in_calls,
    geometric_in_terms,
    geometric_restarted_cg,
    one_step,
)
from refblo.estimators import FMD, HPOSGLD, RMD, NeumannScaling, RMDFirstOrder
from refblo.estimators.adaptive import AdaptiveImplicit, BoundedImplicit
from refblo.estimators.amigo import AmIGO
from refblo.estimators.bmaml import BMAML
from refblo.estimators.closed_form_head import ClosedFormHead, Direction
from refblo.estimators.covariance import CovarianceIdentity
from refblo.estimators.discounted import DiscountedHPOSGLD
from refblo.estimators.evolution import EvolutionStrategies, Variant
from refblo.estimators.fo_maml import FOMAML
from refblo.estimators.fsla import FSLA
from refblo.estimators.imaml import IMAML
from refblo.estimators.joint_objective import JointObjective
from refblo.estimators.laplace_evidence import LaplaceEvidence
from refblo.estimators.maml import MAML
from refblo.estimators.mrbo import MRBO
from refblo.estimators.random_tangents import Law, RandomTangents
from refblo.estimators.reptile import Reptile
from refblo.estimators.running_solve import RunningSolve
from refblo.estimators.saba import SABA
from refblo.estimators.soba import SOBA
from refblo.estimators.stocbio import StocBiO
from refblo.estimators.t1_t2 import T1T2
from refblo.estimators.uoro import UORO
from refblo.estimators.vrbo import VRBO
from refblo.types import Estimand

TANGENTS = {
    "random tangents": Law.RADEMACHER,
    "random tangents, orthogonal": Law.ORTHOGONAL,
    "random tangents, antithetic": Law.ANTITHETIC,
}
STRATEGIES = {
    "ES, as printed": Variant.PRINTED,
    "ES, with a baseline": Variant.BASELINE,
    "ES, antithetic": Variant.ANTITHETIC,
}


@cache
def contracts() -> tuple[Contract, ...]:
    """Every contract of every estimator: first those of the papers' own table, then the field's."""
    return (*_of_the_table(), *_of_the_field())


def _of_the_table() -> tuple[Contract, ...]:
    """Of FMD, RMD, HPO-SGLD and implicit differentiation."""
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
        exact(
            "RMD, three states",
            lambda rule, schedule: RMD(rule, schedule, states=3, graph_bytes=0),
            small=True,
        ),
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
    )


def _of_the_field() -> tuple[Contract, ...]:
    """Of the estimators beyond the papers' own table."""
    return (
        running_solve("running solve", RunningSolve),
        discounted_rate("HPO-SGLD, discounted", DiscountedHPOSGLD),
        discounted_limit("HPO-SGLD, discounted", DiscountedHPOSGLD),
        *(random_tangents(name, _tangents, law) for name, law in TANGENTS.items()),
        uoro("UORO", UORO, balanced=True),
        uoro("UORO, unbalanced", UORO, balanced=False),
        *(smoothed(name, EvolutionStrategies, variant) for name, variant in STRATEGIES.items()),
        order_in_sigma("ES, antithetic", EvolutionStrategies),
        gibbs("covariance identity", CovarianceIdentity),
        holds("IFT-CG, bounded", BoundedImplicit),
        meets("implicit, adaptive", AdaptiveImplicit),
        one_step("T1–T2", lambda gamma: T1T2(Langevin(gamma))),
        geometric_in_calls(
            "AmIGO-SGD", lambda gamma: AmIGO(Langevin(gamma), 1, 4, gamma), steps=4, lag=0
        ),
        geometric_restarted_cg(
            "AmIGO-CG", lambda gamma, count: AmIGO(Langevin(gamma), 1, count), iterations=2
        ),
        geometric_in_calls("SOBA", lambda gamma: SOBA(gamma, gamma)),
        geometric_in_calls("SABA", lambda gamma: SABA(gamma, gamma)),
        geometric_in_calls("FSLA", lambda gamma: FSLA(gamma, gamma)),
        geometric_in_terms("stocBiO", StocBiO),
        geometric_in_terms("MRBO", MRBO),
        geometric_in_terms(
            "VRBO",
            lambda gamma, alpha, terms: VRBO(gamma, alpha, terms, steps=2, period=2, refresh=2),
        ),
        exact_on_moving_starts("MAML", lambda rule, schedule: MAML(rule, schedule.steps)),
        first_order_error("FO-MAML", FOMAML),
        reptile_expansion("Reptile", Reptile),
        implicit_when_solved("iMAML", IMAML),
        geometric_in_products("iMAML", IMAML),
        exact_on_moving_starts(
            "BMAML, one particle", lambda rule, schedule: BMAML(rule, schedule.steps)
        ),
        through_particles("BMAML", _particles),
        through_particles("BMAML, chaser loss", _particles, leader_steps=3),
        exact_in_one_step("closed-form head", ClosedFormHead),
        exact_in_one_step("closed-form head, forward", lambda: ClosedFormHead(Direction.FORWARD)),
        refuses_the_rest("closed-form head", ClosedFormHead),
        envelope("joint objective", JointObjective),
        joint_geometric_in_steps("joint objective", JointObjective),
        gaussian_evidence("Laplace evidence", LaplaceEvidence),
    )


def _tangents(
    rule: Langevin, schedule: Schedule, count: int, law: Law, groups: int
) -> RandomTangents:
    # All of them in one run: the moments of small problems are what is looked at.
    return RandomTangents(rule, schedule, count, law, groups, block=count * groups)


def _particles(rule: Langevin, steps: int, plan: ParticleLayout) -> BMAML:
    return BMAML(rule, steps, plan.particles, plan.bandwidth, plan.tasks, plan.leader_steps)
