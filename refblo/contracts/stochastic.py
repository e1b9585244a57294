"""What a pathwise estimator claims over seeds: its mean is the derivative of the mean."""

import numpy as np

from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding, Factory
from refblo.contracts.relations import Replicates, Unbiased
from refblo.contracts.selection import array
from refblo.noise import Draws
from refblo.problems.case import Case


def unbiased(name: str, factory: Factory) -> Contract:
    """Over independent noise, the mean hypergradient is d/dλ (1/M) Σ E[f(λ, θ^m)]."""

    def check(case: Case, context: Context) -> ContractFinding:
        assert case.closed_forms is not None  # what `applies` selects by
        truth = case.closed_forms.mean_pathwise(array(case.lam), case.dynamics, case.schedule)
        assert truth is not None
        estimator = factory(case.dynamics, case.schedule)
        count = 400 if context.full else 40
        first = context.draws.seed * count
        rows = [
            array(estimator.estimate(case.problem, case.lam, Draws(first + replica)).value)
            for replica in range(count)
        ]
        # The closed form is a few dense solves: its rounding is far below any standard error here.
        rounding = 1e-12 * float(np.linalg.norm(truth))
        return ContractFinding(Unbiased().judge(Replicates(np.stack(rows), truth, rounding)))

    def applies(case: Case) -> bool:
        if case.closed_forms is None or case.dynamics.noise_scale == 0:
            return False
        form = case.closed_forms.mean_pathwise(array(case.lam), case.dynamics, case.schedule)
        return form is not None

    return Contract(
        name=f"{name}: unbiased over the noise",
        estimator=name,
        relation="Unbiased",
        claim="its mean over seeds is the derivative of the mean outer loss along the chain",
        claims=("eq-8",),
        applies=applies,
        check=check,
    )
