"""`refblo check`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from refblo.commands.expected_failures import read
from refblo.errors import require_target
from refblo.files import require_writable, write_atomically

if TYPE_CHECKING:
    from refblo.conformance.suite.rows import Row

FRAMEWORKS = ("torch", "jax", "numpy")
"""As in `refblo.conformance.suite.view`, whose import takes seconds; a test compares the two."""


@click.command()
@click.argument("target")
@click.option(
    "--framework",
    type=click.Choice(FRAMEWORKS),
    default="torch",
    show_default=True,
    help="The array library of the target.",
)
@click.option(
    "--estimand",
    type=click.Choice(("unrolled", "pathwise", "implicit", "gibbs")),
    help="Only this estimand; by default all that the target declares.",
)
@click.option(
    "--profile",
    type=click.Choice(("quick", "full")),
    default="quick",
    show_default=True,
    help="quick: within a minute; full: more points, more seeds, every truth confirmed by differences.",
)
@click.option(
    "--entry", "entries", multiple=True, help="Only this entry of the catalogue; may be repeated."
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the result as JSON."
)
@click.option(
    "--html", "html_path", type=click.Path(path_type=Path), help="Write a self-contained page."
)
@click.option(
    "--expected-failures",
    "expected_path",
    type=click.Path(path_type=Path),
    help='A TOML file of "row" = "reason".',
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The seed of all random draws.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0.1),
    default=20.0,
    show_default=True,
    help="The most seconds that one call may take.",
)
@click.option(
    "--memory-limit",
    type=click.FloatRange(min=0.01),
    default=4.0,
    show_default=True,
    help="The most GiB by which the target's process may grow.",
)
def check(
    target: str,
    framework: str,
    estimand: str | None,
    profile: str,
    entries: tuple[str, ...],
    json_path: Path | None,
    html_path: Path | None,
    expected_path: Path | None,
    seed: int,
    time_limit: float,
    memory_limit: float,
) -> int:
    """Check TARGET, a hypergradient of your own: package.module:function or file.py:function.

    It is called with small problems whose truth is known, in a process of its own. The answer is a
    verdict for each, and the name of the mistake where there is one. Exit status 0 if nothing speaks
    against it, 1 otherwise, 2 if the command line is wrong, 130 if it was interrupted (then no file is
    written).
    """
    require_target(target)
    expected = () if expected_path is None else read(expected_path)
    require_writable((("--json", json_path), ("--html", html_path)))
    # Import inside the function: torch takes seconds, and a wrong command line is refused before it.
    from rich.console import Console
    from rich.progress import Progress

    from refblo.conformance.suite.present import lines, table, to_html, to_json
    from refblo.conformance.suite.process import Limits
    from refblo.conformance.suite.run import Settings, run

    settings = Settings(
        target=target,
        framework=framework,
        estimand=estimand,
        full=profile == "full",
        seed=seed,
        limits=Limits(seconds=time_limit, memory=int(memory_limit * 2**30)),
        expected=expected,
        entries=entries,
    )
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("checking", total=None)

        def watch(row: "Row", planned: int) -> None:
            progress.update(task, total=planned, advance=1, description=row.name)

        result = run(settings, watch)
    console = Console()
    if result.rows:
        console.print(table(result))
    for line in lines(result):
        # Not through the console's markup: a message may hold brackets.
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for path, text in ((json_path, to_json), (html_path, to_html)):
        if path is not None:
            write_atomically(path, text(result))
    return 0 if result.passed else 1
