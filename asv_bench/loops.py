"""Outer loops as a user gets them, against the public libraries: `make speed-loops`.

K hypergradients in an outer loop of gradient descent on λ, whatever an estimator prepares included: refblo's
`OuterLoop` by its defaults, and the same updates around each library's call. One interleaved run for each
method, size and K, on processor time of one thread; everybody has to end at the same λ. The result is written
to asv_bench/results/loops.json, and the page docs/speed-in-a-loop.md from it.
"""

import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from asv_bench.benchmarks.problems import separable
from asv_bench.benchmarks.timing import interleaved, ratio
from asv_bench.comparison import ResultFile, begin
from asv_bench.speed import SAME, STEPS, contenders, estimators
from refblo.outer import OuterLoop

HERE = Path(__file__).resolve().parent
OUTPUT, PAGE = HERE / "results" / "loops.json", HERE.parent / "docs" / "speed-in-a-loop.md"
OUTER_RATE = 1e-3
NEAR = 1.25
"""Libraries whose single call takes up to so many times the fastest one's are timed in loops."""

CASES = tuple(
    (n, count, rounds) for n in (100, 10_000) for count, rounds in ((1, 9), (50, 5), (500, 3))
)
CASES += ((1_000_000, 1, 5), (1_000_000, 50, 2))
"""n = p, K, rounds."""
LIMITS = {
    (100, 500): {"RMD": 1.7, "IFT-CG": 2.0, "IFT-Neumann": 2.0},
    (10_000, 500): {"RMD": 1.7, "IFT-CG": 2.0, "IFT-Neumann": 2.0},
    (1_000_000, 50): {"RMD": 1.3, "IFT-CG": 1.3, "IFT-Neumann": 1.3},
}
LEAST = 1.0
"""How many times as fast as the fastest library refblo is to be in other loops."""
LEAST_ONCE = 1 / 1.1
"""The same of a single first call."""


def ours(method: str, n: int, count: int) -> Tensor:
    """λ after K steps of an outer loop by default settings; problem and loop are new at each call."""
    setting = separable(n)
    descent = partial(torch.optim.SGD, lr=OUTER_RATE)
    loop = OuterLoop(setting.problem, estimators()[method], descent, steps=count, warm=False)
    return loop.run(setting.lam).lam


def once(method: str, n: int) -> Tensor:
    """The first hypergradient of a new problem."""
    setting = separable(n)
    return estimators()[method].estimate(setting.problem, setting.lam).value


def theirs(method: str, n: int, count: int, name: str) -> Tensor:
    """The same by a library: λ after K steps, or with K = 1 the hypergradient."""
    setting = separable(n)
    run = contenders(method, setting)[name]
    if count == 1:
        return run()
    for _ in range(count):
        setting.lam.sub_(run(), alpha=OUTER_RATE)
    return setting.lam


def compare(method: str, n: int, count: int, rounds: int, names: list[str]) -> dict[str, Any]:
    """One method, size and K.

    Returns:
        Median seconds by contender, how many times as fast as the fastest library refblo is (median and
        quartiles), the limit, and who ended elsewhere.
    """
    mine = partial(once, method, n) if count == 1 else partial(ours, method, n, count)
    runs: dict[str, Callable[[], Tensor]] = {"refblo": mine}
    runs |= {name: partial(theirs, method, n, count, name) for name in names}
    ends: dict[str, Tensor] = {}

    def ended(name: str) -> None:
        ends[name] = runs[name]()

    timed = {name: partial(ended, name) for name in runs}
    seconds = interleaved(timed, rounds)
    gaps = {
        name: float((end - ends["refblo"]).norm() / ends["refblo"].norm())
        for name, end in ends.items()
    }
    wrong = {name: gap for name, gap in gaps.items() if not gap <= SAME}
    medians = {k: statistics.median(v) for k, v in seconds.items() if k not in wrong}
    libraries = [name for name in medians if name != "refblo"]
    fastest = min(libraries, key=medians.__getitem__) if libraries else None
    least = LEAST_ONCE if count == 1 else LIMITS.get((n, count), {}).get(method, LEAST)
    return {
        "method": method,
        "n": n,
        "count": count,
        "rounds": rounds,
        "seconds": medians,
        "wrong": wrong,
        "fastest": fastest,
        "times_faster": asdict(ratio(seconds[fastest], seconds["refblo"])) if fastest else None,
        "limit": least,
    }


def holds(result: dict[str, Any]) -> bool:
    """Whether refblo is as fast as it is to be."""
    share = result["times_faster"]
    return share is None or bool(share["median"] >= result["limit"])


def near(result: dict[str, Any]) -> list[str]:
    """The libraries that come close to the fastest in single calls."""
    libraries = {k: v for k, v in result["seconds"].items() if k != "refblo"}
    return [name for name, value in libraries.items() if value <= NEAR * min(libraries.values())]


def line(result: dict[str, Any]) -> str:
    """A result in one line."""
    where = f"{result['method']}, n = {result['n']:,}, K = {result['count']}"
    if result["times_faster"] is None:
        return f"{where}: no library gives the same answer"
    verdict = "holds" if holds(result) else "MISSED"
    share = result["times_faster"]["median"]
    return f"{where}: {share:.2f} × {result['fastest']}, wanted {result['limit']:.2g}: {verdict}"


def page(document: dict[str, Any]) -> str:
    """The results, in Markdown."""
    lines = [
        "# Speed in an outer loop",
        "",
        "Written by `make speed-loops`; no figure is typed by hand. K hypergradients in an outer loop by "
        "default settings, whatever is prepared for them included, against the same updates around each "
        f"library's call; K = 1 is a single first call of a new problem. T = {document['steps']}, float64, "
        f"one thread of {document['machine']}, torch {document['torch']}, processor time of the whole loop "
        "(median of the rounds, all in turns in one process); the problem is that of [speed](speed.md). "
        "All end at the same λ.",
        "",
        f"Timed in loops are the libraries whose single call takes at most {NEAR:g} times the fastest one's.",
        "",
        "| method | n = p | K | refblo, s | fastest library | its time, s | times as fast | wanted |",
        "| --- | ---: | ---: | ---: | --- | ---: | --- | --- |",
    ]
    for one in document["results"]:
        share, seconds = one["times_faster"], one["seconds"]
        if share is None:
            continue
        verdict = f"≥ {one['limit']:.2g}: {'holds' if holds(one) else 'missed'}"
        quartiles = f"({share['lower_quartile']:.2f} … {share['upper_quartile']:.2f})"
        lines.append(
            f"| {one['method']} | {one['n']:,} | {one['count']} | {seconds['refblo']:.3g} | {one['fastest']} "
            f"| {seconds[one['fastest']]:.3g} | {share['median']:.2f} {quartiles} | {verdict} |"
        )
    wrong = [
        f"- {name} is not counted on {one['method']} at n = {one['n']:,}, K = {one['count']}: it ends at a "
        f"distance of {gap:.1e} from refblo, relatively."
        for one in document["results"]
        for name, gap in one["wrong"].items()
    ]
    missing = (
        [f"- Not measured yet: {', '.join(left_out(document))}."] if left_out(document) else []
    )
    return "\n".join([*lines, "", *wrong, *missing, ""] if wrong or missing else [*lines, ""])


def left_out(document: dict[str, Any]) -> list[str]:
    """The cases that a run which was cut short has not measured."""
    measured = {(one["method"], one["n"], one["count"]) for one in document["results"]}
    return [
        f"{method} at n = {n:,} with K = {count}"
        for n, count, _ in CASES
        for method in estimators()
        if (method, n, count) not in measured
    ]


def known_results(path: Path) -> list[dict[str, Any]]:
    """The results in a file; none if there is no file."""
    if not path.exists():
        return []
    known: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["results"]
    return known


def merged(known: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The new results, and the known ones of other cases, in the order of the cases."""
    places = [(n, count) for n, count, _ in CASES]
    methods = list(estimators())

    def place(one: dict[str, Any]) -> tuple[int, int]:
        return places.index((one["n"], one["count"])), methods.index(one["method"])

    return [each for _, each in sorted(({place(one): one for one in (*known, *new)}).items())]


@click.command()
@click.option("--largest", type=click.IntRange(min=100), default=10**6, show_default=True)
@click.option(
    "--most", type=click.IntRange(min=1), default=500, show_default=True, help="Largest K."
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=OUTPUT)
def loops(largest: int, most: int, output: Path) -> None:
    """Compare the loops, print and write them; 1 if a limit is missed, 2 if no library is here.

    Cases that are not run keep their results in the file: each is an interleaved run of its own.
    """
    console = begin()
    file = ResultFile(output, OUTPUT, PAGE, page, STEPS)
    cases = [case for case in CASES if case[0] <= largest and case[1] <= most]
    results: list[dict[str, Any]] = []
    known = known_results(output)
    names: dict[tuple[str, int], list[str]] = {}
    for n, count, rounds in cases:
        for method in estimators():
            key = (method, n)
            rivals = names.get(key) or list(contenders(method, separable(n)))
            if not rivals:
                console.print("no library is installed: there is nothing to compare with")
                sys.exit(2)
            result = compare(method, n, count, rounds, rivals)
            if count == 1:
                names[key] = near(result)
            results.append(result)
            console.print(line(result))
            file.write(merged(known, results))
    sys.exit(0 if all(map(holds, results)) else 1)


if __name__ == "__main__":
    loops()
