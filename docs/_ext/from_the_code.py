"""Directives whose content is made from the code: the table of the estimators, the list of the mistakes.

`estimator_table()` and `mistake_list()` are Markdown; the directives `estimators` and `mistakes` show them.
"""

from collections.abc import Callable

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.contracts.contract import Contract
from refblo.contracts.registry import contracts
from refblo.estimators.registry import EstimatorClass, estimator_classes
from refblo.testing.cases import SMALL_CASES
from refblo.testing.instances import example
from refblo.testing.registry import by_estimator, names_of
from refblo.vectors.flags import FLAGS


def estimator_table() -> str:
    """One row for each estimator: its class, what it estimates, and the claims of its contracts."""
    rows = ["| method | class | estimand | claims that are checked |", "| --- | --- | --- | --- |"]
    for cls, its in by_estimator(estimator_classes(), contracts()).items():
        rows.append(_row(cls, its))
    return "\n".join(rows)


def _row(cls: EstimatorClass, its: list[Contract]) -> str:
    claims = [f"*{contract.relation}*: {_cell(contract.claim)}" for contract in its]
    estimand = example(cls, SMALL_CASES[0](torch.float64)).estimand.value
    cells = (
        ", ".join(sorted(names_of(cls))),
        f"`{cls.__name__}`",
        estimand,
        "; ".join(dict.fromkeys(claims)),
    )
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Text without what Markdown would take for the end of a cell or for markup."""
    for mark in ("\\", "|", "*", "_", "<", "["):
        text = text.replace(mark, f"\\{mark}")
    return text


def slug(mistake: Mistake) -> str:
    """The name of the mistake's target on the page."""
    return "mistake-" + mistake.name.lower().replace("_", "-")


def mistake_list() -> str:
    """One section for each mistake: what it is, its cause, its remedy, and the flags of test vectors."""
    sections = []
    for mistake in Mistake:
        flags = [name for name in FLAGS if _is_of(name, mistake)]
        lines = [
            f"({slug(mistake)})=",
            f"## {_cell(mistake.printed)}",
            "",
            f"**What it is.** {_cell(mistake.what)}",
            "",
            f"**How it comes about.** {_cell(mistake.cause)}",
            "",
            f"**What to do.** {_cell(mistake.remedy)}",
        ]
        if flags:
            named = ", ".join(f"`{flag}` ({FLAGS[flag][0]})" for flag in flags)
            lines += ["", f"**Flag of test vectors.** {named}"]
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def _is_of(flag: str, mistake: Mistake) -> bool:
    try:
        return Mistake.named(flag) is mistake
    except KeyError:
        return False  # two flags are conventions, and no mistakes


def _directive(text: Callable[[], str]) -> type[SphinxDirective]:
    class FromTheCode(SphinxDirective):
        """Shows Markdown that a function returns."""

        def run(self) -> list[nodes.Node]:
            parsed: list[nodes.Node] = self.parse_text_to_nodes(text(), allow_section_headings=True)
            return parsed

    return FromTheCode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives."""
    app.add_directive("estimators", _directive(estimator_table))
    app.add_directive("mistakes", _directive(mistake_list))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
