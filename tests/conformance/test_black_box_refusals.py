"""`hypergradcheck(objective=…)` where there is no verdict, or the arguments do not fit together.

The table BAD takes new cases; its patterns follow the package's error texts.

Share of the quick suite: about 1 s of processor time.
"""

from typing import Any

import numpy as np
import pytest
import torch

from refblo import hypergradcheck, hypergradient_is_right
from refblo.errors import ArgumentError, ArgumentTypeError, LossError, OracleError
from tests.conformance.test_black_box import judged


def test_a_kink_raises_with_both_slopes() -> None:
    with pytest.raises(OracleError, match=r"kink at lam or within .* slopes are -1 and 1"):
        judged(lambda at: float(np.abs(at).sum()), np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def test_a_jump_raises() -> None:
    with pytest.raises(OracleError, match=r"objective must be (continuous|resolvable)"):
        judged(lambda at: float(at @ at + (at[0] >= 0)), np.array([0.0, 1.0]), np.array([0.0, 2.0]))


def test_hidden_randomness_raises() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(OracleError, match="hidden randomness"):
        judged(lambda at: float(at @ at + generator.normal()), np.ones(2), 2 * np.ones(2))


def test_small_randomness_makes_the_floor_larger_and_is_reported() -> None:
    generator = np.random.default_rng(0)
    report = judged(
        lambda at: float(at @ at + 1e-7 * generator.normal()), np.ones(2), 2 * np.ones(2)
    )
    assert report.right
    assert report.floor > 1e-6
    assert any(
        "values of the objective at the same lam differ" in finding for finding in report.findings
    )


def test_a_training_that_goes_on_where_the_last_one_ended_raises() -> None:
    theta = np.zeros(2)

    def warm(lam: np.ndarray) -> float:
        nonlocal theta
        theta = theta - 0.1 * (theta - lam)
        return float(theta @ theta)

    with pytest.raises(OracleError, match="goes on from where its last call ended"):
        judged(warm, np.ones(2), np.ones(2))


def test_a_constant_objective_has_a_verdict() -> None:
    report = judged(lambda at: 1.0, np.ones(3), np.zeros(3))
    assert report.right
    assert "the truth is zero" in report.describe()
    assert not judged(lambda at: 1.0, np.ones(3), np.ones(3)).right


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no function": ({"objective": 3.0}, ArgumentTypeError, "objective must be a function"),
    "no number": ({"objective": lambda at: "x"}, ArgumentTypeError, "objective must return a real"),
    "two numbers": (
        {"objective": lambda at: at},
        ArgumentError,
        "objective must return one number",
    ),
    "an error of its own": ({"objective": lambda at: 1 / 0}, LossError, "got ZeroDivisionError"),
    "a complex number": ({"objective": lambda at: 1j}, ArgumentTypeError, "objective must return"),
    "nan": ({"objective": lambda at: float("nan")}, ArgumentError, "objective must be finite"),
    "None as answer": ({"hypergradient": lambda at: None}, ArgumentError, "got None"),
    "another shape": ({"hypergradient": np.ones((2, 1))}, ArgumentError, "must have shape"),
    "integers": ({"lam": np.array([1, 2])}, ArgumentTypeError, "lam must have a real floating"),
    "complex lam": ({"lam": np.array([1j])}, ArgumentTypeError, "lam must have a real floating"),
    "a string": ({"lam": "x"}, ArgumentTypeError, "lam must be a torch tensor"),
    "no entries": ({"lam": np.zeros(0)}, ArgumentError, "lam must have at least one entry"),
    "a module": ({"lam": torch.nn.Linear(2, 1)}, ArgumentTypeError, "named_parameters"),
    "a run's option": ({"steps": 3}, ArgumentTypeError, "steps must be left out beside objective"),
    "a misspelt option": ({"flor": 1e-3}, ArgumentTypeError, "floor"),
    "a floor of 2": ({"floor": 2.0}, ArgumentError, "floor must be"),
    "inner as well": ({"inner": lambda lam, theta: 0}, ArgumentTypeError, "objective"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_raises_an_error_that_names_it(name: str) -> None:
    changed, error, text = BAD[name]
    arguments = {
        "objective": lambda at: float(np.sum(at**2)),
        "lam": np.ones(2),
        "hypergradient": 2 * np.ones(2),
        **changed,
    }
    with pytest.raises(error, match=text):
        hypergradcheck(**arguments)


def test_hypergradient_is_right_answers_yes_or_no() -> None:
    arguments: dict[str, Any] = {"objective": lambda at: float(at @ at), "lam": np.ones(2)}
    assert hypergradient_is_right(**arguments, hypergradient=2 * np.ones(2))
    assert not hypergradient_is_right(**arguments, hypergradient=np.ones(2))
