"""The page: complete in itself, whole, and with every figure in it."""

import re
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser

import pytest

from refblo.audit import plots
from refblo.audit.html import render
from refblo.audit.run import Audit, AuditOutcome
from refblo.contracts.contract import Curve
from tests.audit import samples

VOID = {"meta", "link", "br", "img", "hr", "input"}


@dataclass
class Seen:
    """What a parser met."""

    tags: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


class Reader(HTMLParser):
    """Collects tags, references and text, and checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Seen()
        self.stack: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}:
                self.seen.references.append(value or "")
            if name == "id":
                self.seen.ids.append(value or "")
            self.seen.references += re.findall(r"url\((.*?)\)", value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.seen.text.append(data)


def page_of(audit: Audit, *, finished: bool = True) -> tuple[str, Seen]:
    page = render(audit, finished=finished, written=samples.WRITTEN)
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.stack == []
    return page, reader.seen


@pytest.mark.parametrize(
    "audit",
    [samples.everything(), samples.audit(planned=3), samples.audit(samples.exact_row(), planned=3)],
    ids=["everything", "nothing yet", "a part"],
)
def test_nothing_is_loaded_from_elsewhere(audit: Audit) -> None:
    page, seen = page_of(audit)
    assert all(reference.startswith("#") for reference in seen.references)
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(seen.tags)
    assert "@import" not in page
    assert "@font-face" not in page
    # A namespace is a name; nothing is fetched for it.
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", page))
    assert addresses <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}


def test_every_reference_leads_somewhere_and_names_are_unique() -> None:
    _, seen = page_of(samples.everything())
    assert len(seen.ids) == len(set(seen.ids))
    assert {reference.removeprefix("#") for reference in seen.references} <= set(seen.ids)
    assert sum(name.startswith("row-") for name in seen.ids) == 9


def test_every_figure_of_a_row_is_there() -> None:
    audit = samples.everything()
    page, seen = page_of(audit)
    text = " ".join("".join(seen.text).split())
    assert "<the bounds>" not in page  # it would be a tag
    for row in audit.rows:
        assert row.claim in text
        assert row.case in text
        if row.finding is None:
            assert row.message in text
            continue
        assert row.finding.judgement.measured in text
        assert row.finding.judgement.predicted in text
        for comparison in row.finding.comparisons:
            assert comparison.oracle in text
            assert comparison.kind.value in text
            assert f"{comparison.distance:.3g}" in text
            assert f"{comparison.digits:.1f}" in text
    for value in audit.environment.values():
        assert value in text
    assert "--dtype float32" in text
    assert "2024-02-29 12:30:15 UTC" in text


def test_an_unfinished_audit_says_so() -> None:
    page, _ = page_of(samples.audit(samples.exact_row(), planned=4), finished=False)
    assert "Unfinished: 1 of 4 rows" in page
    assert "was interrupted" in page
    whole, _ = page_of(samples.audit(samples.exact_row()))
    assert "Every contract holds" in whole
    assert "interrupted" not in whole


def test_what_does_not_hold_stands_open_and_first() -> None:
    page, _ = page_of(samples.everything())
    assert len(re.findall(r"<details[^>]* open>", page)) == 4
    assert page.index("To look at first") < page.index("At a glance")


def test_there_is_a_plot_for_each_sweep_and_a_line_for_each_case() -> None:
    found = plots.sweeps(samples.everything())
    assert [plot.section for plot in found] == [
        plots.SECTIONS["ε"],
        plots.SECTIONS["T"],
        plots.SECTIONS["K"],
    ]
    assert [entry.label for entry in found[0].legend] == [f"{it}, no noise" for it in samples.CASES]
    assert "the predicted leading term" in found[0].description
    assert "the predicted bound" in found[1].description


def test_a_budget_has_a_bar_for_each_case_and_a_colour_for_each_part() -> None:
    assert plots.budget(()) is None
    plot = plots.budget((samples.budget(), samples.budget("other")))
    assert plot is not None
    assert len({entry.colour for entry in plot.legend}) == len(plot.legend) == 4
    assert plot.svg.count(f"fill: {plot.legend[0].colour}") == 2
    # 0.228 + 0.0241 + 0.0632 + 0.134, by the norms of the sample's four parts.
    assert "other: 45 %" in unescape(plot.svg)


def test_pictures_take_the_page_s_colours_and_font() -> None:
    for plot in plots.sweeps(samples.everything()):
        assert "currentColor" in plot.svg
        assert "#000000" not in plot.svg
        assert "DejaVu" not in plot.svg
        assert "<style" not in plot.svg


def test_a_picture_is_a_function_of_the_audit() -> None:
    assert plots.sweeps(samples.everything()) == plots.sweeps(samples.everything())


def test_lines_are_told_apart_without_colour() -> None:
    row = samples.order_row()
    assert row.finding is not None
    many = samples.audit(*(samples.order_row(f"case {k}") for k in range(20)))
    legend = plots.sweeps(many)[0].legend
    assert len({(entry.colour, entry.marker) for entry in legend}) == 20


def test_an_audit_with_nothing_positive_to_draw_is_drawn() -> None:
    row = samples.series_row()
    assert row.outcome is AuditOutcome.FAILS
    assert row.finding is not None
    curve = Curve("K", "zero", (1.0, 2.0), (0.0, float("inf")), None)
    assert plots._sweep("K", [curve], "key").startswith("<svg")
