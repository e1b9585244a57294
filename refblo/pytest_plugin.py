"""A pytest fixture for `hypergradcheck`; `pytest_plugins = ["refblo.pytest_plugin"]` in conftest.py.

    def test_my_hypergradient(hypergradcheck):
        hypergradcheck(inner, outer, lam, theta0, mine, steps=10, step_size=0.1)

A wrong hypergradient fails the test with the report and the diagnosis, and without a traceback through
refblo. Directions are drawn from the test's name: they differ between tests, and repeat.
"""

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from refblo.conformance import Report as CheckReport


@pytest.fixture
def hypergradcheck(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> "Callable[..., CheckReport]":
    """`refblo.hypergradcheck` with a test's own seed; its figures go into the test's record."""

    def check(*arguments: Any, **options: Any) -> "CheckReport":
        # Not before a test asks for it: this module is imported at the start of every run of pytest.
        from refblo.conformance.hypergradcheck import hypergradient_report
        from refblo.conformance.report import Verdict
        from refblo.errors import OracleError

        options.setdefault("seed", zlib.crc32(request.node.nodeid.encode()))
        report = hypergradient_report(*arguments, **options)
        record_property("hypergradcheck relative error", report.relative_error)
        record_property("hypergradcheck floor", report.floor)
        if report.verdict is Verdict.WRONG:
            pytest.fail(report.describe(), pytrace=False)
        if report.verdict is Verdict.UNDECIDED:
            raise OracleError(report.describe())
        return report

    return check
