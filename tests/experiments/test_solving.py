"""A run by an estimator is stored piece by piece, and taken up where it stopped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refblo.experiments import solving
from refblo.experiments.methods import unrolled
from refblo.experiments.outer_loop import Descent, final_state, with_estimator
from refblo.experiments.report import Scale
from refblo.experiments.solving import By, SolvingEffort, solve
from refblo.experiments.store import Store

LOOP = Descent(outer_steps=7)
METHOD = unrolled("RMD-FO", "RMD-FO", 3)


def test_an_interrupted_run_goes_on_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solving, "CHUNK", 3)
    lines: list[str] = []

    def interrupt(line: str) -> None:
        lines.append(line)
        if "to 6: running" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve(
            Store(tmp_path, "t", Scale.SMOKE, 0, interrupt),
            METHOD,
            LOOP,
            SolvingEffort(By.ESTIMATOR),
        )
    lines.clear()
    store = Store(tmp_path, "t", Scale.SMOKE, 0, lines.append)
    solved = solve(store, METHOD, LOOP, SolvingEffort(By.ESTIMATOR))
    assert [line.rsplit(": ", 1)[1].split()[0] for line in lines] == [
        "running",
        "taken",
        "running",
        "running",
    ]
    assert METHOD.estimator is not None
    straight = final_state(with_estimator(METHOD.estimator, LOOP, 0))
    np.testing.assert_array_equal(solved.runs.lam, straight.lam)
    np.testing.assert_array_equal(solved.runs.theta, straight.theta)


def test_a_method_without_an_estimator_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path, "t", Scale.SMOKE, 0, lambda _: None)
    with pytest.raises(ValueError, match="RMD-FO has no estimator; run it written out"):
        solve(store, replace(METHOD, estimator=None), LOOP, SolvingEffort(By.ESTIMATOR))
