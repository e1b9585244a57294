"""A report as a page: the table, every setting, the findings, the plots."""

from collections.abc import Sequence

from refblo.experiments.endpoints import JudgedEndpoint
from refblo.experiments.report import ExperimentReport, ExperimentRow
from refblo.experiments.store import Store


def to_markdown(report: ExperimentReport) -> str:
    """The report as Markdown; its pictures are looked for beside the file."""
    lines = [
        f"{report.what[0].upper()}{report.what[1:]}. Scale {report.scale.value}, seed {report.seed}.",
        "",
        *(f"![{report.experiment}]({plot.rpartition('/')[2]})" for plot in report.plots),
        "",
        "| row | figure | paper | ours | percentile | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_line(row) for row in report.rows),
        "",
        *_claims(report.claims),
        "Findings:",
        "",
        *(f"- {_escaped(finding)}" for finding in report.findings),
        "",
        "Settings:",
        "",
        *(
            f"- *{_escaped(label)}*: {_escaped(setting)}{_escaped(f' ({note})' if note else '')}"
            for label, setting, note in dict.fromkeys(
                (row.label, row.setting, row.note) for row in report.rows
            )
        ),
    ]
    return "\n".join(lines) + "\n"


def saved(store: Store, report: ExperimentReport) -> ExperimentReport:
    """The report, once it lies beside its plots as JSON and as a page."""
    store.save("report.json", report.to_json())
    store.save("report.md", to_markdown(report))
    return report


def _line(row: ExperimentRow) -> str:
    place = "" if row.percentile is None else f"{row.percentile:.1f} of {row.runs}"
    cells = (row.label, row.quantity, row.printed_text, row.ours_text, place, row.verdict.value)
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _claims(claims: Sequence[JudgedEndpoint]) -> list[str]:
    """What was stated before the runs, then what they said; nothing where there are no claims."""
    if not claims:
        return []
    stated, said = [], []
    for number, judged in enumerate(claims, start=1):
        endpoint = judged.endpoint
        stated.append(
            f"{number}. {_escaped(endpoint.claim)} Compared: {_escaped(endpoint.comparison)}; "
            f"{_escaped(endpoint.kind.value)}; margin {endpoint.margin:g}."
        )
        cells = (
            f"{number}",
            f"{judged.seeds}",
            f"{judged.difference:.3g}",
            f"{judged.low:.3g} to {judged.high:.3g}",
            f"{judged.p_confirmed:.2g}",
            f"{judged.p_refuted:.2g}",
            judged.detectable_text,
            judged.verdict,
        )
        said.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
    return [
        "Claims, stated before the runs:",
        "",
        *stated,
        "",
        "| claim | seeds | ours − theirs | 95 % interval | p confirmed | p refuted | detectable | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *said,
        "",
        "The p-values are Holm's over the claims of this table; detectable is the smallest difference that "
        "would have been shown with a probability of 80 %.",
        "",
    ]


def _escaped(text: str) -> str:
    """A bar would end a cell, a star begin an emphasis, a bracket a link, a tilde strike through."""
    return "".join(f"\\{c}" if c in "|*[]_~<" else c for c in text)
