"""The strategies make what they say, and say what is missing: 2 s of processor time."""

import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from refblo.noise import Draws, Stream
from refblo.problem import FullBatch, Minibatches
from refblo.testing.strategies import Instance, batches, instances, sizes


@given(sizes())
def test_p_differs_from_n(size: tuple[int, int]) -> None:
    assert size[0] != size[1]


@given(instances())
def test_an_instance_is_a_problem_with_p_other_than_n(instance: Instance) -> None:
    theta = instance.problem.initial(instance.lam)
    assert theta.numel() != instance.lam.numel()
    assert instance.lam.dtype == torch.float64
    assert 1 <= instance.schedule.samples <= 3


@given(st.integers(1, 9), st.data())
def test_batches_are_rows_of_the_population(population: int, data: st.DataObject) -> None:
    drawn = data.draw(batches(population))
    assert isinstance(drawn, FullBatch | Minibatches)
    rows = drawn(Draws(0), Stream.INNER_BATCH, 0)
    if rows is not None:
        assert rows.max().item() < population


def test_without_hypothesis_the_checks_work_and_the_strategies_name_it() -> None:
    code = """
import sys
sys.modules["hypothesis"] = None
import refblo.testing, refblo.testing.problems
assert refblo.testing.problems.random_quadratic(0, 3, 2).lam.shape == (2,)
try:
    import refblo.testing.strategies
except refblo.errors.MissingExtraError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert "hypothesis, which is not installed" in run.stdout
    assert 'pip install "refblo[test]"' in run.stdout
