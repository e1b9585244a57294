"""The audit as a whole: other dtypes, and a part of it that breaks."""

from dataclasses import replace

import pytest
import torch

from refblo.audit import run as audit
from refblo.audit.run import AuditOutcome, AuditSettings, plan
from refblo.contracts.registry import contracts
from refblo.theory.budget import ErrorBudget


def finished(settings: AuditSettings) -> audit.Audit:
    laid_out = plan(settings)
    results = list(laid_out.run())
    return replace(
        laid_out.start(),
        rows=tuple(result for result in results if not isinstance(result, ErrorBudget)),
        budgets=tuple(result for result in results if isinstance(result, ErrorBudget)),
    )


@pytest.mark.parametrize(
    "only",
    [
        "implicit, adaptive: the requested error",
        pytest.param("*", marks=[pytest.mark.full, pytest.mark.timeout(1200)]),
    ],
)
def test_every_contract_holds_in_single_precision(only: str) -> None:
    result = finished(AuditSettings(only=(only,), dtype=torch.float32))
    wrong = [
        (row.contract, row.case) for row in result.rows if row.outcome is not AuditOutcome.HOLDS
    ]
    assert result.passed, wrong


def test_a_budget_that_breaks_is_a_row_and_the_rest_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> ErrorBudget:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(audit, "error_budget", broken)
    result = finished(AuditSettings(only=("IFT-Neumann: geometric in the terms",)))
    wrong = [row for row in result.rows if row.outcome is not AuditOutcome.HOLDS]
    assert {row.contract for row in wrong} == {"error budget"}
    assert all("on purpose" in row.message for row in wrong)
    assert result.complete
    assert not result.passed


def test_a_worker_without_an_answer_is_a_row_of_error_for_each_that_it_owed() -> None:
    names = tuple(contract.name for contract in contracts()[:3])
    job = audit._Job(AuditSettings(), "quadratic", names, budget=True)
    rows = list(audit._lost(job, 1, "its process ended with exit code 0"))
    assert [row.contract for row in rows] == [*names[1:], "error budget"]
    assert {row.outcome for row in rows} == {AuditOutcome.ERROR}
    assert all("ended with exit code 0; run it alone" in row.message for row in rows)
    # All that it owed had come before it ended: nothing is missing but the budget.
    assert [row.contract for row in audit._lost(job, 3, "it ended")] == ["error budget"]
    assert list(audit._lost(job, 4, "it ended")) == []
