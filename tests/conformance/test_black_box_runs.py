"""The table of thirty trainings: two of them anew in the quick suite, about 2 s; all of them marked full."""

import pytest

from tests.conformance.black_box_runs import PAGE, RUNS, Run, judged, page, read

SAMPLE = [Run("torch", "adam", "float64"), Run("numpy", "dropout", "float32")]


def test_the_committed_table_is_of_all_runs_and_as_expected() -> None:
    rows = read()
    assert [(row.framework, row.training, row.dtype) for row in rows] == [
        (run.framework, run.training, run.dtype) for run in RUNS
    ]
    assert all(row.expected for row in rows), [row for row in rows if not row.expected]
    assert PAGE.read_text(encoding="utf-8") == page(rows)


@pytest.mark.parametrize("run", SAMPLE, ids=str)
def test_a_sample_of_trainings_is_as_expected(run: Run) -> None:
    row = judged(run)
    assert row.expected, row


@pytest.mark.full
@pytest.mark.parametrize("run", [run for run in RUNS if run.framework != "jax"], ids=str)
def test_all_trainings_are_as_expected(run: Run) -> None:
    """Those in JAX are judged by the table's own command: x64 is set once for a process."""
    row = judged(run)
    assert row.expected, row
