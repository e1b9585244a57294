"""The entries at the edges: what they ask of a target, and what a target gets that does not do it.

About 15 s of processor time: three targets, each in a process of its own.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from refblo.conformance.catalogue.corners import corner_entries
from refblo.conformance.catalogue.entry import Entry
from refblo.conformance.suite.judge import Plan, truth
from refblo.conformance.suite.rows import Kind, Outcome, Result
from refblo.conformance.suite.run import Settings, _lacking, run
from refblo.conformance.suite.target import Declared
from refblo.conformance.suite.view import View, Views, framework
from refblo.errors import OracleError
from refblo.types import Estimand

TARGETS = f"{Path(__file__).parent}/targets"
NAMES = tuple(entry.name for entry in corner_entries())


def the(name: str) -> Entry:
    (found,) = (entry for entry in corner_entries() if entry.name == name)
    return found


def outcomes(result: Result) -> dict[str, Outcome]:
    return {row.name: row.outcome for row in result.rows}


def test_a_right_target_is_right_at_every_edge() -> None:
    result = run(Settings(f"{TARGETS}/good_torch.py:unrolled", entries=NAMES, estimand="unrolled"))
    assert outcomes(result) == {f"{name}/unrolled": Outcome.RIGHT for name in NAMES}
    assert result.passed


def test_a_solver_without_an_iteration_for_one_parameter_is_wrong() -> None:
    names = ("quadratic-direct", "one-by-one", "many-minimisers", "no-minimiser")
    result = run(
        Settings(f"{TARGETS}/good_torch.py:conjugate_gradients", entries=names, estimand="implicit")
    )
    assert outcomes(result) == {
        "quadratic-direct/implicit": Outcome.RIGHT,
        "one-by-one/implicit": Outcome.WRONG,
        "many-minimisers/implicit": Outcome.SKIPPED,
        "no-minimiser/implicit": Outcome.SKIPPED,
    }
    reasons = [row.reason for row in result.rows if row.outcome is Outcome.SKIPPED]
    assert all("not defined: the inner Hessian is singular" in reason for reason in reasons)
    assert "minimal norm" in reasons[0]


def test_a_step_size_that_is_taken_for_a_constant_is_wrong() -> None:
    names = ("learned-step-size", "learned-step-size-moving-start", "one-by-one-scalars")
    result = run(
        Settings(
            f"{TARGETS}/good_torch.py:with_the_step_size_held", entries=names, estimand="unrolled"
        )
    )
    assert outcomes(result) == {
        "learned-step-size/unrolled": Outcome.WRONG,
        "learned-step-size-moving-start/unrolled": Outcome.WRONG,
        "one-by-one-scalars/unrolled": Outcome.SKIPPED,
    }


@pytest.mark.full
def test_a_vector_where_lam_is_a_number_is_the_wrong_type(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def f(problem):\n"
        "    return problem.lam.reshape(1)\n"
        "f.capabilities = {'direct', 'scalars'}\n",
        encoding="utf-8",
    )
    names = ("one-by-one-scalars",)
    (row,) = run(Settings(f"{tmp_path}/mine.py:f", entries=names, estimand="unrolled")).rows
    assert [finding.kind for finding in row.findings] == [Kind.TYPE]
    assert "of shape (1,) where lam has the shape ()" in row.findings[0].text


@pytest.mark.parametrize("name", ["many-minimisers", "no-minimiser"])
def test_no_oracle_has_an_implicit_truth_where_none_is_asked_for(name: str) -> None:
    with pytest.raises(OracleError, match="singular"):
        truth(the(name), Estimand.IMPLICIT, "float64", Plan(0, 0, 0, 0))
    assert "not defined" in _lacking(
        the(name), Estimand.IMPLICIT, Declared(("direct",), ("implicit",))
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_unrolled_truth_is_confirmed_by_differences(name: str) -> None:
    found = truth(the(name), Estimand.UNROLLED, "float64", Plan(2, 0, 0, 0))
    assert found.confirmed < 1e-9
    assert np.linalg.norm(found.value) > 0.05


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_a_view_has_the_shapes_that_it_promises(library: str) -> None:
    tools = framework(library, "float64")

    def view_of(name: str) -> View:
        entry = the(name)
        return Views(entry, tools).at(entry.lam, Estimand.UNROLLED, 0, own_noise=False)

    scalars, pairs, learned, blocks = (
        view_of(name)
        for name in ("one-by-one-scalars", "pair-minibatches", "learned-step-size", "uneven-blocks")
    )
    for vector in (scalars.lam, scalars.theta0, scalars.initial(scalars.lam)):
        assert tuple(vector.shape) == ()
    assert tuple(scalars.outer(scalars.lam, scalars.theta0, None).shape) == ()
    pair = pairs.inner_batch(3)
    assert isinstance(pair, tuple)
    x, y = pair
    assert (tuple(x.shape), tuple(y.shape)) == ((4, 5), (4,))
    assert float(learned.step_size_at(learned.lam)) == pytest.approx(learned.step_size)
    assert learned.step_size != the("learned-step-size").rule.step_size
    parts = blocks.split(blocks.theta0)
    assert [tuple(part.shape) for part in parts] == [(), (1,), (3, 2)]
    assert torch.equal(torch.as_tensor(blocks.join(parts)), torch.as_tensor(blocks.theta0))
