"""MAML and implicit differentiation, beside the libraries that offer them in torch.

The libraries are called through the adapters in `targets/`: the same losses, the same number of steps from
the same start, the same number of terms or iterations.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from refblo.chain import Chain, Langevin
from refblo.contracts.rounding import rounding_error
from refblo.contracts.selection import array
from refblo.derivatives import outer_theta_gradient
from refblo.equal_cost.targets import target
from refblo.estimators import MAML, Estimator, IFTConjugateGradient, IFTNeumann
from refblo.noise import SEED_ZERO
from refblo.problems import build
from refblo.problems.case import Case
from refblo.types import Status
from tests.peers.agreement_row import Agreement, Vector

FOLDER = Path(__file__).with_name("targets")

STEPS = 20
"""Inner steps before an implicit method; too few to converge, so that H is not taken at θ* by chance."""
ADAPTATION, TERMS, ITERATIONS = 5, 10, 3
"""Inner steps of MAML; terms of the series; iterations of CG, fewer than θ has entries."""
CG_STOPS = 1e-10
"""The residual below which hypertorch's CG stops unless told otherwise."""


@final
@dataclass(frozen=True)
class Pair:
    """A method of a library and the same one here.

    Attributes:
        method: its name here.
        library: its name there.
        target: file:function of the adapter.
        case: of the catalogue.
        make: builds it from γ, T and K.
        steps: T.
        terms: K; None for a method without a solve.
        unit: what K counts.
    """

    method: str
    library: str
    target: str
    case: str
    make: Callable[[float, int, int], Estimator]
    steps: int
    terms: int | None = None
    unit: str = ""

    @property
    def what(self) -> str:
        """What is compared, in words."""
        solve = "" if self.terms is None else f", {self.terms} {self.unit}"
        return f"hypergradient, {self.steps} inner steps{solve}"

    def estimator(self, case: Case) -> Estimator:
        """The method here."""
        return self.make(case.dynamics.step_size, self.steps, self.terms or 0)

    def theirs(self, case: Case) -> Vector:
        """The library's hypergradient."""
        return array(target(f"{FOLDER}/{self.target}").run(case, self.steps, terms=self.terms)[0])


def _maml(library: str, adapter: str, case: str) -> Pair:
    def make(gamma: float, steps: int, _: int) -> Estimator:
        return MAML(Langevin(gamma), steps)

    return Pair("MAML", library, adapter, case, make, ADAPTATION)


def _series(library: str, adapter: str, case: str) -> Pair:
    def make(gamma: float, steps: int, terms: int) -> Estimator:
        return IFTNeumann(Langevin(gamma), steps, gamma, terms)

    return Pair("IFT-Neumann", library, adapter, case, make, STEPS, TERMS, "terms")


def _cg(library: str, adapter: str, case: str, iterations: int = ITERATIONS) -> Pair:
    def make(gamma: float, steps: int, count: int) -> Estimator:
        return IFTConjugateGradient(Langevin(gamma), steps, count)

    return Pair("IFT-CG", library, adapter, case, make, STEPS, iterations, "iterations")


LEARNT_STARTS, REGRESSIONS = ("maml_quadratic", "maml_sinusoid"), ("quadratic", "ridge_diabetes")
PAIRS = (
    *(_maml("higher, `get_diff_optim`", "with_higher.py:sgd", case) for case in LEARNT_STARTS),
    *(_maml("TorchOpt, `MetaSGD`", "with_torchopt.py:meta_sgd", case) for case in LEARNT_STARTS),
    *(
        _series(f"hypertorch, `{name}`", f"with_hypertorch.py:steps_then_{name}", case)
        for name in ("fixed_point", "neumann")
        for case in REGRESSIONS
    ),
    *(
        _series("TorchOpt, `solve_inv(ns=True)`", "with_torchopt.py:steps_then_neumann", case)
        for case in REGRESSIONS
    ),
    *(_cg("hypertorch, `CG`", "with_hypertorch.py:steps_then_cg", case) for case in REGRESSIONS),
    *(_cg("TorchOpt, `solve_cg`", "with_torchopt.py:steps_then_cg", case) for case in REGRESSIONS),
)


def ours(pair: Pair, case: Case) -> Vector:
    """This package's hypergradient."""
    return array(pair.estimator(case).estimate(case.problem, case.lam).value)


def agreement(pair: Pair, theirs: Vector | None = None) -> Agreement:
    """A method's two hypergradients, and what rounding does to one of them.

    Args:
        pair: the method, there and here.
        theirs: the library's, if it is not to be asked.
    """
    case = build(pair.case)
    method = pair.estimator(case)
    value = method.estimate(case.problem, case.lam).value
    steps = pair.steps + (pair.terms or 0)
    return Agreement(
        method=pair.method,
        library=pair.library,
        case=pair.case,
        what=pair.what,
        theirs=pair.theirs(case) if theirs is None else theirs,
        ours=array(value),
        allowed=rounding_error(method, case.problem, case.lam, SEED_ZERO, value, steps),
    )


@final
@dataclass(frozen=True, eq=False)
class Dropped:
    """hypertorch's CG where it converges.

    Attributes:
        asked: beside ours, run as far.
        returned: beside ours, stopped an iteration before the one that meets its test.
    """

    asked: Agreement
    returned: Agreement

    @property
    def holds(self) -> bool:
        """Whether it is the iterate before, and rounding does not hide that."""
        return self.returned.holds and not self.asked.holds


def hypertorch_converging(name: str) -> Pair:
    """hypertorch's CG on a case, with iterations enough."""
    case = build(name)
    most = 2 * case.problem.initial(case.lam).numel()
    return _cg("hypertorch, `CG`", "with_hypertorch.py:steps_then_cg", name, most)


def dropped(name: str) -> Dropped:
    """Let hypertorch's CG converge on a case."""
    case, asked = build(name), hypertorch_converging(name)
    theirs = asked.theirs(case)
    before = replace(asked, terms=converged_after(case) - 1)
    return Dropped(agreement(asked, theirs), agreement(before, theirs))


def converged_after(case: Case) -> int:
    """The iteration of CG whose residual is the first below hypertorch's default."""
    chain = Chain(case.problem, Langevin(case.dynamics.step_size), SEED_ZERO)
    theta = chain.last(case.lam, STEPS)
    slope = float(outer_theta_gradient(case.problem.outer, case.lam, theta, None).norm())
    for count in itertools.count(1):
        method = IFTConjugateGradient(chain.dynamics, STEPS, count, tolerance=CG_STOPS / slope)
        status = method.estimate(case.problem, case.lam).status
        if status is not Status.NOT_CONVERGED:
            return count
    raise AssertionError  # it counts on
