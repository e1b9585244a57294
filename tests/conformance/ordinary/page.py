"""The page of the ordinary-code matrix, from the cells that its shards wrote.

    python -m tests.conformance.ordinary.page CELLS.json...

Writes matrix.json, which counts what the cells say, and docs/ordinary-code.md. Of a cell that stands in
several files, the last one counts.
"""

import json
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.conformance.ordinary.layers import LAYERS
from tests.conformance.ordinary.losses import LOSSES
from tests.conformance.ordinary.matrix import ONCE_DIFFERENTIABLE, RESULTS, SINGULAR, cells
from tests.conformance.ordinary.mistakes import IMPLICIT, UNROLLED

PAGE = Path(__file__).parents[3] / "docs" / "ordinary-code.md"
Record = dict[str, Any]
Counts = dict[str, list[int]]
"""By name: as expected, and all."""


def summarised(outcomes: list[Record]) -> Record:
    """The counts of a list of outcomes, and every outcome that is not as expected."""
    bad = [outcome for outcome in outcomes if not _good(outcome)]
    wrong = [o for o in outcomes if o["expected"] == o["outcome"] == "wrong"]
    return {
        "cells": len(outcomes),
        "defined": len(cells()),
        "good": len(outcomes) - len(bad),
        "bad": [{key: outcome[key] for key in _SHOWN} for outcome in bad],
        "table": _counted(outcomes, lambda o: f"{o['loss']} | {o['layer']}"),
        "kinds": _counted(outcomes, lambda o: f"{o['estimand']} | {o['dtype']} | {o['expected']}"),
        "truths": dict(Counter(o["truth"] for o in outcomes if o["truth"]).most_common()),
        "named": _named(wrong),
        "wrongly_named": [
            {key: o[key] for key in (*_SHOWN[:4], "mistake", "named")}
            for o in wrong
            if o["named"] and not _is_named(o)
        ],
        "seconds": _seconds(outcomes),
        "unevaluated": dict(Counter(name for o in wrong for name in o["failed"]).most_common()),
    }


REASONS = {
    "binary_cross_entropy": "torch's second derivative of it adds a small constant to its arguments, so that "
    "where scores saturate it is not the derivative of the loss, and differences see that; "
    "`binary_cross_entropy_with_logits` has no such error",
}
"""Why there is no verdict on a loss, where that is known."""

_SHOWN = ("loss", "layer", "estimand", "dtype", "expected", "outcome", "run", "mistake", "named")


def _good(outcome: Record) -> bool:
    return bool(outcome["outcome"] == outcome["expected"])


def _counted(outcomes: Iterable[Record], key: Callable[[Record], str]) -> Counts:
    found: Counts = {}
    for outcome in outcomes:
        count = found.setdefault(key(outcome), [0, 0])
        count[0] += _good(outcome)
        count[1] += 1
    return found


def _is_named(outcome: Record) -> bool:
    """Whether the planted mistake is among the names, with a place or without."""
    planted = outcome["mistake"]
    names = (outcome["named"], *outcome["also"])
    return any(name == planted or name.startswith(f"{planted} in ") for name in names) or any(
        name.startswith(f"{planted} of ") for name in names
    )


def _named(wrong: list[Record]) -> Counts:
    found: Counts = {}
    for outcome in wrong:
        count = found.setdefault(outcome["mistake"], [0, 0])
        count[0] += _is_named(outcome)
        count[1] += 1
    return dict(sorted(found.items()))


def _seconds(outcomes: list[Record]) -> dict[str, list[float]]:
    """By estimand and dtype: the median of right and of wrong code, and of the pairs' ratios."""
    pairs: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for o in outcomes:
        place = f"{o['loss']} | {o['layer']}"
        pairs[f"{o['estimand']} | {o['dtype']}"][place][o["expected"]] = o["seconds"]
    found = {}
    for kind, places in pairs.items():
        both = [p for p in places.values() if "right" in p and "wrong" in p]
        found[kind] = [
            round(statistics.median(p["right"] for p in both), 3),
            round(statistics.median(p["wrong"] for p in both), 3),
            round(statistics.median(p["wrong"] / max(p["right"], 1e-3) for p in both), 2),
            round(sum(p["wrong"] <= max(5 * p["right"], 2.0) for p in both) / len(both), 3),
        ]
    return found


def render(found: Record) -> str:
    """The page."""
    crashes = [o for o in found["bad"] if o["outcome"].startswith("crash")]
    refused = [o for o in found["bad"] if o["outcome"].startswith("refused")]
    false = [o for o in found["bad"] if o not in crashes and o not in refused]
    named = [sum(count[k] for count in found["named"].values()) for k in range(2)]
    lines = [
        "# Ordinary code",
        "",
        "<!-- Written by `python -m tests.conformance.ordinary.page`. Do not edit. -->",
        "",
        "What [`hypergradcheck`](hypergradcheck.md) says of code as people write it: every loss of",
        "`torch.nn.functional` that is a function of scores, on a small network with each kind of layer,",
        "the hypergradient of the run and of the minimiser, in float64 and float32, right and wrong.",
        "λ is the log of the loss's weight, the log of the weight decay and a shift of each column",
        "of scores.",
        "",
        "- **Unrolled.** θ is all parameters. Right code differentiates the run by autograd; the runs rotate",
        "  through gradient descent, a start that depends on λ, momentum with weight decay, Adam, noise,",
        "  batches and a mean over samples. The seed of a cell is its place in the matrix.",
        "- **Implicit.** θ is the last layer, with weight decay: the first of e⁻³, e⁻², … e⁵ that makes the",
        "  minimiser regular, found in float64. Right code solves there. With a second bias, of which only",
        f"  the sum with the first is used, the right outcome is “{SINGULAR.partition(': ')[2]}”. Seed 0.",
        f"- **Wrong.** The next of {len(UNROLLED)} mistakes in a run, or of {len(IMPLICIT)} in a solve, from",
        "  families of the diagnosis that apply, that moves the hypergradient by 1 % or more.",
        "- Losses that torch cannot differentiate twice "
        f"({', '.join(f'`{name}`' for name in sorted(ONCE_DIFFERENTIABLE))})",
        "  have no reverse mode: right code takes differences in float64, and declares a tolerance of 10⁻⁶.",
        "",
        f"**{found['good']} of {found['cells']} cells are as expected**: {len(false)} false verdicts, "
        f"{len(crashes)} crashes, {len(refused)} other refusals "
        f"({len(refused) / found['cells']:.1%}).{_coverage(found)}",
        f"Of {named[1]} wrong hypergradients, {named[0]} ({named[0] / max(named[1], 1):.1%}) are called by "
        f"the name of the planted mistake, and {len(found['wrongly_named'])} by another name.",
        "",
        "| estimand | dtype | right outcome | as expected | cells |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {kind} | {good} | {count} |"
            for kind, (good, count) in sorted(found["kinds"].items())
        ),
        "",
        "## By loss and layer",
        "",
        "Cells as expected, of how many.",
        "",
        "| loss | " + " | ".join(layer.name for layer in LAYERS) + " |",
        "| --- |" + " --- |" * len(LAYERS),
        *(_row(found["table"], loss.name) for loss in LOSSES),
        "",
        "## What is not as expected",
        "",
        *([_told(outcome) for outcome in found["bad"]] or ["Nothing."]),
        "",
        "## Wrong names",
        "",
        *(
            [
                f"- {o['loss']} on {o['layer']}, {o['estimand']}, {o['dtype']}: {o['mistake']} is called "
                f"“{o['named']}”"
                for o in found["wrongly_named"]
            ]
            or ["None."]
        ),
        "",
        "## Time",
        "",
        "Seconds of processor time of a check, medians; the ratio is that of wrong to right code on the",
        "same loss and layer, and the last column the share of them within the larger of five times right",
        "code and two seconds.",
        "",
        "| estimand | dtype | right | wrong, with its diagnosis | ratio | within |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {kind} | {right:.2f} | {wrong:.2f} | {ratio:.1f} | {share:.1%} |"
            for kind, (right, wrong, ratio, share) in sorted(found["seconds"].items())
        ),
        "",
        "## How the truth was found",
        "",
        "| way | cells |",
        "| --- | --- |",
        *(f"| {truth} | {count} |" for truth, count in found["truths"].items()),
        "",
        "## Names",
        "",
        "| planted mistake | named | wrong verdicts |",
        "| --- | --- | --- |",
        *(f"| {name} | {good} | {count} |" for name, (good, count) in found["named"].items()),
    ]
    return "\n".join(lines) + "\n"


def _coverage(found: Record) -> str:
    missing = found["defined"] - found["cells"]
    return (
        f"All of the matrix was run ({missing} cells have no regular minimiser)." if missing else ""
    )


def _row(table: Counts, loss: str) -> str:
    counts = [table.get(f"{loss} | {layer.name}") for layer in LAYERS]
    shown = ["" if count is None else f"{count[0]}/{count[1]}" for count in counts]
    return f"| {loss} | " + " | ".join(shown) + " |"


def _told(outcome: Record) -> str:
    planted = f", {outcome['mistake']}" if outcome["mistake"] else ""
    return (
        f"- {outcome['loss']} on {outcome['layer']}, {outcome['estimand']}, {outcome['dtype']}, "
        f"{outcome['run']}{planted}: expected “{outcome['expected']}”, got “{outcome['outcome']}”"
        f"{_reason(outcome)}"
    )


def _reason(outcome: Record) -> str:
    known = REASONS.get(outcome["loss"], "") if outcome["outcome"].startswith("refused") else ""
    return f" ({known})" if known else ""


def main(paths: list[str]) -> int:
    """Summarise the cells in the files, and write the counts and the page."""
    places = {
        tuple(o[key] for key in _SHOWN[:5]): o
        for path in paths
        for o in json.loads(Path(path).read_text(encoding="utf-8"))
    }
    found = summarised(list(places.values()))
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(render(found), encoding="utf-8")
    print(f"{found['good']} of {found['cells']} cells as expected")
    return int(found["good"] < found["cells"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
