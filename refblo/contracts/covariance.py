"""What the covariance identity claims: its mean is the Gibbs hypergradient itself."""

from collections.abc import Callable

import numpy as np

from refblo.chain import Langevin, Schedule
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding
from refblo.contracts.random_forward import Sampler, as_rows
from refblo.contracts.relations import Replicates, Unbiased
from refblo.contracts.selection import array, is_small
from refblo.problem import FixedInitial
from refblo.problems.case import Case
from refblo.theory.predictions import local_derivatives

Chains = Callable[[Langevin, Schedule, int], Sampler]
"""Builds it from (rule, schedule, C)."""

BURN_IN, SAMPLES = 100, 100

MOST_CONDITIONED = 30.0
"""The largest condition number for which the burn-in forgets θ⁰: e^{−100/30} of it is left at γ·λ_max = 1."""


def gibbs(name: str, factory: Chains) -> Contract:
    """Over independent chains, the mean is the Gibbs hypergradient in closed form."""

    def check(case: Case, context: Context) -> ContractFinding:
        assert case.closed_forms is not None  # what `applies` selects by
        temperature = case.dynamics.temperature * case.dynamics.noise_scale**2
        truth = case.closed_forms.gibbs(array(case.lam), temperature)
        assert truth is not None
        count = 512 if context.full else 64
        samples = 4 * SAMPLES if context.full else SAMPLES
        method = factory(case.dynamics, Schedule(BURN_IN, samples), count)
        rows = as_rows(method.samples(case.problem, case.lam, context.draws))
        # The closed form is a few dense solves: its rounding is far below any standard error here.
        rounding = 1e-12 * float(np.linalg.norm(truth))
        return ContractFinding(Unbiased().judge(Replicates(rows, truth, rounding)))

    def applies(case: Case) -> bool:
        if case.closed_forms is None or case.dynamics.noise_scale == 0 or not is_small(case):
            return False
        if not isinstance(case.problem.initial, FixedInitial):
            return False
        temperature = case.dynamics.temperature * case.dynamics.noise_scale**2
        if case.closed_forms.gibbs(array(case.lam), temperature) is None:
            return False
        theta = case.problem.initial(case.lam)
        condition = np.linalg.cond(local_derivatives(case.problem, case.lam, theta).H)
        return float(condition) <= MOST_CONDITIONED

    return Contract(
        name=f"{name}: unbiased for the Gibbs truth",
        estimator=name,
        relation="Unbiased",
        claim="over independent chains its mean is the Gibbs hypergradient: no recursion, no step, no bias",
        claims=("eq-10", "field-covariance"),
        applies=applies,
        check=check,
    )
