"""``python -m proofs_check``: print the claims ledger."""

import os
import sys

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from proofs_check.claim import Claim, ClaimContext, Effort
from proofs_check.claims import all_claims, find
from proofs_check.errors import UnknownClaimError
from proofs_check.ledger import LedgerRow, run
from proofs_check.render import print_detail, print_table, summary, to_json, to_markdown
from proofs_check.survivors import count_planted, to_page
from proofs_check.theorem_page import THEOREMS, to_theorems


def _pick(only: tuple[str, ...]) -> list[Claim]:
    if not only:
        return list(all_claims())
    try:
        return [find(key) for key in only]
    except UnknownClaimError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


def _switched_off(claims: list[Claim], keys: tuple[str, ...]) -> frozenset[str]:
    known = {a.key for claim in claims for a in (*claim.assumptions, *claim.added)}
    unknown = [key for key in keys if key not in known]
    if unknown:
        listed = ", ".join(sorted(known)) or "none"
        click.echo(
            f"error: --without must be one of the chosen claims' assumptions ({listed}), "
            f"got {unknown[0]!r}",
            err=True,
        )
        sys.exit(2)
    return frozenset(keys)


def _run_with_progress(
    claims: list[Claim], context: ClaimContext, jobs: int
) -> tuple[LedgerRow, ...]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("settling the claims", total=len(claims))

        def report(row: LedgerRow) -> None:
            progress.update(task, advance=1, description=f"settled {row.key}")

        return run(claims, context, jobs, report)


def _plant(claims: list[Claim], jobs: int, every: int) -> None:
    count = count_planted(claims, jobs, every)
    unexcused = [(key, error) for key, error in count.survivors if not error.reason]
    if every == 1:
        click.echo(to_page(count), nl=False)
    else:
        planted = sum(count.kinds.values())
        click.echo(
            f"{planted} errors planted in the claims, every {every}th of each claim: "
            f"{planted - len(count.survivors)} rejected, {len(count.survivors)} survive, "
            f"{len(unexcused)} of them without a reason"
        )
    for key, error in unexcused:
        click.echo(f"{key}: no check rejects {error.name}", err=True)
    sys.exit(1 if unexcused else 0)


@click.command()
@click.option("--only", multiple=True, metavar="CLAIM", help="Settle this claim; may be repeated.")
@click.option("--list", "list_only", is_flag=True, help="List the claims and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the page of the docs.")
@click.option("--theorems", "as_theorems", is_flag=True, help="Print the page of the theorems.")
@click.option("--planted", "as_planted", is_flag=True, help="Print the page of the planted errors.")
@click.option(
    "--every",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="With --planted: the first error of each claim and then every N-th; counts, no page.",
)
@click.option("--quick/--full", default=True, help="Within two minutes, or every measurement.")
@click.option(
    "--without", multiple=True, metavar="KEY", help="Switch an assumption off, to see what fails."
)
@click.option(
    "--jobs", type=click.IntRange(1), default=min(2, os.cpu_count() or 1), help="Processes."
)
def main(
    only: tuple[str, ...],
    list_only: bool,
    as_json: bool,
    as_markdown: bool,
    as_theorems: bool,
    as_planted: bool,
    every: int,
    quick: bool,
    without: tuple[str, ...],
    jobs: int,
) -> None:
    """Derive a verdict for every claim of the papers, and exit 0 if all evidence holds."""
    claims = _pick(THEOREMS if as_theorems else only)
    if list_only:
        for claim in claims:
            click.echo(f"{claim.key:24} {claim.title}")
        return
    if as_planted:
        _plant(claims, jobs, every)
        return
    effort = Effort.QUICK if quick else Effort.FULL
    context = ClaimContext(effort, _switched_off(claims, without))
    rows = _run_with_progress(claims, context, jobs)
    if as_json:
        click.echo(to_json(rows))
    elif as_theorems:
        click.echo(to_theorems(rows), nl=False)
    elif as_markdown:
        click.echo(to_markdown(rows), nl=False)
    else:
        console = Console()
        if only:
            for row in rows:
                print_detail(row, console)
        else:
            print_table(rows, console)
    failed = [row for row in rows if not row.holds]
    for row in failed:
        click.echo(f"{row.key}: {row.failure}", err=True)
    if failed:
        click.echo(summary(rows), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
