"""Pictures of what is measured: `python -m asv_bench.pictures` (`make pictures`) writes docs/pictures.md.

They are drawn from committed results alone: asv_bench/results/scaling.json and asv's history. One picture has
one pair of axes, so that a page can put two beside each other where there is room, and one below the other on
a phone.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from asv_bench.commits import Change, Commit, changes, names, read
from asv_bench.history import RESULTS, ROOT
from asv_bench.machine import ANY
from asv_bench.scaling import FIXED, Point, Scaling
from refblo.files import write_atomically
from refblo.plotting import COLOURS, drawing

FOLDER = ROOT / "docs" / "_static" / "pictures"
PAGE = ROOT / "docs" / "pictures.md"
WIDTH, HEIGHT = 4.6, 3.9
MARKERS = "osD^vPX*<>"
WORDS = {"n": "parameters n", "p": "hyperparameters p", "T": "inner steps T"}
EQUAL = "#555555"

Series = Mapping[str, Sequence[tuple[float, float]]]


@contextmanager
def picture(name: str, title: str, across: str, up: str) -> Iterator[Axes]:
    """One pair of axes with its words, saved under its name; the legend stands below."""
    with drawing(FOLDER / f"{name}.svg", 1, WIDTH, HEIGHT) as (axes,):
        yield axes
        axes.set_title(title)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        handles, labels = axes.get_legend_handles_labels()
        figure = axes.get_figure()
        if figure is not None and handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)


def look(index: int) -> dict[str, Any]:
    """Colour and marker of a series: either alone tells it apart."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def logarithmic(axes: Axes, unit: Callable[[float], str] | None = None) -> None:
    """Both axes by powers of ten, with plain numbers."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: (unit or number)(value)))


def number(value: float) -> str:
    """A figure in a few characters: 1,200,000 is 1.2M."""
    for power, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= power:
            return f"{value / power:g}{letter}"
    return f"{value:g}"


def growth(scaling: Scaling) -> Iterator[str]:
    """Time and memory by n, p and T; the names of the pictures."""
    for grows, words in WORDS.items():
        others = ", ".join(f"{name} = {size}" for name, size in FIXED.items() if name != grows)
        by_method = points_of(scaling, grows)
        name = f"time-{grows.lower()}"
        with picture(name, f"Time of a hypergradient by {grows} ({others})", words, "ms") as axes:
            for index, (method, points) in enumerate(by_method.items()):
                sizes = [point.size for point in points]
                roofs = [1e3 * point.roof(scaling.rates) for point in points]
                axes.plot(sizes, roofs, color=look(index)["color"])
                timed = [(point.size, 1e3 * point.seconds) for point in points if point.seconds]
                axes.plot(*zip(*timed, strict=True), linestyle="", label=method, **look(index))
            logarithmic(axes)
        yield name
        name = f"memory-{grows.lower()}"
        with picture(name, f"Peak memory by {grows} ({others})", words, "bytes") as axes:
            for index, (method, points) in enumerate(by_method.items()):
                sizes = [point.size for point in points]
                axes.plot(
                    sizes, [point.peak_bytes for point in points], label=method, **look(index)
                )
            logarithmic(axes)
        yield name


def points_of(scaling: Scaling, grows: str) -> dict[str, list[Point]]:
    """The points of one sweep, by estimator."""
    found: dict[str, list[Point]] = {}
    for point in scaling.points:
        if point.grows == grows:
            found.setdefault(point.estimator, []).append(point)
    return found


def roof(scaling: Scaling) -> str:
    """Measured time against the time that the counted work takes at least; the picture's name."""
    name = "roof"
    across = "least time of the counted work, ms"
    with picture(name, "Measured time against counted work", across, "measured, ms") as axes:
        methods = dict.fromkeys(point.estimator for point in scaling.points)
        for index, method in enumerate(methods):
            pairs = [
                (1e3 * point.roof(scaling.rates), 1e3 * point.seconds)
                for point in scaling.points
                if point.estimator == method and point.seconds
            ]
            axes.plot(
                *zip(*pairs, strict=True), linestyle="", alpha=0.8, label=method, **look(index)
            )
        least = [1e3 * point.roof(scaling.rates) for point in scaling.points]
        ends = [min(least), max(least)]
        axes.plot(ends, ends, color=EQUAL, label="as fast as can be")
        axes.plot(
            ends, [10 * end for end in ends], color=EQUAL, linestyle=":", label="ten times that"
        )
        logarithmic(axes)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return name


HISTORY = {
    "counts.Counts.track_flops": ("operations", "Operations"),
    "counts.Counts.track_peak_bytes": ("peak", "Peak memory"),
    "counts.Counts.track_bytes_moved": ("moved", "Bytes read and written"),
    "counts.Counts.track_kernels": ("kernels", "Calls of kernels"),
}
"""Benchmark → name of its picture, and what it shows."""
PLACE = ("dense quadratic, n = 100, p = 60", "100")
"""The problem and the number of steps that the history is shown for."""


def over_commits(commits: Sequence[Commit]) -> Iterator[str]:
    """Each count relative to the oldest commit's, for the estimators in which it changed."""
    for benchmark, (name, words) in HISTORY.items():
        series = series_of(
            commits, benchmark, lambda key: key[0] == PLACE[0] and key[2] == PLACE[1]
        )
        relative = {
            key[1]: [(place, value / values[0][1]) for place, value in values]
            for key, values in series.items()
        }
        title = f"{words}: change since the first commit"
        with picture(
            f"history-{name}", title, "commit, in the order of the table", "ratio"
        ) as axes:
            _steps(axes, {key: line for key, line in relative.items() if moves(line)}, relative)
            axes.margins(y=0.15)
        yield f"history-{name}"


def moves(line: Sequence[tuple[float, float]]) -> bool:
    """Whether a series has two values."""
    return len({value for _, value in line}) > 1


def _steps(axes: Axes, changed: Series, everything: Series) -> None:
    order = list(everything)
    for name, line in changed.items():
        axes.plot(
            *zip(*line, strict=True),
            drawstyle="steps-post",
            markersize=3.5,
            label=name,
            **look(order.index(name)),
        )
    if len(changed) < len(everything):
        unchanged = len(everything) - len(changed)
        places = [place for line in everything.values() for place, _ in line]
        axes.plot(
            [min(places), max(places)],
            [1, 1],
            color=EQUAL,
            linestyle=":",
            label=f"{unchanged} others",
        )


def series_of(
    commits: Sequence[Commit], benchmark: str, wanted: Callable[[tuple[str, ...]], bool]
) -> dict[tuple[str, ...], list[tuple[float, float]]]:
    """(place of the commit, figure) by the values of the parameters."""
    found: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for place, commit in enumerate(commits, start=1):
        for key, value in commit.figures.get(benchmark, {}).items():
            if wanted(key):
                found.setdefault(key, []).append((place, value))
    return found


def times(commits: Sequence[Commit], numbers: Mapping[str, int], name: str) -> str:
    """Time in inner gradients over the commits that were timed; the picture's name."""
    timed = [commit for commit in commits if "times.Times.track_time" in commit.figures]
    title = "Time of a hypergradient (n = 100, p = 60, T = 100)"
    across, up = "commit, by its number in the table", "inner gradients' time"
    with picture(name, title, across, up) as axes:
        series = series_of(timed, "times.Times.track_time", lambda key: key[0] == PLACE[0])
        for index, (key, line) in enumerate(series.items()):
            places = [numbers[timed[int(place) - 1].hash] for place, _ in line]
            axes.plot(places, [value for _, value in line], label=key[1], **look(index))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    return name


def shown(pictures: Sequence[str], described: Mapping[str, str]) -> list[str]:
    """Pictures side by side where there is room."""
    lines = ["::::{container} pictures"]
    for name in pictures:
        lines += [f":::{{image}} _static/pictures/{name}.svg", f":alt: {described[name]}", ":::"]
    return [*lines, "::::", ""]


def table(commits: Sequence[Commit], found: Sequence[Change]) -> Iterator[str]:
    """The measured commits from which on a count is another, with the largest change of each figure."""
    yield "| no. | commit | what | changed |"
    yield "| ---: | --- | --- | --- |"
    for place, commit in enumerate(commits, start=1):
        its = [change for change in found if change.commit == commit.hash]
        if its:
            words = "; ".join(change.in_words for change in its)
            subject = commit.subject.replace("|", "\\|")
            yield f"| {place} | `{commit.hash[:8]}` | {subject} | {words} |"
    yield ""


def page(scaling: Scaling, counted: Sequence[Commit], timed: Mapping[str, Sequence[Commit]]) -> str:
    """Draw all pictures and write the page, in Markdown."""
    day = datetime.fromtimestamp(scaling.measured, UTC).date().isoformat()
    numbers = {commit.hash: place for place, commit in enumerate(counted, start=1)}
    grown = list(growth(scaling))
    against = roof(scaling)
    past = list(over_commits(counted))
    clocked = {
        machine: times(commits, numbers, f"history-time-{index}")
        for index, (machine, commits) in enumerate(timed.items(), start=1)
    }
    described = {
        **{name: name.replace("-", " of a hypergradient by ") for name in grown},
        against: "measured time against the least time of the counted work",
        **{name: f"{name.split('-')[1]} over the commits" for name in past},
        **{name: f"time over the commits on {machine}" for machine, name in clocked.items()},
    }
    lines = [
        "# Pictures of the cost",
        "",
        "Written by `make pictures` from the results that are committed; no figure is typed by hand. Counts "
        "do not depend on the machine; times were last measured {ago}`"
        + day
        + "` on one thread of "
        f"{scaling.processor}.",
        "",
        "## How it grows",
        "",
        "The dense quadratic. Points are measured times; lines are the least time of the counted work: the "
        "longest of its operations, bytes and kernel calls at the rates that this machine reached. Small "
        "problems are bound by calls, so their lines are flat.",
        "",
        *shown([name for name in grown if name.startswith("time")], described),
        "Peak memory, counted:",
        "",
        *shown([name for name in grown if name.startswith("memory")], described),
        "## How near to what the machine can do",
        "",
        "Every point of the pictures above. On the solid line a run takes no longer than its counted work; "
        "one whose data stay in a cache can be below.",
        "",
        *shown([against], described),
        "## Over the commits",
        "",
        f"{len(counted)} commits, counted by today's benchmarks ({PLACE[0]}, T = {PLACE[1]}; the ratio to "
        "the oldest commit). Estimators in which nothing changed share the dotted line.",
        "",
        *shown(past, described),
    ]
    for machine, name in clocked.items():
        lines += [
            f"Time on {machine}, over one inner gradient by plain torch in the same run:",
            "",
            *shown([name], described),
        ]
    lines += [
        "Where a count changed on any problem, with the largest change of each figure. A change lies in the "
        "commit that is named, or in one of those since the measured commit before it:",
        "",
        *table(counted, changes(counted, names(RESULTS))),
    ]
    return "\n".join(lines)


def main() -> int:
    """The command."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    machines = [path.parent.name for path in sorted(RESULTS.glob("*/machine.json"))]
    timed = {machine: read(RESULTS, machine) for machine in machines if machine != ANY}
    text = page(Scaling.load(), read(RESULTS, ANY), timed)
    write_atomically(PAGE, text.rstrip("\n") + "\n")
    print(f"{PAGE.relative_to(ROOT)}: {len(list(FOLDER.glob('*.svg')))} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
