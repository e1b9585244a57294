"""Audits put together by hand, with everything in them that a report has to show."""

import math
from datetime import UTC, datetime

import numpy as np
import torch

from refblo.audit.run import Audit, AuditOutcome, AuditRow, AuditSettings
from refblo.contracts.comparison import Comparison
from refblo.contracts.contract import ContractFinding, Curve
from refblo.contracts.relations import RelationJudgement
from refblo.cost import Evaluations
from refblo.theory.budget import ErrorBudget
from refblo.types import ErrorKind

WRITTEN = datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC)

CASES = ("quadratic", "digits, softmax", "synth_1d")


def comparison(distance: float = 1e-13, oracle: str = "ball arithmetic") -> Comparison:
    return Comparison(distance, 1e-12, 2.5, 1.0, oracle, ErrorKind.CERTIFIED)


def exact_row(case: str = "quadratic", distance: float = 1e-13) -> AuditRow:
    first = comparison(distance)
    second = Comparison(2e-11, 1e-9, 2.5, math.nan, "central differences", ErrorKind.ESTIMATED)
    judgement = RelationJudgement(
        first.within, f"distance {distance:.1e}", "at most 1.0e-12", distance / 1e-12
    )
    return AuditRow(
        contract="FMD: exact, last iterate",
        estimator="FMD",
        relation="Exact",
        claim="equals the hypergradient of the last iterate [within] <the bounds>",
        case=case,
        outcome=AuditOutcome.HOLDS if first.within else AuditOutcome.FAILS,
        seconds=0.25,
        finding=ContractFinding(judgement, (first, second), cost=Evaluations(7, 1, 70, 7)),
    )


def order_row(case: str = "quadratic") -> AuditRow:
    at = tuple(0.1 * 0.5**k for k in range(6))
    errors = tuple(3 * it * (1 + it) for it in at)
    curve = Curve("ε", f"{case}, no noise", at, errors, tuple(3 * it for it in at))
    judgement = RelationJudgement(True, "slope 2.0003 ± 1e-3", "slope 2, constant 3", 0.3)
    return AuditRow(
        contract="HPO-SGLD: order in ε without noise",
        estimator="HPO-SGLD",
        relation="Order",
        claim="the error is c·ε²",
        case=case,
        outcome=AuditOutcome.HOLDS,
        seconds=1.5,
        finding=ContractFinding(judgement, curves=(curve,)),
    )


def series_row(case: str = "quadratic", parameter: str = "K") -> AuditRow:
    at = tuple(float(k) for k in (1, 2, 4, 8, 16, 32))
    errors = tuple(0.8**it for it in at[:-1])
    curve = Curve(parameter, case, at, (*errors, 0.0), tuple(2 * 0.8**it for it in at))
    judgement = RelationJudgement(False, "rate 0.8000", "error at most 2 · 0.8^K", math.inf)
    return AuditRow(
        contract=f"IFT-Neumann: geometric in {parameter}",
        estimator="IFT-Neumann",
        relation="Geometric",
        claim="with K terms its distance from the truth is at most c·q^K",
        case=case,
        outcome=AuditOutcome.FAILS,
        seconds=0.004,
        finding=ContractFinding(judgement, curves=(curve,)),
    )


def error_row(case: str = "synth_1d") -> AuditRow:
    return AuditRow(
        contract="FMD: exact, last iterate",
        estimator="FMD",
        relation="Exact",
        claim="equals the hypergradient of the last iterate",
        case=case,
        outcome=AuditOutcome.ERROR,
        seconds=75.0,
        message="LossError: inner must <depend> on theta, got a [constant] loss; check it",
    )


def budget(case: str = "quadratic") -> ErrorBudget:
    return ErrorBudget(
        case,
        recursion=np.array([0.5, -0.1]),
        monte_carlo=np.array([0.05, 0.02]),
        discretisation=np.array([0.1, 0.1]),
        temperature=np.array([-0.3, 0.0]),
        truth=np.array([1.0, 2.0]),
    )


def audit(
    *rows: AuditRow, planned: int | None = None, budgets: tuple[ErrorBudget, ...] = ()
) -> Audit:
    return Audit(
        AuditSettings(only=("FMD*", "it's"), seed=7, dtype=torch.float32),
        {"python": "3.11.0", "device": "cpu"},
        planned=len(rows) if planned is None else planned,
        rows=rows,
        budgets=budgets,
    )


def everything() -> Audit:
    """Every outcome, relation and kind of figure."""
    return audit(
        *(exact_row(case) for case in CASES[:2]),
        error_row(),
        *(order_row(case) for case in CASES),
        series_row(),
        series_row(parameter="T"),
        exact_row("cubic", distance=3e-9),
        budgets=(budget(), budget("quadratic_ill_conditioned")),
    )
