"""Writes docs/rules.md: how to give a rule, and what the comparison of every rule with its twins found.

python -m tests.rules.page            # in an environment that has optax: make rules
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refblo.chain import Schedule
from refblo.conformance import hypergradient_report
from refblo.estimators import FMD, RMD
from refblo.oracles.ball import Ball
from refblo.testing.rule_runs import ALLOWED, RandomRuns
from refblo.testing.rules import RULE_VARIANTS, RuleVariant
from refblo.testing.rules import STEPS as RUN_STEPS
from refblo.types import Estimand
from tests.rules.rule_case import LAM, STEPS, THETA0, inner, outer, rule_case

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "rules.md"
RESULTS = Path(__file__).with_name("results.json")
RUNS = 1000
EPSILON = 0.02
"""ε in the runs through the oracles: at v = 0 the derivative of Adam's step is γ/ε."""

Record = dict[str, Any]

TEMPLATE = Path(__file__).with_name("template.md")


def records() -> Iterator[Record]:
    """What is found for each rule."""
    for variant in RULE_VARIANTS:
        yield {"rule": variant.name, **_twins(variant), **_oracles(variant)}


def _twins(variant: RuleVariant) -> Record:
    runs = RandomRuns.of(variant, RUNS)
    found: Record = {"torch": variant.in_torch, "optax": variant.in_optax}
    if all(isinstance(reason, str) for reason in found.values()):
        return found
    mine = runs.by_rule(variant)
    if not isinstance(variant.in_torch, str):
        found["torch"] = runs.units(mine, runs.by_torch(variant))
    if not isinstance(variant.in_optax, str):
        found["optax"] = runs.units(mine, runs.by_optax(variant))
    return found


def _oracles(variant: RuleVariant) -> Record:
    rule, case = variant.middle(EPSILON), rule_case()
    truth = Ball(rule=rule).truth(case, Estimand.UNROLLED).value
    report = hypergradient_report(inner, outer, LAM, THETA0, truth, rule=rule, steps=STEPS)

    def distance(method: RMD | FMD) -> float:
        value = method.estimate(case.problem, LAM).value
        return float((value - truth).norm() / truth.norm())

    return {
        "tangent": distance(FMD(rule, Schedule.last(STEPS))),
        "reverse": distance(RMD(rule, Schedule.last(STEPS))),
        "differences": report.confirmed,
        "verdict": report.verdict.value,
        "floor": report.floor,
    }


def render(found: list[Record]) -> str:
    """The page."""
    head = TEMPLATE.read_text(encoding="utf-8")
    for mark, number in (("@RUNS@", RUNS), ("@STEPS@", RUN_STEPS), ("@ALLOWED@", ALLOWED)):
        head = head.replace(mark, f"{number:,}")
    lines = [
        head,
        "| rule | torch.optim | optax | tangent | reverse | differences | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {' | '.join(_cells(record))} |" for record in found]
    return "\n".join(lines) + "\n"


def _cells(record: Record) -> Iterator[str]:
    yield record["rule"]
    for library in ("torch", "optax"):
        figure = record[library]
        yield figure if isinstance(figure, str) else f"{figure:.2g}"
    for oracle in ("tangent", "reverse", "differences"):
        yield f"{record[oracle]:.1e}"
    yield f"{record['verdict']}, sees {record['floor']:.0e}"


if __name__ == "__main__":
    results = list(records())
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(render(results), encoding="utf-8")
