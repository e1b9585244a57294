"""Expected failures: a TOML file of name = "reason", a name being a row's or an entry's."""

import tomllib
from pathlib import Path

from refblo.conformance.suite.rows import Expectations, Row
from refblo.errors import ArgumentError


def read(path: Path) -> tuple[tuple[str, str], ...]:
    """Read a file of expected failures.

    Raises:
        ArgumentError: if it is no TOML table of strings.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError(
            f'--expected-failures must be a TOML file of "name" = "reason", got {path}: {error}'
        ) from error
    for name, reason in table.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ArgumentError(
                f"--expected-failures must give a reason for {name!r}, got {reason!r}; write a "
                "sentence that says why the row fails"
            )
    return tuple(table.items())


def compare(rows: tuple[Row, ...], expected: dict[str, str]) -> Expectations:
    """Which expected failures failed, which did not, and which name nothing."""
    met: dict[str, str] = {}
    passed, unmatched = [], []
    for name, reason in expected.items():
        matching = [row for row in rows if name in (row.name, row.name.split("/")[0])]
        if not matching:
            unmatched.append(name)
            continue
        failed = {row.name: reason for row in matching if row.bad}
        if not failed:
            passed.append(name)
        met |= failed
    return Expectations(met, tuple(passed), tuple(unmatched))
