"""The audit as a whole: other dtypes, and a part of it that breaks."""

import pytest
import torch

from refblo import audit
from refblo.audit import Outcome, Settings, plan
from refblo.budget import ErrorBudget


def finished(settings: Settings) -> audit.Audit:
    laid_out = plan(settings)
    result = laid_out.start()
    for found in laid_out.run():
        result = (
            result.with_budget(found) if isinstance(found, ErrorBudget) else result.with_row(found)
        )
    return result


@pytest.mark.parametrize(
    "only",
    [
        "HPO-SGLD: limit at a fixed horizon",
        "IFT-dense: exact at the inner minimiser",
        "implicit, adaptive: the requested error",
        pytest.param("*", marks=[pytest.mark.full, pytest.mark.timeout(1200)]),
    ],
)
def test_every_contract_holds_in_single_precision(only: str) -> None:
    result = finished(Settings(only=(only,), dtype=torch.float32))
    assert result.passed, [
        (row.contract, row.case) for row in result.rows if row.outcome is not Outcome.HOLDS
    ]


def test_a_budget_that_breaks_is_a_row_and_the_rest_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> ErrorBudget:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(audit, "error_budget", broken)
    result = finished(Settings(only=("quadratic_curvature",), full=False))
    wrong = [row for row in result.rows if row.outcome is not Outcome.HOLDS]
    assert [row.contract for row in wrong] == ["error budget"]
    assert "on purpose" in wrong[0].message
    assert result.complete
    assert not result.passed
