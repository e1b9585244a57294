"""`python -m refblo.testing [NAME ...]`: is everything registered, and do new pieces pass their checks?"""

import sys

import click

from refblo.errors import ArgumentError
from refblo.testing.pieces import check_piece
from refblo.testing.registry import registry_problems


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME ...]")
def main(names: tuple[str, ...]) -> None:
    """Check the registries, and each NAME: an estimator class, or a problem of the catalogue."""
    wrong = [*registry_problems()]
    for name in () if wrong else names:
        try:
            wrong += [f"{name}: {what}" for what in check_piece(name)]
        except ArgumentError as error:
            wrong.append(str(error))
    for what in wrong:
        click.echo(what, err=True)
    if wrong:
        sys.exit(1)
    click.echo(f"registered, and checked: {', '.join(names) or 'the registries alone'}")


if __name__ == "__main__":
    main()
