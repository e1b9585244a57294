"""`refblo list`."""

import click
from rich.table import Table
from rich.text import Text

from refblo.commands.console import standard_output
from refblo.contracts import listing


@click.command("list", context_settings={"help_option_names": ["-h", "--help"]})
def list_command() -> None:
    """List what an audit is made of: the cases, and every estimator with its contracts."""
    console = standard_output()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("case")
    for size in ("p", "n", "T"):
        table.add_column(size, justify="right")
    table.add_column("what it is")
    listed = listing.read()
    for case in listed.cases:
        numbers = (case.p, case.n, case.steps)
        table.add_row(Text(case.name), *map(str, numbers), Text(", ".join(case.tags), "dim"))
    console.print(table)
    for estimator in dict.fromkeys(contract.estimator for contract in listed.contracts):
        console.print()
        console.print(Text(estimator, "bold"))
        grid = Table.grid(padding=(0, 2))
        for contract in listed.contracts:
            if contract.estimator == estimator:
                claim = Text(f"{contract.relation}: {contract.claim}", "dim")
                grid.add_row(Text(f"  {contract.name}"), claim)
        console.print(grid)
