"""Run the conformance suite on every method of `peers.py`, and hold the causes to what was found.

    python -m tests.peers.run [--only LIBRARY] [--jobs N]

Writes tests/peers/results.json, from which docs/peers.md is rendered. Exit status 1 if a method that is
to be right is accused, one that has a cause is not, or a cause does not fit.
"""

import argparse
import ast
import importlib.metadata
import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from refblo.conformance.suite.process import Limits
from refblo.conformance.suite.rows import Outcome, Result, Row
from refblo.conformance.suite.run import Settings, run
from tests.peers.page import render
from tests.peers.peers import PEERS, Cause, Peer, Whose

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
PAGE = FOLDER.parents[1] / "docs" / "peers.md"
LIMITS = Limits(seconds=240, start_seconds=240, memory=12 * 2**30)
Record = dict[str, Any]


def wanted(only: str | None) -> list[Peer]:
    """The methods to run: of one library or of all, without those whose checkout is not given."""
    return [
        peer
        for peer in PEERS
        if only in (None, peer.library) and (not peer.path or os.environ.get(peer.path))
    ]


def version(peer: Peer) -> str:
    return importlib.metadata.version(peer.distribution) if peer.distribution else "a checkout"


def told(peer: Peer) -> Record:
    """What `peers.py` says of a method, which may be put better without running it again."""
    cause = peer.cause
    if cause is None:
        return {"library": peer.library, "method": peer.method, "cause": None}
    said = {"whose": cause.whose.value, "where": list(cause.where), "text": cause.text}
    return {"library": peer.library, "method": peer.method, "cause": said}


def judge(peer: Peer) -> Record:
    """One method: what was found, and what is wrong with what is said about it."""
    settings = Settings(
        target=str(FOLDER / "targets" / peer.target),
        framework=peer.framework,
        limits=LIMITS,
        entries=peer.entries,
    )
    result = run(settings)
    rows = [row for row in result.rows if row.outcome is not Outcome.SKIPPED]
    bad = [row for row in rows if row.bad]
    judged = [row for row in rows if row.digits is not None]
    names: dict[str, int] = {}
    for row in bad:
        for name in row.diagnosis.names if row.diagnosis else ():
            names[name] = names.get(name, 0) + 1
    declared = result.declared
    return told(peer) | {
        "version": version(peer),
        "target": peer.target,
        "framework": peer.framework,
        "estimands": list(declared.estimands) if declared else [],
        "stochastic": bool(declared and declared.stochastic),
        "rows": len(rows),
        "wrong": sum(row.outcome is Outcome.WRONG for row in rows),
        "failed": sum(row.outcome is Outcome.FAILED for row in rows),
        "undecided": sum(row.outcome is Outcome.UNDECIDED for row in rows),
        "digits": min((row.digits or 0.0 for row in judged), default=None),
        "sees": [row.floor for row in rows if row.floor is not None],
        "diagnosis": sorted(names, key=lambda name: (-names[name], name)),
        "unnamed": [row.name for row in bad if row.diagnosis and not row.diagnosis.names],
        "disagrees": [row.name for row in bad],
        "findings": sorted({f.describe for row in bad for f in row.findings})[:3],
        "conventions": sorted({row.convention for row in rows if row.convention}),
        "milliseconds": 1e3 * sorted(row.seconds for row in rows)[len(rows) // 2] if rows else None,
        "complaints": complaints(peer, result, rows, names),
    }


def complaints(peer: Peer, result: Result, rows: list[Row], names: Iterable[str]) -> list[str]:
    """Where what `peers.py` says is not what was found."""
    found = [finding.describe for finding in result.findings if not rows]
    if not rows:
        return [*found, "nothing was run"]
    bad = {row.name.split("/")[0] for row in rows if row.bad}
    cause = peer.cause
    if cause is None:
        return [f"accused on {name}, and no cause is known" for name in sorted(bad)]
    if not bad:
        found.append("a cause is given, but nothing disagrees")
    found += [f"was to disagree on {name}, and does not" for name in cause.rows if name not in bad]
    unnamed = set(cause.names) - set(names)
    if cause.names and len(unnamed) == len(cause.names):
        found.append(f"was to be diagnosed as {' or '.join(cause.names)}, got {sorted(names)}")
    if cause.whose in (Whose.BROKEN, Whose.UNSUPPORTED):
        found += [f"was to fail on {r.name}" for r in rows if r.outcome is not Outcome.FAILED]
    return found + missing(cause, peer)


def missing(cause: Cause, peer: Peer) -> list[str]:
    """The places named in a cause that the installed library does not have."""
    found = []
    for place in cause.where:
        module, _, name = place.partition(":")
        source = _source(module, os.environ.get(peer.path) if peer.path else None)
        defined = set() if source is None else _defined(source)
        if name not in defined:
            found.append(f"{place} is not in the library")
    return found


def _source(module: str, root: str | None) -> Path | None:
    """A module's file, found without importing it."""
    if root is not None:
        path = Path(root, *module.split(".")).with_suffix(".py")
        return path if path.is_file() else None
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return None
    base = Path(spec.submodule_search_locations[0], *rest)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _defined(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def write(known: dict[str, Record]) -> None:
    """The results and the page."""
    records = [known[peer.target] | told(peer) for peer in PEERS if peer.target in known]
    RESULTS.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(render(records), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Run, write, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="only this library")
    parser.add_argument("--jobs", type=int, default=2, help="methods that run at the same time")
    parser.add_argument("--target", help="only targets whose name contains this")
    options = parser.parse_args(arguments)
    chosen = [p for p in wanted(options.only) if (options.target or "") in p.target]
    kept = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else []
    known = {record["target"]: record for record in kept}
    write(known)
    with ThreadPoolExecutor(options.jobs) as pool:
        for number, record in enumerate(pool.map(judge, chosen), start=1):
            known[record["target"]] = record
            told = f"{record['wrong'] + record['failed']} of {record['rows']} disagree"
            print(f"[{number}/{len(chosen)}] {record['target']}: {told}", flush=True)
            for complaint in record["complaints"]:
                print(f"    {complaint}", flush=True)
            # Written as it goes, so that an interrupted run is not lost.
            write(known)
    return int(any(known[peer.target]["complaints"] for peer in chosen))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
