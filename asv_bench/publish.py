"""The dashboards: `python -m asv_bench.publish` (`make asv-publish`) writes asv_bench/html.

asv makes a tile of every benchmark it knows, measured or not. Those without a curve, that is without figures
of two commits on one machine, are left out; then asv builds the site, and its libraries are copied beside it.
"""

import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asv_bench.history import RESULTS, ROOT
from asv_bench.vendor import VendorError, vendor

CONFIGURATION = ROOT / "asv_bench" / "asv.conf.json"
SITE = ROOT / "asv_bench" / "html"
LEAST = 2
"""Commits that make a curve."""


class PublishError(RuntimeError):
    """asv could not build the site."""


def measured(results: Path) -> Iterator[tuple[str, str, dict[str, list[float | None]]]]:
    """Machine, commit and figures by benchmark, of every file of results."""
    for path in sorted(results.glob("*/*-*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        column = document["result_columns"].index("result")
        figures = {
            name: columns[column]
            for name, columns in document["results"].items()
            if columns[column] is not None
        }
        yield path.parent.name, document["commit_hash"], figures


def with_a_curve(results: Path) -> set[str]:
    """The benchmarks that have figures of enough commits on one machine."""
    commits = Counter(
        (machine, name)
        for machine, _, figures in measured(results)
        for name, values in figures.items()
        if any(value is not None and not math.isnan(value) for value in values)
    )
    return {name for (_, name), number in commits.items() if number >= LEAST}


def publish(results: Path, site: Path) -> list[str]:
    """Build the site of a folder of results, without its libraries.

    Returns:
        The benchmarks that have a tile.

    Raises:
        PublishError: if there are no results, or asv fails.
    """
    listed = results / "benchmarks.json"
    if not listed.is_file():
        raise PublishError(f"there are no results in {results.name}: run `make asv` first")
    curves = with_a_curve(results)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "results"
        shutil.copytree(results, copy)
        benchmarks: dict[str, Any] = json.loads(listed.read_text(encoding="utf-8"))
        kept = {
            name: value
            for name, value in benchmarks.items()
            if name in curves or not isinstance(value, dict)  # the version of the format
        }
        (copy / "benchmarks.json").write_text(json.dumps(kept), encoding="utf-8")
        configuration = json.loads(CONFIGURATION.read_text(encoding="utf-8")) | {
            "repo": str(ROOT),
            "benchmark_dir": str(CONFIGURATION.parent / "benchmarks"),
            "results_dir": str(copy),
            "html_dir": str(site),
        }
        path = Path(folder) / "asv.conf.json"
        path.write_text(json.dumps(configuration), encoding="utf-8")
        command = [sys.executable, "-m", "asv", "--config", str(path), "publish"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PublishError(f"asv publish failed: {(done.stdout + done.stderr).strip()[-800:]}")
    return sorted(curves & kept.keys())


def main() -> int:
    """The command."""
    try:
        tiles = publish(RESULTS, SITE)
        vendor(SITE)
    except (PublishError, VendorError) as error:
        print(f"asv_bench.publish: {error}", file=sys.stderr)
        return 1
    print(f"{SITE.relative_to(ROOT)}: {len(tiles)} benchmarks with a curve")
    return 0


if __name__ == "__main__":
    sys.exit(main())
