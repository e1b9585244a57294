"""The console of the process; torch is not imported for it."""

from rich.console import Console

PLAIN_WIDTH = 180
"""Columns of a table that goes to a file or a pipe, which have no width of their own."""


def standard_output() -> Console:
    """A console on the standard output."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)
