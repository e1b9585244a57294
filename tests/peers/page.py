"""docs/peers.md from the results of a run."""

from collections.abc import Iterable, Iterator
from typing import Any

Record = dict[str, Any]

HEAD = """# Other libraries

<!-- Written by `make peers`. Do not edit: change tests/peers and run it again. -->

`make peers` installs public libraries for bilevel optimisation, in pinned versions and in an environment
of their own, and runs the [conformance suite](check.md) on each of their methods through a small
adapter. Each method is judged for the estimand that it is meant for, on small problems whose truth is
known. The suite knows nothing of the libraries: it is told what a method can do, and calls it.

A method that disagrees has a cause below, found by reading its source. The causes are data that the run
is held to: the function named must exist in the installed version, the method must disagree on the
problems named, and one of the mistakes named must be what the diagnosis says. A method that has no cause
must be right on every problem.

hypertorch and hypergrad (moskomule's, which shares its import name with hypertorch's package) are only in
their repositories: they are run where the environment variables HYPERTORCH and HYPERGRAD point to a
checkout. The `hypertorch` that the registry has is another package. learn2learn is not run: what it
publishes does not compile on Python 3.11.
"""


def render(records: list[Record]) -> str:
    """The page."""
    return "\n".join(_lines(records)).rstrip() + "\n"


def _lines(records: list[Record]) -> Iterator[str]:
    yield HEAD
    yield from _summary(records)
    yield "\n## Every method\n"
    yield (
        "*Digits*: correct decimal digits on the worst problem (for methods that draw random numbers, of "
        "the mean over seeds). *Verdict*: on how many problems it is wrong, or differs by design. "
        "*Time*: of the median call, beside whatever else the machine did; a JAX call compiles.\n"
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
            # Where both meanings give the same vector, the first is noted.
            told = record["conventions"][0]
            yield f"- {record['library']}, {record['method']}: {told}."


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
    told = sorted(floors)
    return " to ".join(dict.fromkeys(f"{100 * floor:.2g} %" for floor in (told[0], told[-1])))


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
