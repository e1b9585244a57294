"""A report's page holds what the report holds, and nothing in it is taken for markup."""

from refblo.experiments.markdown import to_markdown
from refblo.experiments.report import ExperimentReport, ExperimentRow, ExperimentVerdict, Scale


def test_the_page_has_every_row_setting_finding_and_plot() -> None:
    rows = (
        ExperimentRow(
            "HPO-SGLD",
            "|λ − λ*|",
            "0.0001",
            0.0012,
            ExperimentVerdict.NOT_REPRODUCED,
            "γ = 0.005",
            "noted",
        ),
        ExperimentRow("RMD", "λ*", None, None, ExperimentVerdict.LEFT_OUT, "γ = 0.01"),
    )
    report = ExperimentReport(
        "table-2", "what it is", Scale.SMALL, 0, rows, ("f_θ is found",), ("table-2/t.png",)
    )
    page = to_markdown(report)
    assert r"| HPO-SGLD | \|λ − λ\*\| | 0.0001 | 0.001200 |  | not reproduced |" in page
    assert "| RMD | λ\\* |  | – |  | left out at this scale |" in page
    for part in (
        "γ = 0.005 (noted)",
        "γ = 0.01",
        r"f\_θ is found",
        "![table-2](t.png)",
        "What it is",
    ):
        assert part in page
