"""The page of ordinary JAX code, from the outcomes of the matrix."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[3] / "docs" / "ordinary-jax.md"
Record = dict[str, Any]
Counts = dict[str, list[int]]
"""By name: as expected, and all."""

_SHOWN = (
    *("loss", "network", "precision", "setup", "expected", "outcome"),
    *("mistake", "named", "twin", "twin_named"),
)


def summarised(outcomes: list[Record]) -> Record:
    """The counts of a list of outcomes, and every outcome that is not as expected."""
    wrong = [o for o in outcomes if o["expected"] == o["outcome"] == "wrong"]
    twins = [o for o in wrong if o["twin"]]
    return {
        "cells": len(outcomes),
        "good": sum(o["good"] for o in outcomes),
        "crashes": sum(o["outcome"].startswith("crash") for o in outcomes),
        "refusals": sum(o["outcome"].startswith("refused") for o in outcomes),
        "false": sum(
            o["outcome"] in ("right", "wrong") and o["outcome"] != o["expected"] for o in outcomes
        ),
        "kinds": _counted(outcomes, lambda o: f"{o['precision']} | {o['expected']}"),
        "losses": _counted(outcomes, lambda o: o["loss"]),
        "networks": _counted(outcomes, lambda o: o["network"]),
        "setups": _counted(outcomes, lambda o: o["setup"]),
        "mistakes": _counted(wrong, lambda o: o["mistake"], _is_named),
        "twins": len(twins),
        "named_in_torch": sum(bool(o["twin_named"]) for o in twins),
        "named_alike": sum(bool(o["twin_named"]) and _alike(o) for o in twins),
        "bad": [{key: o[key] for key in _SHOWN} for o in outcomes if not o["good"]],
    }


def _counted(
    outcomes: Iterable[Record],
    key: Callable[[Record], str],
    good: Callable[[Record], bool] = lambda o: bool(o["good"]),
) -> Counts:
    counts: Counts = {}
    for outcome in outcomes:
        count = counts.setdefault(key(outcome), [0, 0])
        count[0] += good(outcome)
        count[1] += 1
    return counts


def _alike(outcome: Record) -> bool:
    return outcome["twin_named"] in (outcome["named"], *outcome["also"])


def _is_named(outcome: Record) -> bool:
    """Whether the planted mistake is among the names, with a place or without."""
    planted, names = outcome["mistake"], (outcome["named"], *outcome["also"])
    return any(
        name == planted or name.startswith((f"{planted} in ", f"{planted} of ")) for name in names
    )


def render(found: Record) -> str:
    """The page."""
    named = [sum(count[k] for count in found["mistakes"].values()) for k in range(2)]
    lines = [
        "# Ordinary code in JAX",
        "",
        "<!-- Written by `make ordinary-jax`. Do not edit. -->",
        "",
        "What [`hypergradcheck`](hypergradcheck.md) says of code in [JAX](howto/jax.md): all",
        f"{len(found['losses'])} losses of `optax.losses`, each on one or more of {len(found['networks'])}",
        f"small networks in {_written_in(found)}, "
        "right and wrong code, in float64 (x64 on) or float32 (x64 off). θ is",
        "all parameters; λ is the log of a weight decay for each tensor of θ, and a shift of each column of",
        "scores. The outer loss depends on λ directly too.",
        "",
        "- **Right code** is `jax.jit(jax.grad(…))` of the whole training with an optimiser of optax. The",
        f"  trainings rotate through: {', '.join(found['setups'])}.",
        f"- **Wrong code** has the next of {len(found['mistakes'])} kinds of mistake that moves the "
        "hypergradient by 1 %.",
        "- **The twin** of wrong code is the same problem, written in torch. The same wrong answer is judged",
        "  there; if its mistake is named there, it must have the same name in JAX.",
        "",
        f"**{found['good']} of {found['cells']} are as expected**: {found['false']} false verdicts, "
        f"{found['crashes']} crashes, {found['refusals']} without a verdict.",
        f"Of {named[1]} wrong hypergradients, {named[0]} ({named[0] / max(named[1], 1):.1%}) "
        "are called by the name of the planted mistake.",
        f"{found['twins']} of them have a twin in torch; {found['named_in_torch']} are named there, and "
        f"{found['named_alike']} of these have the same name in JAX.",
        "",
        *_table("precision | right outcome", found["kinds"]),
        *_table("network", found["networks"]),
        *_table("training", found["setups"]),
        *_table("loss", found["losses"]),
        "## Names",
        "",
        *_table("planted mistake", found["mistakes"], "named", "wrong verdicts"),
        "## What is not as expected",
        "",
        *([_told(outcome) for outcome in found["bad"]] or ["Nothing."]),
    ]
    return "\n".join(lines) + "\n"


def _written_in(found: Record) -> str:
    in_flax = any(name.startswith("flax") for name in found["networks"])
    return "plain JAX or flax" if in_flax else "plain JAX"


def _table(
    head: str, counts: Counts, good: str = "as expected", total: str = "checks"
) -> list[str]:
    columns = head.count("|") + 3
    return [
        f"| {head} | {good} | {total} |",
        "|" + " --- |" * columns,
        *(f"| {name} | {count[0]} | {count[1]} |" for name, count in counts.items()),
        "",
    ]


def _told(outcome: Record) -> str:
    planted = f", {outcome['mistake']}" if outcome["mistake"] else ""
    twin = (
        f"; its twin in torch: {outcome['twin']}, “{outcome['twin_named']}”"
        if outcome["twin"]
        else ""
    )
    return (
        f"- {outcome['loss']} on {outcome['network']}, {outcome['precision']}, {outcome['setup']}"
        f"{planted}: expected “{outcome['expected']}”, got “{outcome['outcome']}”, “{outcome['named']}”{twin}"
    )
