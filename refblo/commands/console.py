"""The rich console on which commands print to the standard output.

Nothing here may import torch: `refblo list` starts fast because it does without.
"""

from rich.console import Console

PLAIN_WIDTH = 180
"""Columns of a table in a file or a pipe; without it rich would cut tables at 80 columns."""


def standard_output() -> Console:
    """A console on the standard output: as wide as the terminal, or `PLAIN_WIDTH` where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)
