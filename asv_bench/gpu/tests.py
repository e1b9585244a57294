"""The tests that are about a GPU, and how many passed, failed and were skipped."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import click

from refblo.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
WHICH = "gpu or cuda"
"""Words in the names of the tests."""


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(output: Path) -> None:
    """Run them, and write the tally; the status is pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-k", WHICH, "-rs"]
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", f"--junit-xml={report}"], cwd=ROOT, check=False
        )
        cases = list(ElementTree.parse(report).iter("testcase"))
    tally = {
        "ran": len(cases),
        "failed": sum(case.find("failure") is not None for case in cases),
        "errors": sum(case.find("error") is not None for case in cases),
        "skipped": sum(case.find("skipped") is not None for case in cases),
    }
    write_atomically(output, json.dumps(tally, indent=1) + "\n")
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
