"""The role `ago`: a day, and how long ago that was when the site was built.

A page of results says {ago}`2026-11-28`; whoever reads the source sees the day, and the site says its age.
"""

from datetime import UTC, date, datetime

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole
from sphinx.util.typing import ExtensionMetadata


def in_words(day: date, today: date) -> str:
    """The day, and its age in days or months.

    >>> in_words(date(2026, 11, 28), date(2026, 12, 1))
    '3 days ago, on 28 November 2026'
    """
    days = (today - day).days
    on = f"on {day.day} {day:%B %Y}"
    if days < 1:
        return f"today, {on}"
    unit, count = ("day", days) if days < 60 else ("month", round(days / 30.4))
    return f"{count} {unit}{'' if count == 1 else 's'} ago, {on}"


class Ago(SphinxRole):
    """An ISO date in words; a text that is none is a warning, and so ends the build."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Make the text."""
        try:
            day = date.fromisoformat(self.text)
        except ValueError:
            message = self.inliner.reporter.warning(
                f"ago must hold a date such as 2026-11-28, got {self.text}", line=self.lineno
            )
            return [nodes.Text(self.text)], [message]
        return [nodes.Text(in_words(day, datetime.now(UTC).date()))], []


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the role."""
    app.add_role("ago", Ago())
    return {"parallel_read_safe": True}
