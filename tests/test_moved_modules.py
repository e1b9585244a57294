"""Imports that the readme and the documentation have shown go on working after a module has moved."""

import importlib

import pytest

import refblo

SHOWN = {
    "refblo": ["RMD", "HPOSGLD", "BilevelProblem", "Chain", "Draws", "Estimand", "FixedInitial"],
    "refblo.chain": ["Langevin", "Schedule"],
    "refblo.compare": ["Comparison"],
    "refblo.conformance.suite.present": ["lines"],
    "refblo.conformance.suite.run": ["Settings", "run"],
    "refblo.contracts.contract": ["Known"],
    "refblo.contracts.exact": ["exact"],
    "refblo.cost": ["counting", "measure", "shapes_only"],
    "refblo.derivatives": ["inner_gradient", "outer_gradients", "outer_theta_gradient"],
    "refblo.estimators": ["BMAML", "MAML", "HPOSGLD", "RMD", "Compiled", "RunningSolve"],
    "refblo.estimators._run": ["conclude"],
    "refblo.experiments.landmarks": ["drift_limit", "grid_optimum", "optimum"],
    "refblo.experiments.methods": ["unrolled"],
    "refblo.experiments.outer_loop": ["Descent", "final_state", "many_seeds"],
    "refblo.experiments.printed": ["TABLE_2"],
    "refblo.many_runs": ["side_by_side"],
    "refblo.oracles": ["FiniteDifference", "ForwardMode", "truths"],
    "refblo.outer": ["OuterLoop"],
    "refblo.predictions": ["fixed_horizon_limit"],
    "refblo.problems": ["Case", "build"],
    "refblo.report.json_report": ["schema"],
    "refblo.types": ["Estimand"],
    "refblo.validation": ["check_arguments"],
    "refblo.vectors.read": ["shipped"],
    "refblo.vectors.verify": ["verify"],
}
"""Every import line of README.md and docs/*.md before the modules moved."""


@pytest.mark.parametrize("module", SHOWN)
def test_an_import_line_that_was_shown_still_works(module: str) -> None:
    found = importlib.import_module(module)
    missing = [name for name in SHOWN[module] if not hasattr(found, name)]
    assert not missing, f"{module} no longer has {missing}"


@pytest.mark.parametrize("old", refblo._MOVED)
def test_an_old_name_is_the_module_that_moved_and_no_copy(old: str) -> None:
    moved = importlib.import_module(refblo._MOVED[old])
    assert importlib.import_module(old) is moved
    assert moved.__spec__ is not None
    assert moved.__spec__.name == refblo._MOVED[old]


def test_every_public_name_can_be_imported() -> None:
    missing = [name for name in refblo.__all__ if not hasattr(refblo, name)]
    assert not missing
