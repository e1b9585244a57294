"""The audit as a JSON document with a published schema, for programs to read.

JSON has no infinity and no NaN: those numbers are the strings "Infinity", "-Infinity" and "NaN".
"""

import json
import math
from dataclasses import asdict
from datetime import datetime
from importlib import resources

import numpy as np
from jaxtyping import Float64

from refblo.audit.run import Audit, AuditOutcome, AuditRow
from refblo.audit.summary import command, counts
from refblo.contracts.comparison import Comparison
from refblo.contracts.contract import ContractFinding, Curve
from refblo.theory.budget import ErrorBudget

FORMAT = "refblo-audit"
VERSION = 1
"""Raised when a reader of the former version would misread a document."""

Object = dict[str, object]


def schema() -> Object:
    """The JSON Schema (2020-12) of the documents."""
    text = resources.files("refblo.audit").joinpath("audit.schema.json").read_text("utf-8")
    loaded: Object = json.loads(text)
    return loaded


def to_json(audit: Audit, *, finished: bool, written: datetime) -> str:
    """The document as text.

    Args:
        audit: finished or not.
        finished: whether nothing more is to come, error budgets included.
        written: when.
    """
    return json.dumps(
        document(audit, finished=finished, written=written),
        indent=1,
        ensure_ascii=False,
        allow_nan=False,
    )


def document(audit: Audit, *, finished: bool, written: datetime) -> Object:
    """The document; arguments as for `to_json`."""
    found = counts(audit.rows)
    settings = audit.settings
    return {
        "format": FORMAT,
        "version": VERSION,
        "complete": finished and audit.complete,
        "passed": finished and audit.passed,
        "written": written.isoformat(timespec="seconds"),
        "command": command(settings),
        "settings": {
            "profile": "full" if settings.full else "quick",
            "only": list(settings.only),
            "seed": settings.seed,
            "device": settings.device,
            "dtype": str(settings.dtype).removeprefix("torch."),
        },
        "environment": dict(audit.environment),
        "summary": {
            "planned": audit.planned,
            "finished": len(audit.rows),
            **{outcome.value: found[outcome] for outcome in AuditOutcome},
            "seconds": sum(row.seconds for row in audit.rows),
        },
        "rows": [_row(row) for row in audit.rows],
        "budgets": [_budget(budget) for budget in audit.budgets],
    }


def _number(value: float) -> float | str:
    number = float(value)
    if math.isfinite(number):
        return number
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def _numbers(values: tuple[float, ...] | Float64[np.ndarray, " k"]) -> list[float | str]:
    return [_number(value) for value in values]


def _row(row: AuditRow) -> Object:
    return {
        "contract": row.contract,
        "estimator": row.estimator,
        "relation": row.relation,
        "claim": row.claim,
        "case": row.case,
        "outcome": row.outcome.value,
        "seconds": row.seconds,
        "message": row.message,
        "finding": None if row.finding is None else _finding(row.finding),
    }


def _finding(finding: ContractFinding) -> Object:
    judgement = finding.judgement
    return {
        "holds": judgement.holds,
        "measured": judgement.measured,
        "predicted": judgement.predicted,
        "margin": _number(judgement.margin),
        "comparisons": [_comparison(comparison) for comparison in finding.comparisons],
        "curves": [_curve(curve) for curve in finding.curves],
        "cost": {**asdict(finding.cost), "total": finding.cost.total},
    }


def _comparison(comparison: Comparison) -> Object:
    return {
        "oracle": comparison.oracle,
        "kind": comparison.kind.value,
        "within": comparison.within,
        "distance": _number(comparison.distance),
        "bound": _number(comparison.bound),
        "truth_norm": _number(comparison.truth_norm),
        "relative": _number(comparison.relative),
        "digits": _number(comparison.digits),
        "cosine": _number(comparison.cosine),
    }


def _curve(curve: Curve) -> Object:
    return {
        "parameter": curve.parameter,
        "label": curve.label,
        "at": _numbers(curve.at),
        "errors": _numbers(curve.errors),
        "predicted": None if curve.predicted is None else _numbers(curve.predicted),
    }


def _budget(budget: ErrorBudget) -> Object:
    return {
        "case": budget.case,
        "shares": {part: _number(share) for part, share in budget.shares.items()},
        "recursion": _numbers(budget.recursion),
        "monte_carlo": _numbers(budget.monte_carlo),
        "discretisation": _numbers(budget.discretisation),
        "temperature": _numbers(budget.temperature),
        "total": _numbers(budget.total),
        "truth": _numbers(budget.truth),
    }
