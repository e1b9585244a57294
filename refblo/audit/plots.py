"""The plots of the report, as SVG that takes the page's own text colour and font."""

import contextlib
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from refblo.audit.run import Audit
from refblo.audit.summary import figure, groups
from refblo.contracts.contract import Curve
from refblo.theory.budget import ErrorBudget

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLOURS = ("#3b7dd8", "#d9822b", "#1f9e77", "#c94f9b", "#8c6bd1", "#b58900", "#d1495b", "#4f8f9f")
"""Told apart by readers with any colour vision, and legible on white and on black alike."""

MARKERS = "osD^vPX*"
MARKER_TEXTS = "●■◆▲▼✚✖★"
"""The markers as characters, for the legend; a line is never told by its colour alone."""

SECTIONS = {
    "ε": "Error against the step size ε",
    "γ at fixed Tγ": "Error at a fixed horizon Tγ",
    "T": "Error against the number of inner steps T",
    "K": "Error against the length of the series K",
}
"""Kinds by the name of the swept parameter; another parameter gets a plain one."""

LOGARITHMIC = {"ε", "γ at fixed Tγ"}
"""Parameters along which an error is a power; along the others it is an exponential."""

PREDICTIONS = {
    "Order": "the predicted leading term",
    "Geometric": "the predicted bound",
    "Biased": "the predicted limit",
}

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_TEXT = "#010203"  # stands for the page's text colour, and is no colour of anything else


@final
@dataclass(frozen=True)
class LegendEntry:
    """A line of a legend: a colour, a marker and what they stand for."""

    colour: str
    marker: str
    label: str


@final
@dataclass(frozen=True)
class Plot:
    """A picture with its words.

    Attributes:
        section: what kind of plot it is.
        title: of what.
        description: what the lines or bars are.
        svg: the picture.
        legend: the entries of the legend.
    """

    section: str
    title: str
    description: str
    svg: str
    legend: tuple[LegendEntry, ...]


def sweeps(audit: Audit) -> tuple[Plot, ...]:
    """One plot for each contract that swept a parameter, one line in it for each case."""
    found: dict[str, list[Plot]] = {parameter: [] for parameter in SECTIONS}
    for group in groups(audit.rows):
        curves: dict[str, list[Curve]] = {}
        for row in group.rows:
            for curve in () if row.finding is None else row.finding.curves:
                curves.setdefault(curve.parameter, []).append(curve)
        for parameter, lines in curves.items():
            plots = found.setdefault(parameter, [])
            key = f"sweep-{len(found)}-{len(plots)}-{len(lines)}-{_slug(group.contract)}"
            predicted = PREDICTIONS.get(group.relation, "the prediction")
            plots.append(
                Plot(
                    SECTIONS.get(parameter, f"Error against {parameter}"),
                    group.contract,
                    f"Markers: measured, relative to the truth; dashed: {predicted}.",
                    _sweep(parameter, lines, key),
                    tuple(
                        LegendEntry(_colour(index), _cycle(MARKER_TEXTS, index), line.label)
                        for index, line in enumerate(lines)
                    ),
                )
            )
    return tuple(plot for plots in found.values() for plot in plots)


def budget(budgets: Sequence[ErrorBudget]) -> Plot | None:
    """The error budgets as stacked bars, each bar the whole of its case's parts."""
    if not budgets:
        return None
    shares = [entry.shares for entry in budgets]
    parts = tuple(dict.fromkeys(part for share in shares for part in share))
    with _style():
        drawing, axes = _canvas(height=0.9 + 0.55 * len(budgets))
        for index, (entry, share) in enumerate(zip(budgets, shares, strict=True)):
            whole = sum(share.values())
            left = 0.0
            for part_index, part in enumerate(parts):
                width = 100 * share.get(part, 0.0) / whole if whole > 0 else 0.0
                axes.barh(index, width, 0.42, left=left, color=_colour(part_index), linewidth=0)
                left += width
            # A name beside its bar would take the room of the bars on a narrow screen.
            axes.text(
                0, index - 0.29, f"{entry.case}: {_percent(whole)}", va="bottom", fontsize=8.5
            )
        axes.set_ylim(len(budgets) - 0.5, -0.72)
        axes.set_xlim(0, 100)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("part of the sum of the four norms, %")
        svg = _svg(drawing, "budget")
    return Plot(
        "Error budget",
        "HPO-SGLD minus the implicit hypergradient",
        "Beside each name: the sum of the norms of the four parts, relative to the implicit hypergradient.",
        svg,
        tuple(LegendEntry(_colour(index), "■", part) for index, part in enumerate(parts)),
    )


def _percent(share: float) -> str:
    return f"{figure(100 * share)} %" if share < 10 else f"{figure(share)} times the truth"


def _sweep(parameter: str, lines: Sequence[Curve], key: str) -> str:
    with _style():
        drawing, axes = _canvas(height=2.9)
        for index, line in enumerate(lines):
            colour, marker = _colour(index), _cycle(MARKERS, index)
            # No logarithm: an error of exactly zero, or of a run that diverged, is left out.
            measured = _columns(zip(line.at, line.errors, strict=True))
            # Faint between its markers, so that a prediction that is met can be seen on it.
            axes.plot(*measured, color=colour, linewidth=1.2, alpha=0.4)
            if line.predicted is not None:
                predicted = _columns(zip(line.at, line.predicted, strict=True))
                axes.plot(*predicted, color=colour, linestyle=(0, (5, 3)), linewidth=1.2)
            axes.plot(*measured, color=colour, linestyle="none", marker=marker)
        axes.set_yscale("log")
        _limit(axes, [error for line in lines for error in line.errors if _positive(error)])
        _write_powers(axes.yaxis, few=False)
        if parameter in LOGARITHMIC:
            axes.set_xscale("log")
            ends = [at for line in lines for at in line.at]
            _write_powers(axes.xaxis, few=max(ends) < 30 * min(ends))
        axes.set_xlabel(parameter)
        axes.set_ylabel("error")
        axes.grid(which="major", alpha=0.18, color=_TEXT, linewidth=0.6)
        return _svg(drawing, key)


def _write_powers(axis: "Axis", few: bool) -> None:
    """Label the powers of ten, in characters; where there are few of them, twice and five times each too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if few:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    axis.set_minor_formatter(NullFormatter())


def _power(value: float) -> str:
    """A number as 2·10⁻³, in characters that need no mathematical typesetting."""
    factor, exponent = f"{value:.0e}".split("e")
    raised = "10" + str(int(exponent)).translate(_RAISED)
    return raised if factor == "1" else f"{factor}·{raised}"


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _columns(pairs: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    shown = [(at, error) for at, error in pairs if _positive(error)]
    return [at for at, _ in shown], [error for _, error in shown]


def _limit(axes: "Axes", errors: Sequence[float]) -> None:
    """Frame what was measured: a bound may go on to 10⁻³⁰⁰."""
    if errors:
        axes.set_ylim(min(errors) / 8, max(errors) * 30)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _cycle(texts: str, index: int) -> str:
    # Shifted once around the colours, so that the ninth line is not the first one's twin.
    return texts[(index + index // len(texts)) % len(texts)]


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text, flags=re.ASCII).strip("-").lower()


def _style() -> "contextlib.AbstractContextManager[None]":
    import matplotlib as mpl

    return mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "refblo",
            "font.family": "sans-serif",
            "font.size": 9.5,
            "axes.edgecolor": _TEXT,
            "axes.labelcolor": _TEXT,
            "axes.linewidth": 0.7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "text.color": _TEXT,
            "xtick.color": _TEXT,
            "ytick.color": _TEXT,
            "lines.linewidth": 1.5,
            "lines.markersize": 4.5,
        }
    )


def _canvas(height: float) -> "tuple[Figure, Axes]":
    """A figure of its own: pyplot would keep it in a global list."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(4.4, height), layout="constrained")
    return drawing, drawing.add_subplot()


def _svg(drawing: "Figure", key: str) -> str:
    """The figure as an element that can stand in a page beside others."""
    buffer = io.StringIO()
    drawing.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # What it says about itself is for a file of its own; its style sheet would style the whole page.
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'width="[^"]*" height="[^"]*" ', "", text, count=1)
    # Names inside a picture are unique in it, but the page holds many pictures.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{key}-", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    return text.replace(_TEXT, "currentColor")
