"""An oracle for other people's implementations: `hypergradcheck`, `refblo check` and their diagnosis."""

from refblo.conformance.hypergradcheck import (
    hypergradcheck,
    hypergradient_is_right,
    hypergradient_report,
)
from refblo.conformance.report import HypergradientMismatch, Report, Verdict
from refblo.rules.rule import Rule

__all__ = [
    "HypergradientMismatch",
    "Report",
    "Rule",
    "Verdict",
    "hypergradcheck",
    "hypergradient_is_right",
    "hypergradient_report",
]
