"""The audit as one page that needs no network: style, pictures and figures are all in it."""

from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from refblo.audit import plots
from refblo.audit.run import Audit, AuditOutcome, AuditRow
from refblo.audit.summary import (
    SYMBOLS,
    cases,
    command,
    counts,
    duration,
    figure,
    groups,
    headline,
    tally,
    troubled,
    used,
)


def render(audit: Audit, *, finished: bool, written: datetime) -> str:
    """The page.

    Args:
        audit: finished or not.
        finished: whether nothing more was to come.
        written: when.
    """
    environment = Environment(
        loader=PackageLoader("refblo.audit"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, figure=figure, used=used, svg=Markup)
    anchors = {_key(row): f"row-{number}" for number, row in enumerate(audit.rows, 1)}
    return environment.get_template("audit.html.j2").render(
        audit=audit,
        finished=finished and audit.complete,
        written=written,
        headline=headline(audit),
        tally=tally(audit),
        command=command(audit.settings),
        counts=counts(audit.rows),
        groups=groups(audit.rows),
        cases=cases(audit.rows),
        by_key={_key(row): row for row in audit.rows},
        anchors=anchors,
        key=_key,
        troubled=troubled(audit.rows),
        symbols=SYMBOLS,
        AuditOutcome=AuditOutcome,
        sweeps=plots.sweeps(audit),
        budget=plots.budget(audit.budgets),
    )


def _key(row: AuditRow) -> tuple[str, str]:
    return (row.contract, row.case)
