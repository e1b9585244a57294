"""How well the checker detects: planted bugs, mutants and right code, counted and written down.

    python -m tests.conformance.detection [--jobs N]

Writes tests/conformance/detection.json and, from it, docs/how-well-it-detects.md.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from refblo.conformance.catalogue import entries
from refblo.parallel import stream
from tests.conformance import test_mutated_estimators, test_sensitivity, test_specificity

RESULTS = Path(__file__).parent / "detection.json"
PAGE = Path(__file__).parents[2] / "docs" / "how-well-it-detects.md"
Record = dict[str, Any]


def planted_in(name: str) -> list[Record]:
    """The bugs planted in one entry of the catalogue."""
    (entry,) = [entry for entry in entries() if entry.name == name]
    return [
        {
            "kind": judged.planted.kind,
            "error": judged.error,
            "floor": judged.margin.floor,
            "rejected": not judged.margin.right,
            "named": judged.named,
            "wrongly": judged.wrongly_named,
            "first": judged.diagnosis is not None and judged.diagnosis.name in judged.planted.names,
        }
        for variant in test_sensitivity.variants(entry, test_sensitivity.SIZES)
        for estimand in variant.estimands
        if estimand not in variant.undefined
        for judged in test_sensitivity.judge_all(variant, estimand)
    ]


def right_code(chunk: int) -> tuple[int, list[str]]:
    """How many runs of right code, and those accused."""
    size = test_specificity.RUNS_OF_A_CHUNK
    return size, test_specificity.accused(range(chunk * size, (chunk + 1) * size))


def mutants_of(index: int) -> tuple[int, list[str], list[str]]:
    """Wrong estimates of mutants on one subject, those missed, and which mutants were wrong."""
    pair = list(test_mutated_estimators.subjects())[index]
    judged = test_mutated_estimators.judge([pair])
    return judged.wrong, judged.missed, judged.names


Job = tuple[int, Callable[[Any], Any], Any]
"""Its place among all jobs, a function of this module, and that function's argument."""


def work(job: Job) -> Iterator[tuple[int, Any]]:
    """One job, by its place."""
    place, function, argument = job
    yield place, function(argument)


def measure(jobs: int) -> Record:
    """Everything."""
    started = time.perf_counter()
    calls: list[tuple[Callable[[Any], Any], Any]] = [
        *((planted_in, entry.name) for entry in entries()),
        *((mutants_of, index) for index in range(len(list(test_mutated_estimators.subjects())))),
        *((right_code, chunk) for chunk in range(test_specificity.CHUNKS)),
    ]
    answers = dict(stream(work, [(place, *call) for place, call in enumerate(calls)], jobs))

    def of(function: Callable[[Any], Any]) -> list[Any]:
        return [answers[place] for place, call in enumerate(calls) if call[0] is function]

    bugs: list[Record] = [record for records in of(planted_in) for record in records]
    changed, counted = of(mutants_of), of(right_code)
    rejected = [bug for bug in bugs if bug["rejected"]]
    kinds = Counter(bug["kind"] for bug in rejected)
    named = Counter(bug["kind"] for bug in rejected if bug["named"])
    above = [bug for bug in bugs if bug["error"] > 2 * bug["floor"]]
    return {
        "planted": len(bugs),
        "above": len(above),
        "above_rejected": sum(bug["rejected"] for bug in above),
        "rejected": len(rejected),
        "named": sum(bug["named"] for bug in rejected),
        "wrongly_named": sum(bug["wrongly"] for bug in rejected),
        "named_first": sum(bug["first"] for bug in rejected),
        "kinds": {kind: [named[kind], kinds[kind]] for kind in sorted(kinds)},
        "decades": _decades(above),
        "mutated_estimates": sum(wrong for wrong, _, _ in changed),
        "mutants": len({name for _, _, found in changed for name in found}),
        "mutants_missed": [name for _, missed, _ in changed for name in missed],
        "right_runs": sum(size for size, _ in counted),
        "accused": [text for _, found in counted for text in found],
        "seconds": round(time.perf_counter() - started),
    }


def _decades(bugs: list[Record]) -> dict[str, list[int]]:
    """Rejected and planted, by the size of the error."""
    found: dict[str, list[int]] = {}
    bounds = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, float("inf"))
    for low, high in pairwise(bounds):
        inside = [bug for bug in bugs if low <= bug["error"] < high]
        label = f"{low:.0e} to {high:.0e}" if high < float("inf") else f"above {low:.0e}"
        label = f"below {high:.0e}" if low == 0 else label
        found[label] = [sum(bug["rejected"] for bug in inside), len(inside)]
    return found


def render(found: Record) -> str:
    """The page."""
    share = found["named"] / found["rejected"]
    lines = [
        "# How well it detects",
        "",
        "<!-- Written by `python -m tests.conformance.detection`. Do not edit. -->",
        "",
        "A checker is worth what it finds and what it leaves alone. Both are counted here, by the command",
        "`python -m tests.conformance.detection`; the thorough tests assert the same.",
        "",
        f"- **Planted bugs.** {found['planted']} wrong hypergradients, written out with dense matrices "
        "apart from the diagnosis, on every problem of the catalogue, some with their terms scaled down "
        f"so that the error is small. {found['above']} of them move the hypergradient by more than "
        f"twice the stated detection floor; {found['above_rejected']} of these are rejected. Of all "
        f"{found['rejected']} that are rejected, {found['named']} ({share:.1%}) are diagnosed by their "
        f"name, {found['named_first']} of them with that name first among equals; "
        f"{found['wrongly_named']} are given another name.",
        f"- **Mutants.** One line of an estimator of refblo is changed, as a person would get it wrong. "
        f"{found['mutants']} such mutants return {found['mutated_estimates']} wrong estimates on the "
        f"problems tried; {found['mutated_estimates'] - len(found['mutants_missed'])} of them are rejected.",
        f"- **Right code.** {found['right_runs']} runs of right estimators over seeds, dtypes and "
        f"problems; {len(found['accused'])} of them are accused.",
        "",
        "## By the size of the error",
        "",
        "| relative error | rejected | planted |",
        "| --- | --- | --- |",
        *(f"| {label} | {r} | {p} |" for label, (r, p) in found["decades"].items()),
        "",
        "## By kind",
        "",
        "| mistake | named | rejected |",
        "| --- | --- | --- |",
        *(f"| {kind} | {named} | {count} |" for kind, (named, count) in found["kinds"].items()),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Measure, write, and say whether it is good enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2)
    found = measure(parser.parse_args(arguments).jobs)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(render(found), encoding="utf-8")
    print(json.dumps({key: found[key] for key in found if key not in ("kinds", "decades")}))
    named = found["named"] >= test_sensitivity.NAMED * found["rejected"]
    wrongly = found["wrongly_named"] > test_sensitivity.WRONGLY_NAMED * found["rejected"]
    clean = not found["accused"] and not found["mutants_missed"] and not wrongly
    return int(not (named and clean and found["above"] == found["above_rejected"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
