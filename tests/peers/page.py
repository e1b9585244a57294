"""docs/peers.md from the results of a run."""

from collections.abc import Iterable, Iterator
from typing import Any

Record = dict[str, Any]

HEAD = """# Other libraries

<!-- Written by `make peers`. Do not edit: change tests/peers and run it again. -->

`make peers` installs public libraries for bilevel optimisation, in pinned versions and in a separate
environment. It runs the [conformance suite](check.md) on each of their methods, through a small adapter.
Each method is judged for the estimand that it is meant for, on small problems with known answers. The
suite knows nothing about the libraries, except what each adapter declares.

If a method disagrees, its cause is listed below. The causes were found by reading the source of the
library, and each run checks them: the named function must exist in the installed version, the method must
disagree on the named problems, and the diagnosis must be one of the named mistakes. A method without a
cause must be right on every problem.

hypertorch and hypergrad (by moskomule; it has the same import name as the package of hypertorch) are only
in their repositories. They are run if the environment variables HYPERTORCH and HYPERGRAD contain the path
of a checkout. The package `hypertorch` of the registry is another one. learn2learn is not run, because its
published version does not compile on Python 3.11.
"""


def render(records: list[Record]) -> str:
    """The page."""
    return "\n".join(_lines(records)).rstrip() + "\n"


def _lines(records: list[Record]) -> Iterator[str]:
    yield HEAD
    yield from _summary(records)
    yield "\n## Every method\n"
    yield (
        "*Digits*: correct decimal digits on the worst problem (for methods that draw random numbers, of the "
        "mean over seeds). *Verdict*: on how many problems it is wrong, or differs by design. *Time*: of the "
        "median call, on a machine that also ran other programs; a JAX call includes compilation.\n"
    )
    yield "| library | version | method | estimand | digits | verdict | diagnosis | time |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for record in records:
        yield _row(record)
    yield "\n## Causes\n"
    number = 0
    for record in records:
        if record["cause"] is None:
            continue
        number += 1
        cause = record["cause"]
        places = ", ".join(f"`{place}`" for place in cause["where"])
        yield f"{number}. **{record['library']}, {record['method']}**: {cause['whose']}."
        yield f"   {_escape(cause['text'])}. In {places}."
        if record["disagrees"]:
            yield f"   Disagrees on {', '.join(f'`{name}`' for name in record['disagrees'])}."
        for finding in record["findings"][:1]:
            yield f"   The suite: *{_escape(finding)}*."
        yield ""
    conventions = [record for record in records if record["conventions"]]
    if conventions:
        yield "## How many terms K iterations are\n"
        for record in conventions:
            # If both meanings give the same vector, the first one is noted.
            meaning = record["conventions"][0]
            yield f"- {record['library']}, {record['method']}: {meaning}."


def _summary(records: list[Record]) -> Iterator[str]:
    mistakes = [r for r in records if r["cause"] and r["cause"]["whose"].startswith("a mistake")]
    places = {place for record in mistakes for place in record["cause"]["where"][:1]}
    right = [r for r in records if r["cause"] is None and not r["disagrees"]]
    design = [r for r in records if r["cause"] and "by design" in r["cause"]["whose"]]
    rest = len(records) - len(mistakes) - len(right) - len(design)
    rows = sum(r["rows"] for r in right)
    yield (
        f"Of {len(records)} methods, {len(right)} are right on every problem ({rows} problems "
        f"judged), {len(mistakes)} are at fault for {len(places)} separate mistakes, "
        f"{len(design)} estimate something else by design, and {rest} cannot be run."
    )


def _row(record: Record) -> str:
    bad = record["wrong"] + record["failed"] + record["undecided"]
    design = record["cause"] is not None and "by design" in record["cause"]["whose"]
    word = "differs" if design else "**wrong**"
    verdict = "right" if bad == 0 else f"{word} on {bad} of {record['rows']}"
    if record["failed"] == record["rows"]:
        verdict = "**fails**"
    elif record["failed"]:
        verdict += f" (no finite answer on {record['failed']})"
    digits = "" if record["digits"] is None else f"{max(record['digits'], 0.0):.1f}"
    if record["stochastic"] and record["sees"]:
        digits += f" (sees {_percent(record['sees'])})"
    time = "" if record["milliseconds"] is None else f"{record['milliseconds']:.0f} ms"
    cells = (
        record["library"],
        record["version"],
        record["method"],
        ", ".join(record["estimands"]),
        digits,
        verdict,
        "; ".join(record["diagnosis"][:2]),
        time,
    )
    return "| " + " | ".join(_escape(cell) for cell in cells) + " |"


def _percent(floors: Iterable[float]) -> str:
    ordered = sorted(floors)
    ends = ordered[0], ordered[-1]
    return " to ".join(dict.fromkeys(f"{100 * floor:.2g} %" for floor in ends))


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
