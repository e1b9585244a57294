"""The verdict on a hypergradient of an inner run on losses that are written in NumPy."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from refblo.conformance.in_numpy.arguments import InNumPy
from refblo.conformance.in_numpy.functions import HowDifferentiated
from refblo.conformance.of_run import run_report
from refblo.conformance.report import Report

TRUTH = (
    "complex steps and differences of the NumPy losses, pushed along the run or solved at the minimiser, and "
    "confirmed by differences of the outer objective"
)


def numpy_report(
    inner: Any,
    outer: Any,
    lam: Any,
    theta0: Any,
    hypergradient: Any,
    options: Mapping[str, object],
) -> Report:
    """The report on a hypergradient of losses of NumPy arrays; the arguments are those of `hypergradcheck`.

    Raises:
        OracleError: if the oracles cannot answer.
        ArgumentError, ArgumentTypeError, LossError: for arguments that do not fit together.
    """
    found = InNumPy.of(inner, outer, lam, theta0, hypergradient, options)
    report = run_report(
        found.inner, found.outer, found.lam, found.theta0, found.hypergradient, found.options
    )
    return replace(report, truth=TRUTH, findings=(*report.findings, *_told(found.functions)))


def _told(functions: Sequence[HowDifferentiated]) -> list[str]:
    """How each function was differentiated."""
    said = [
        f"finding: {one.name} was differentiated by differences, not by complex step, as "
        f"{one.why_not_complex}"
        for one in functions
        if one.why_not_complex
    ]
    calls = ", ".join(f"{one.name} {one.calls} times" for one in functions)
    return [*said, f"NumPy functions were called to differentiate them: {calls}"]
