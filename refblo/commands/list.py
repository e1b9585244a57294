"""`refblo list`."""

import click
from rich.table import Table
from rich.text import Text

from refblo.audit.terminal import standard_output
from refblo.contracts.registry import contracts
from refblo.problems import catalogue


@click.command("list", context_settings={"help_option_names": ["-h", "--help"]})
def list_command() -> None:
    """List what an audit is made of: the cases, and every estimator with its contracts."""
    console = standard_output()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("case")
    for size in ("p", "n", "T"):
        table.add_column(size, justify="right")
    table.add_column("what it is")
    for builder in catalogue().values():
        case = builder()
        numbers = (case.lam.numel(), case.problem.initial(case.lam).numel(), case.schedule.steps)
        tags = Text(", ".join(sorted(case.tags)), "dim")
        table.add_row(Text(case.name), *map(str, numbers), tags)
    console.print(table)
    known = contracts()
    for estimator in dict.fromkeys(contract.estimator for contract in known):
        console.print()
        console.print(Text(estimator, "bold"))
        grid = Table.grid(padding=(0, 2))
        for contract in known:
            if contract.estimator == estimator:
                claim = Text(f"{contract.relation}: {contract.claim}", "dim")
                grid.add_row(Text(f"  {contract.name}"), claim)
        console.print(grid)
