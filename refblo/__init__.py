"""refblo: the reference that tells anyone whether a hypergradient is right.

The names below are imported when they are first asked for, so that `refblo --help` need not wait
seconds for torch.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import ModuleType
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder

    from refblo.chain import Chain, Langevin, Schedule
    from refblo.conformance import (
        HypergradientMismatch,
        Rule,
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
    from refblo.theory.assumptions import AssumptionReport, check_assumptions
    from refblo.types import ErrorKind, Estimand, Hypergradient, Status, Truth

else:
    # Importing importlib.abc takes half of the time of `refblo --help`; the bases are for type checkers.
    class Loader: ...

    class MetaPathFinder: ...


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
    "Rule",
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
    "AssumptionReport": "theory.assumptions",
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
    "Rule": "rules",
    "Schedule": "chain",
    "Separable": "problem",
    "Status": "types",
    "Truth": "types",
    "UniformBatches": "problem",
    "check_assumptions": "theory.assumptions",
    "hypergradcheck": "conformance",
    "hypergradient_is_right": "conformance",
    "hypergradient_report": "conformance",
    "identity_initial": "problem",
    "side_by_side": "many_runs",
}
"""The module of each name."""


_MOVED = {
    "refblo.assumptions": "refblo.theory.assumptions",
    "refblo.budget": "refblo.theory.budget",
    "refblo.checkpoint": "refblo.outer.checkpoint",
    "refblo.compare": "refblo.contracts.comparison",
    "refblo.compare_command": "refblo.commands.compare",
    "refblo.compare_methods": "refblo.equal_cost",
    "refblo.compare_targets": "refblo.equal_cost.targets",
    "refblo.conformance.command": "refblo.commands.check",
    "refblo.conformance.expectation": "refblo.conformance.truth.expectation",
    "refblo.conformance.program": "refblo.conformance.truth.program",
    "refblo.conformance.reference": "refblo.conformance.truth.reference",
    "refblo.conformance.rules": "refblo.rules.rule",
    "refblo.conformance.stationary": "refblo.conformance.truth.stationary",
    "refblo.conformance.tangent": "refblo.conformance.truth.tangent",
    "refblo.conformance.truth.rules": "refblo.rules.rule",
    "refblo.cost_command": "refblo.commands.cost",
    "refblo.estimators._run": "refblo.estimators.protocol",
    "refblo.estimators._warm": "refblo.estimators.warm",
    "refblo.experiments.command": "refblo.commands.reproduce",
    "refblo.experiments.plotting": "refblo.plotting",
    "refblo.extrapolation": "refblo.contracts.extrapolation",
    "refblo.oracles._ball_gibbs": "refblo.oracles.ball_gibbs",
    "refblo.oracles._balls": "refblo.balls.derivatives",
    "refblo.oracles._differences": "refblo.derivatives.differences",
    "refblo.oracles.differences": "refblo.derivatives.differences",
    "refblo.oracles._graph": "refblo.balls.graph",
    "refblo.oracles._krawczyk": "refblo.balls.minimiser",
    "refblo.predictions": "refblo.theory.predictions",
    "refblo.problems.generate": "refblo.testing.problems",
    "refblo.report": "refblo.audit",
    "refblo.report.command": "refblo.commands.audit",
    "refblo.report.files": "refblo.files",
    "refblo.report.html": "refblo.audit.html",
    "refblo.report.json_report": "refblo.audit.json_report",
    "refblo.report.plots": "refblo.audit.plots",
    "refblo.report.summary": "refblo.audit.summary",
    "refblo.report.terminal": "refblo.audit.terminal",
    "refblo.rounding": "refblo.contracts.rounding",
    "refblo.stationarity": "refblo.theory.stationarity",
    "refblo.symbolic": "refblo.problems.symbolic",
    "refblo.vectors.command": "refblo.commands.vectors",
}
"""Modules that moved: the old name, and the module that it now names."""


@final
class _MovedModules(MetaPathFinder, Loader):
    """Makes `import OLD` give the module that has moved, imported only then."""

    def find_spec(
        self,
        fullname: str,
        path: object,  # noqa: ARG002  (a sequence of str, or a namespace path, which is none)
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in _MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(_MOVED[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has given the module the specification of its old name: take the own one back.
        spec = module.__spec__
        if spec is not None:
            module.__spec__ = spec.loader_state


# First, or the old name of a module in a moved package would be found as a second copy of it.
sys.meta_path.insert(0, _MovedModules())

if not TYPE_CHECKING:  # or a type checker would take any name for one of the package

    def __getattr__(name: str) -> object:
        """Import a public name, or a public module of the package.

        Raises:
            AttributeError: if there is no such name.
        """
        if name not in _HOMES:
            if not name.startswith("_") and find_spec(f"refblo.{name}") is not None:
                return import_module(f"refblo.{name}")
            raise AttributeError(f"module 'refblo' has no attribute {name!r}")
        value: object = getattr(import_module(f"refblo.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
