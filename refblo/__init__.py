"""refblo: the reference that tells anyone whether a hypergradient is right.

The names below are imported when they are first asked for, so that `refblo --help` need not wait
seconds for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refblo.assumptions import AssumptionReport, check_assumptions
    from refblo.chain import Chain, Langevin, Schedule
    from refblo.conformance import (
        HypergradientMismatch,
        hypergradcheck,
        hypergradient_is_right,
        hypergradient_report,
    )
    from refblo.estimators import (
        FMD,
        HPOSGLD,
        RMD,
        FMDDirectional,
        IFTConjugateGradient,
        IFTDense,
        IFTNeumann,
        NeumannScaling,
        RMDFirstOrder,
    )
    from refblo.many_runs import side_by_side
    from refblo.noise import Draws
    from refblo.problem import (
        BilevelProblem,
        Composed,
        FixedInitial,
        FullBatch,
        LamInitial,
        Minibatches,
        RegulariserProducts,
        Separable,
        UniformBatches,
        identity_initial,
    )
    from refblo.types import ErrorKind, Estimand, Hypergradient, Status, Truth

__all__ = [
    "FMD",
    "HPOSGLD",
    "RMD",
    "AssumptionReport",
    "BilevelProblem",
    "Chain",
    "Composed",
    "Draws",
    "ErrorKind",
    "Estimand",
    "FMDDirectional",
    "FixedInitial",
    "FullBatch",
    "Hypergradient",
    "HypergradientMismatch",
    "IFTConjugateGradient",
    "IFTDense",
    "IFTNeumann",
    "LamInitial",
    "Langevin",
    "Minibatches",
    "NeumannScaling",
    "RMDFirstOrder",
    "RegulariserProducts",
    "Schedule",
    "Separable",
    "Status",
    "Truth",
    "UniformBatches",
    "check_assumptions",
    "hypergradcheck",
    "hypergradient_is_right",
    "hypergradient_report",
    "identity_initial",
    "side_by_side",
]

_HOMES = {
    "AssumptionReport": "assumptions",
    "BilevelProblem": "problem",
    "Chain": "chain",
    "Composed": "problem",
    "Draws": "noise",
    "ErrorKind": "types",
    "Estimand": "types",
    "FMD": "estimators",
    "FMDDirectional": "estimators",
    "FixedInitial": "problem",
    "FullBatch": "problem",
    "HPOSGLD": "estimators",
    "Hypergradient": "types",
    "HypergradientMismatch": "conformance",
    "IFTConjugateGradient": "estimators",
    "IFTDense": "estimators",
    "IFTNeumann": "estimators",
    "LamInitial": "problem",
    "Langevin": "chain",
    "Minibatches": "problem",
    "NeumannScaling": "estimators",
    "RMD": "estimators",
    "RMDFirstOrder": "estimators",
    "RegulariserProducts": "problem",
    "Schedule": "chain",
    "Separable": "problem",
    "Status": "types",
    "Truth": "types",
    "UniformBatches": "problem",
    "check_assumptions": "assumptions",
    "hypergradcheck": "conformance",
    "hypergradient_is_right": "conformance",
    "hypergradient_report": "conformance",
    "identity_initial": "problem",
    "side_by_side": "many_runs",
}
"""The module of each name."""


if not TYPE_CHECKING:  # or a type checker would take any name for one of the package

    def __getattr__(name: str) -> object:
        """Import a public name.

        Raises:
            AttributeError: if there is no such name.
        """
        if name not in _HOMES:
            raise AttributeError(f"module 'refblo' has no attribute {name!r}")
        value: object = getattr(import_module(f"refblo.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
