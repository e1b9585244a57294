"""A report as a page: the table, every setting, the findings, the plots."""

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
    cells = (row.label, row.quantity, row.paper or "", row.ours_text, place, row.verdict.value)
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    """A bar would end a cell, a star begin an emphasis, a bracket a link, a tilde strike through."""
    return "".join(f"\\{c}" if c in "|*[]_~<" else c for c in text)
