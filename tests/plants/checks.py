"""What may reject a planted error: rows of the audit, rows of the ledger, tests; each by its name.

A check is run in the process that holds the error, and says whether it noticed it. The rows of the audit are
those of the quick profile, the smallest problems first.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, final

import pytest

from proofs_check.claim import ClaimContext
from proofs_check.claims import find
from proofs_check.code_claims import claims_of
from proofs_check.ledger import settle
from refblo.audit.run import AuditSettings, case_of, plan
from refblo.contracts.context import Context
from refblo.contracts.registry import contracts
from refblo.noise import Draws
from refblo.problems import catalogue
from tests.plants.plant import ROOT, Plant, subjects


@final
class Where(Enum):
    """Which of the three noticed an error."""

    AUDIT = "audit"
    LEDGER = "ledger"
    TESTS = "tests"


@final
@dataclass(frozen=True)
class PlantCheck:
    """One check.

    Attributes:
        where: whose check it is.
        name: "contract on case" of the audit, a claim of the ledger, or a test as pytest takes it.
    """

    where: Where
    name: str

    def rejecting(self) -> "PlantCheck | None":
        """What fails here and now, named as closely as can be; None where all holds."""
        if self.where is Where.AUDIT:
            return None if _row_holds(*self.name.rsplit(" on ", 1)) else self
        if self.where is Where.LEDGER:
            return None if settle(find(self.name), ClaimContext()).holds else self
        failed = first_failure([self.name])
        return None if failed is None else PlantCheck(Where.TESTS, failed)


SETTINGS = AuditSettings()


def _row_holds(contract: str, case: str) -> bool:
    known = {each.name: each for each in contracts()}
    built = case_of(catalogue()[case], SETTINGS)
    try:
        return known[contract].check(built, Context(Draws(SETTINGS.seed))).judgement.holds
    except Exception:
        return False


@cache
def _rows() -> tuple[tuple[str, str], ...]:
    """(contract, case) of every row of the quick audit, the smallest problems first."""
    tasks = sorted(
        plan(SETTINGS).tasks,
        key=lambda task: task[0].lam.numel() * task[0].problem.initial(task[0].lam).numel(),
    )
    return tuple((contract.name, case.name) for case, contract in tasks)


def checks_of(plant: Plant) -> Iterator[PlantCheck]:
    """The checks that are asked about a plant, in order: the audit's, the ledger's, the tests'."""
    subject = subjects()[plant.subject]
    for contract, case in _rows():
        if any(fnmatchcase(contract, pattern) for pattern in subject.contracts):
            yield PlantCheck(Where.AUDIT, f"{contract} on {case}")
    for key in claims_of(ROOT / plant.file):
        yield PlantCheck(Where.LEDGER, key)
    for test in subject.tests:
        yield PlantCheck(Where.TESTS, test)


def prepare() -> None:
    """Build once, before any error is planted, what does not depend on one."""
    _rows()


def first_failure(tests: list[str]) -> str | None:
    """The first test that fails, as pytest takes it; None where all pass."""
    noticed = _Noticed()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = pytest.main(
            [
                "-x",
                "-q",
                "--hypothesis-profile",
                "planted",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:xdist",
                "-W",
                "ignore::pytest.PytestAssertRewriteWarning",
                "--rootdir",
                str(ROOT),
                *tests,
            ],
            plugins=[noticed],
        )
    if status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return None
    return noticed.failed or tests[0]


class _Noticed:
    """Takes down which test failed first."""

    failed: str | None = None

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and self.failed is None:
            self.failed = str(report.nodeid)
