"""`refblo doctor`: versions, devices and extras, and what is missing."""

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import final

import click

from refblo.errors import MissingExtraError

try:
    from packaging.requirements import Requirement
except ImportError as error:
    raise MissingExtraError(
        "refblo doctor needs the package packaging, which comes with matplotlib, and which is not installed; "
        "pip install packaging"
    ) from error

FAILED = 1


@final
@dataclass(frozen=True)
class InstallationFinding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        found: what is there.
        remedy: what to do, where something that refblo needs is missing or too old; empty otherwise.
    """

    name: str
    found: str
    remedy: str = ""


def requirement(text: str, extra: str) -> InstallationFinding:
    """Whether a requirement is met; only those without an extra are needed by every command."""
    needed = Requirement(text)
    wanted = f"{needed.name}{needed.specifier}"
    installed = _version(needed.name)
    if installed is None:
        remedy = "" if extra else f'pip install "{wanted}"'
        return InstallationFinding(needed.name, "not installed", remedy)
    if not needed.specifier.contains(installed, prereleases=True):
        return InstallationFinding(
            needed.name, installed, f'it must be {needed.specifier}: pip install "{wanted}"'
        )
    return InstallationFinding(needed.name, installed)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def devices() -> Iterator[InstallationFinding]:
    """What torch can compute on."""
    import torch

    yield InstallationFinding(
        "CPU", f"{torch.get_num_threads()} threads; {platform.processor() or platform.machine()}"
    )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield InstallationFinding(f"cuda:{index}", torch.cuda.get_device_name(index))
    else:
        yield InstallationFinding("CUDA", "none: everything runs on the CPU")


def findings() -> Iterator[tuple[str, list[InstallationFinding]]]:
    """Sections of the report, each with its lines."""
    version = f"{platform.python_version()} ({sys.implementation.name})"
    here = [
        InstallationFinding("refblo", _version("refblo") or "no metadata"),
        InstallationFinding("Python", version),
    ]
    yield "refblo", [*here, InstallationFinding("system", platform.platform())]
    by_extra: dict[str, list[str]] = {"": []}
    for text in metadata.requires("refblo") or []:
        parsed = Requirement(text)
        extra = _extra(parsed)
        if parsed.name != "refblo":
            by_extra.setdefault(extra, []).append(text)
    for extra, texts in by_extra.items():
        title = f"extra {extra}: pip install refblo[{extra}]" if extra else "needed"
        yield title, [requirement(text, extra) for text in texts]
    if _version("torch") is not None:
        yield "devices", list(devices())


def _extra(parsed: Requirement) -> str:
    """The extra that a requirement belongs to, or an empty string."""
    marker = str(parsed.marker or "")
    _, _, rest = marker.partition("extra == ")
    return rest.strip("\"' ")


@click.command()
def doctor() -> int:
    """Print what is installed here, on what it can compute, and what is missing.

    The exit status is 1 if something is missing or too old that refblo needs. What an extra brings is listed
    apart: a command that needs it names it.
    """
    remedies = []
    for title, lines in findings():
        click.echo(title)
        width = max(len(line.name) for line in lines)
        for line in lines:
            click.echo(f"  {line.name:{width}}  {line.found}")
        remedies += [f"{line.name}: {line.remedy}" for line in lines if line.remedy]
    click.echo("\nto do" if remedies else "\nnothing that refblo needs is missing")
    for remedy in remedies:
        click.echo(f"  {remedy}")
    return FAILED if remedies else 0
