"""The verdict on a hypergradient of an inner run on losses that are written in JAX."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax

from refblo.conformance.in_jax.arguments import InJAX
from refblo.conformance.of_run import run_report
from refblo.conformance.report import Report

X64_OFF = (
    "x64 is off in JAX, so the answer was computed in float32; with jax.config.update('jax_enable_x64', "
    "True) and float64 arrays much smaller errors are seen"
)


def jax_report(
    inner: Any,
    outer: Any,
    lam: Any,
    theta0: Any,
    hypergradient: Any,
    options: Mapping[str, object],
) -> Report:
    """The report on a hypergradient of losses of JAX arrays; the arguments are those of `hypergradcheck`.

    Raises:
        OracleError: if the oracles cannot answer.
        ArgumentError, ArgumentTypeError, LossError: for arguments that do not fit together.
    """
    found = InJAX.of(inner, outer, lam, theta0, hypergradient, options)
    report = run_report(
        found.inner, found.outer, found.lam, found.theta0, found.hypergradient, found.options
    )
    if jax.numpy.asarray(0.0).dtype == "float64":
        return report
    return replace(report, findings=(*report.findings, X64_OFF))
