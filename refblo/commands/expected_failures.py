"""The file of `refblo check --expected-failures`: TOML, name = "reason". Read before torch is imported."""

import tomllib
from pathlib import Path

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
