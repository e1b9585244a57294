"""Expected failures: name = "reason", a name being a row's or an entry's."""

from refblo.conformance.suite.rows import Expectations, Row


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
