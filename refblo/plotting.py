"""The one style of the plots: no display is needed, and a file is written whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from refblo.files import replacing

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's colours, which the colour-blind tell apart."""
OURS, PRINTED, TRUE = COLOURS[0], COLOURS[1], "#555555"

_STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "figure.facecolor": "white",
    "font.size": 9,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    # A legend that lies on a line hides it rather than mixing with it.
    "legend.frameon": True,
    "legend.edgecolor": "white",
    "legend.framealpha": 0.9,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "refblo",
}


@contextmanager
def drawing(path: Path, columns: int, width: float, height: float) -> Iterator[list[Axes]]:
    """Axes side by side, saved as `path` when the block ends.

    Args:
        path: where the picture goes.
        columns: how many axes.
        width: of the picture, in inches.
        height: of the picture, in inches.
    """
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]  # keys are checked at run time
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = [figure.add_subplot(1, columns, index + 1) for index in range(columns)]
        yield axes
        with replacing(path) as scratch:
            # The same picture is the same file.
            dateless = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(scratch, dpi=150, metadata=dateless)
