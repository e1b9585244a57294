"""The command line. A command's module is imported when the command is run: torch alone takes seconds."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import final

import click

from refblo.errors import ArgumentError, ArgumentTypeError, MissingExtraError, RefbloError

USAGE = 2
INTERRUPTED = 130


@final
@dataclass(frozen=True)
class CommandEntry:
    """Where a command is, and what it does in a few words.

    Attributes:
        module: the module that defines it.
        attribute: the command's name in that module.
        summary: for the list of commands, which is printed without importing any.
    """

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "audit": CommandEntry(
        "refblo.commands.audit", "audit", "Check every estimator against every truth."
    ),
    "list": CommandEntry(
        "refblo.commands.list", "list_command", "List the estimators, the cases and the contracts."
    ),
    "check": CommandEntry(
        "refblo.commands.check",
        "check",
        "Check somebody else's implementation, and diagnose it.",
    ),
    "reproduce": CommandEntry(
        "refblo.commands.reproduce",
        "reproduce",
        "Compute a table or a figure of the papers again.",
    ),
    "vectors": CommandEntry(
        "refblo.commands.vectors",
        "vectors",
        "Write test vectors, or judge results for them.",
    ),
    "compare": CommandEntry(
        "refblo.commands.compare", "compare", "Run all methods on a problem at equal cost."
    ),
    "doctor": CommandEntry(
        "refblo.commands.doctor", "doctor", "Say what is installed here, and what is missing."
    ),
    "cost": CommandEntry(
        "refblo.commands.cost", "cost", "Count what a hypergradient costs, up to ViT-B/16."
    ),
}
"""Every command of refblo. A new one adds its line here."""


@final
class _Commands(click.Group):
    """Click's own way to a group whose commands are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(entry.module), entry.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(
                f"{entry.module}.{entry.attribute} must be a click command, got {command!r}"
            )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = get_close_matches(args[0], COMMANDS, n=1)
        if near and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"There is no command {args[0]!r}; did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="refblo")
def commands() -> None:
    """Is this hypergradient right, and if not, how wrong is it and why?"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after `refblo`; those of the process when None.

    Returns:
        The exit status: 0, 1 when what was asked for came out badly, 2 for a usage error, 130 when
        interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal without Greek letters must not end an audit.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    words = None if arguments is None else list(arguments)
    try:
        status = commands.main(words, prog_name="refblo", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("refblo: interrupted", err=True)
        return INTERRUPTED
    except RefbloError as error:
        click.echo(f"refblo: {error}", err=True)
        wrong_call = isinstance(error, ArgumentError | ArgumentTypeError | MissingExtraError)
        return USAGE if wrong_call else 1
    return status if isinstance(status, int) else 0
