"""The audit without its reports: plans which contract is checked on which case, and runs the plan.

`plan(settings)` gives an `AuditPlan`; `AuditPlan.run` checks in worker processes and yields an `AuditRow` for
each contract on each case, and error budgets, as they are finished. Nothing here prints or writes files: the
other modules of `refblo.audit` do (terminal, html, json_report).

What must hold: a planned row always comes out. If a check raises or a worker process dies, the row has the
outcome ERROR, and the other rows are not affected. A case is one job, so that its contracts share its truths.
No contract's verdict depends on the length of a case's schedule: so the quick profile may shorten it.
"""

import platform
import time
import traceback
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from fnmatch import fnmatch
from importlib.metadata import version
from typing import final

import torch

from refblo.chain import Schedule
from refblo.contracts.context import Context
from refblo.contracts.contract import Contract, ContractFinding
from refblo.contracts.registry import contracts
from refblo.errors import ArgumentError, RefbloError
from refblo.noise import Draws
from refblo.parallel import stream
from refblo.problems import catalogue
from refblo.problems.case import Case
from refblo.problems.catalogue import Builder
from refblo.theory.budget import ErrorBudget, error_budget, has_budget


class AuditOutcome(Enum):
    """The result of one row: the contract holds, it fails, or it could not be checked."""

    HOLDS = "holds"
    FAILS = "fails"
    ERROR = "error"


@final
@dataclass(frozen=True)
class AuditSettings:
    """What to audit.

    Attributes:
        full: longer sweeps, more seeds, every case; otherwise the quick profile (≤ 60 s on two cores).
        only: glob patterns. A row is run if the name of its contract, estimator or case matches one of them;
            empty for all rows of the profile.
        seed: the seed of every draw. Not 0, that of an estimator that is given no draws: one that does not
            pass them on is seen.
        device: torch device of the problems.
        dtype: torch dtype of the problems.
    """

    full: bool = False
    only: tuple[str, ...] = ()
    seed: int = 1
    device: str = "cpu"
    dtype: torch.dtype = torch.float64


@final
@dataclass(frozen=True)
class AuditRow:
    """One contract on one case.

    Attributes:
        contract: the contract's name.
        estimator: the estimator's name.
        relation: the relation's name.
        claim: what the contract claims, in a sentence.
        case: the case's name.
        outcome: whether the contract holds.
        seconds: wall time of the check.
        finding: the measured figures; None if the check raised.
        message: the text of the error, if the check raised; else empty.
    """

    contract: str
    estimator: str
    relation: str
    claim: str
    case: str
    outcome: AuditOutcome
    seconds: float
    finding: ContractFinding | None = None
    message: str = ""


@final
@dataclass(frozen=True)
class Audit:
    """An audit, finished or not.

    Attributes:
        settings: the settings of the audit.
        environment: versions and the machine, for the report.
        planned: the number of planned rows.
        rows: the finished rows.
        budgets: the error budgets of the cases that have one.
    """

    settings: AuditSettings
    environment: dict[str, str]
    planned: int
    rows: tuple[AuditRow, ...] = ()
    budgets: tuple[ErrorBudget, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all planned rows are finished; there may be more, because a failed budget adds a row."""
        return len(self.rows) >= self.planned

    @property
    def passed(self) -> bool:
        """Whether all planned rows are finished, and every row holds."""
        return self.complete and all(row.outcome is AuditOutcome.HOLDS for row in self.rows)


QUICK_STEPS = 5
"""The most burn-in steps, and the most samples, of a case in the quick profile."""


@final
@dataclass(frozen=True, eq=False)
class AuditPlan:
    """The rows to run.

    Attributes:
        settings: the settings of the audit.
        tasks: the rows: a contract, and a case to which it applies.
        budget_cases: the cases whose error budget is computed.
    """

    settings: AuditSettings
    tasks: tuple[tuple[Case, Contract], ...]
    budget_cases: tuple[Case, ...]

    def start(self) -> Audit:
        """The audit with no row finished."""
        return Audit(self.settings, _environment(self.settings), planned=len(self.tasks))

    def run(self, workers: int = 1) -> Generator[AuditRow | ErrorBudget, None, None]:
        """Rows and budgets, as they are finished; closing the generator ends the workers.

        Args:
            workers: processes to spread the cases over.
        """
        chosen: dict[str, list[str]] = {}
        for case, contract in self.tasks:
            chosen.setdefault(case.name, []).append(contract.name)
        budgets = {case.name for case in self.budget_cases}
        sizes = {case.name: case.lam.numel() for case, _ in self.tasks}
        jobs = [
            _Job(self.settings, name, tuple(names), name in budgets)
            for name, names in sorted(chosen.items(), key=lambda item: -sizes[item[0]])
        ]
        yield from stream(_work, jobs, workers, _lost)


@final
@dataclass(frozen=True)
class _Job:
    """The rows of one case, by names alone, so that it can be sent to a worker process.

    Attributes:
        settings: the settings of the audit.
        case: the case's name.
        contracts: the names of the contracts to check on it.
        budget: whether to compute its error budget as well.
    """

    settings: AuditSettings
    case: str
    contracts: tuple[str, ...]
    budget: bool


def _work(job: _Job) -> Iterator[AuditRow | ErrorBudget]:
    context = Context(Draws(job.settings.seed), job.settings.full)
    case = case_of(catalogue()[job.case], job.settings)
    known = {contract.name: contract for contract in contracts()}
    for name in job.contracts:
        yield _check(case, known[name], context)
    if job.budget:
        yield _budget(case, context.draws)


def _lost(job: _Job, finished: int, reason: str) -> Iterator[AuditRow]:
    """An ERROR row for each row of a job that was not finished when its worker process ended."""
    message = (
        f"the check gave no result: {reason}; run it alone with --only {job.case!r} to see more"
    )
    known = {contract.name: contract for contract in contracts()}
    for name in job.contracts[finished:]:
        contract = known[name]
        yield AuditRow(
            contract=name,
            estimator=contract.estimator,
            relation=contract.relation,
            claim=contract.claim,
            case=job.case,
            outcome=AuditOutcome.ERROR,
            seconds=0.0,
            message=message,
        )
    if job.budget and finished <= len(job.contracts):
        yield _no_budget(job.case, 0.0, message)


def case_of(builder: Builder, settings: AuditSettings) -> Case:
    """The case with the dtype of the settings; its schedule is shortened in the quick profile."""
    case = builder(dtype=settings.dtype, device=settings.device)
    if settings.full:
        return case
    schedule = case.schedule
    short = Schedule(min(schedule.burn_in, QUICK_STEPS), min(schedule.samples, QUICK_STEPS))
    return replace(case, schedule=short)


def plan(settings: AuditSettings) -> AuditPlan:
    """Lay out an audit.

    Raises:
        ArgumentError: if the device is not there or no row matches `only`.
    """
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        raise ArgumentError(
            f"device must be available on this machine, got {settings.device!r}; use --device cpu"
        )
    cases = [case_of(builder, settings) for builder in catalogue().values()]
    tasks = tuple(
        (case, contract)
        for case in cases
        for contract in contracts()
        if _wanted(settings, case, contract) and contract.applies(case)
    )
    if not tasks:
        known = sorted({contract.estimator for contract in contracts()})
        raise ArgumentError(
            f"only must match a contract, an estimator or a case, got {list(settings.only)}; "
            "estimators are\n  "
            + "\n  ".join(known)
            + f"\ncases are {', '.join(case.name for case in cases)}"
        )
    chosen = {case.name for case, _ in tasks}
    return AuditPlan(
        settings, tasks, tuple(case for case in cases if case.name in chosen and has_budget(case))
    )


def _wanted(settings: AuditSettings, case: Case, contract: Contract) -> bool:
    """Whether the row is asked for: by a pattern, or by the profile."""
    texts = (case.name, contract.name, contract.estimator)
    if settings.only:
        return any(
            fnmatch(text.lower(), pattern.lower()) for text in texts for pattern in settings.only
        )
    return settings.full or contract.quick


def _budget(case: Case, draws: Draws) -> AuditRow | ErrorBudget:
    """The case's budget, or a row that says why there is none."""
    start = time.perf_counter()
    try:
        return error_budget(case, draws)
    except Exception as error:  # a budget that raises must not stop the other rows
        return _no_budget(case.name, time.perf_counter() - start, _error_text(error))


def _no_budget(case: str, seconds: float, message: str) -> AuditRow:
    return AuditRow(
        contract="error budget",
        estimator="HPO-SGLD",
        relation="",
        claim="the distance from the truth splits into named terms",
        case=case,
        outcome=AuditOutcome.ERROR,
        seconds=seconds,
        message=message,
    )


def _error_text(error: Exception) -> str:
    """The message of an error of refblo, which explains itself; the traceback of any other error."""
    if isinstance(error, RefbloError):
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception(error, limit=-3))


def _check(case: Case, contract: Contract, context: Context) -> AuditRow:
    start = time.perf_counter()
    finding: ContractFinding | None = None
    message = ""
    try:
        finding = contract.check(case, context)
        outcome = AuditOutcome.HOLDS if finding.judgement.holds else AuditOutcome.FAILS
    except Exception as error:  # a check that raises must not stop the other rows
        outcome, message = AuditOutcome.ERROR, _error_text(error)
    return AuditRow(
        contract=contract.name,
        estimator=contract.estimator,
        relation=contract.relation,
        claim=contract.claim,
        case=case.name,
        outcome=outcome,
        seconds=time.perf_counter() - start,
        finding=finding,
        message=message,
    )


def _environment(settings: AuditSettings) -> dict[str, str]:
    device = settings.device
    if device.startswith("cuda"):
        device = torch.cuda.get_device_name(torch.device(device))
    packages = ("refblo", "torch", "numpy", "scipy", "sympy", "python-flint")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": device,
        "dtype": str(settings.dtype).removeprefix("torch."),
        **{package: version(package) for package in packages},
    }
