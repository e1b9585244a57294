"""The checker itself is checked: one that always passes, or always fails, does not get through."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from refblo.conformance import margins
from refblo.conformance.catalogue import Entry, entries
from refblo.conformance.margins import Margin
from refblo.conformance.truth.reference import Reference
from tests.conformance import detection, test_mutated_estimators, test_sensitivity, test_specificity

Judge = Callable[[np.ndarray, Reference, float, float], Margin]


def always(verdict: bool) -> Judge:
    """A checker with one answer."""

    def judged(
        observed: np.ndarray, reference: Reference, floor: float, tolerance: float
    ) -> Margin:
        return Margin(0.0 if verdict else np.inf, 0.0, 1e-12, 1.0)

    return judged


@pytest.fixture
def plain() -> list[Entry]:
    return [entry for entry in entries() if entry.name == "quadratic-direct"]


def test_a_checker_that_always_passes_is_caught(
    monkeypatch: pytest.MonkeyPatch, plain: list[Entry]
) -> None:
    monkeypatch.setattr(test_sensitivity, "margin", always(True))
    with pytest.raises(AssertionError):
        test_sensitivity.examine(plain, ())
    monkeypatch.setattr(test_mutated_estimators, "margin", always(True))
    monkeypatch.setattr(margins, "margin", always(True))
    pairs = [
        pair for pair in test_mutated_estimators.subjects() if pair[0].name == "RMD mean, separable"
    ]
    assert test_mutated_estimators.judge(pairs).missed


def test_a_checker_that_always_fails_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(margins, "margin", always(False))
    assert len(test_specificity.accused(range(1))) == 1


def test_the_page_of_figures_is_what_was_counted() -> None:
    found = json.loads(detection.RESULTS.read_text(encoding="utf-8"))
    assert detection.PAGE.read_text(encoding="utf-8") == detection.render(found)
    assert found["above"] == found["above_rejected"] >= 300
    assert found["named"] >= test_sensitivity.NAMED * found["rejected"]
    assert found["right_runs"] >= 1000
    assert found["accused"] == found["mutants_missed"] == []
