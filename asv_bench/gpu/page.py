"""The page of what was measured on GPUs: one section a machine, and no two of them compared.

A day is written as the role `ago`, which says its age whenever the site is built.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asv_bench.gpu.archive import Archive
from asv_bench.gpu.parts import PARTS
from refblo.cost.predict import in_words

PAGE = Path(__file__).resolve().parents[2] / "docs" / "on-a-gpu.md"


def page(found: Sequence[Archive]) -> str:
    """The page, in Markdown."""
    lines = [
        "# On a GPU",
        "",
        "Written by `make gpu`; no figure is typed by hand. Each machine has its own section, and no two are "
        "compared: a figure means something beside the others of its section alone.",
        "",
        "`make gpu` runs everything below that an archive lacks, the most valuable part first, each in at "
        "most 8 minutes. It installs nothing: `PYTHON` names the interpreter, `COMMIT` the commit where the "
        "source is a plain copy, `ARGS` what else `python -m asv_bench.gpu --help` lists. The folder that "
        "it names at its end is committed as it is.",
        "",
        "| part | what it shows | expected |",
        "| --- | --- | ---: |",
        *(f"| {part.name} | {part.what} | {part.expected} s |" for part in PARTS),
        f"| all | | {sum(part.expected for part in PARTS)} s |",
        "",
    ]
    if not found:
        lines += ["No GPU has run this yet.", ""]
    for archive in found:
        lines += _section(archive)
    return "\n".join(lines)


def _section(archive: Archive) -> Iterator[str]:
    machine = archive.machine()
    results = [result for part in PARTS if (result := archive.load(part.name)) is not None]
    newest = max((result.finished for result in results), default=0.0)
    day = datetime.fromtimestamp(newest, UTC).date().isoformat()
    yield f"## {machine.device}"
    yield ""
    yield (
        f"Last measured {{ago}}`{day}`, at commit `{machine.commit[:10]}`; driver {machine.driver}, CUDA "
        f"{machine.cuda}, torch {machine.torch}, Python {machine.python}."
    )
    yield ""
    for result in results:
        yield f"### {result.part}"
        yield ""
        if not result.ended:
            ended = "ran out of time" if result.status is None else f"ended with {result.status}"
            yield f"This part {ended}."
            yield ""
        show = _TABLES.get(result.part, _at_scale)
        if result.found:
            yield from show(result.found)
            yield ""


def _closed_form(found: dict[str, Any]) -> Iterator[str]:
    yield f"The quadratic with n = {found['size']}, T = {found['steps']}, float64."
    yield ""
    yield "| estimator | error | ms | over its roof | peak | counted | waits | transfers |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in found["rows"]:
        seconds, error = row["seconds"], row["error"]
        cells = (
            row["estimator"],
            "–" if error is None else f"{error:.1e}",
            "wrong answer" if seconds is None else f"{seconds * 1e3:,.2f}",
            "–" if seconds is None else f"{seconds / row['roof']:,.1f}",
            f"{row['peak']:,} B",
            f"{row['counted']:,} B",
            str(row["host_synchronisations"]),
            str(row["transfers"]),
        )
        yield "| " + " | ".join(cells) + " |"


def _at_scale(found: dict[str, Any]) -> Iterator[str]:
    yield "| precision | batch | κ | ms | step over its gradients | rate | peak | predicted | error |"
    yield "| --- | ---: | ---: | ---: | --- | --- | ---: | --- | ---: |"
    for row in found["rows"]:
        low, median, high = row["step"]
        share = row["peak"] / row["predicted"] - 1
        error = "–" if row["error"] is None else f"{row['error']:.1e}"
        rate = f"{in_words(row['rate'], 'FLOP/s', 1000)}, {row['rate'] / row['roof']:.0%}"
        cells = (
            row["precision"],
            str(row["batch"]),
            f"{row['noise_scale']:g}",
            f"{row['seconds'] * 1e3:,.1f}",
            f"{median:.3f} ({low:.3f} … {high:.3f})",
            rate,
            f"{row['peak']:,} B",
            f"{row['predicted']:,} B ({share:+.2%})",
            error,
        )
        yield "| " + " | ".join(cells) + " |"


def _draws(found: dict[str, Any]) -> Iterator[str]:
    low, median, high = found["over torch.randn"]
    words = "the same bits as on the CPU" if found["same words"] else "NOT those of the CPU"
    yield (
        f"The words are {words}. {found['numbers']:,} float32 numbers take {median:.2f} "
        f"({low:.2f} … {high:.2f}) times what `torch.randn` takes."
    )
    yield ""
    for dtype, difference in found["largest difference"].items():
        yield f"- {dtype}: at most {difference:.1f} units in the last place of 1 from the CPU's numbers"


def _tests(found: dict[str, Any]) -> Iterator[str]:
    yield ", ".join(f"{count} {name}" for name, count in found.items()) + "."


def _asv(found: dict[str, Any]) -> Iterator[str]:
    yield f"Run by {found['by']}; the figures are in the archive."


_TABLES: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "closed-form": _closed_form,
    "draws": _draws,
    "tests": _tests,
    "asv": _asv,
}
