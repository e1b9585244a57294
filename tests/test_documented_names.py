"""Names of the package that the documentation writes out exist after `import refblo` alone. About 3 s.

A module of a subpackage may need an import of its own, as the lines that use it show.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")))
NAME = re.compile(r"(?<![\w./-])refblo(?:\.[A-Za-z]\w*)+")
ENDINGS = {"json", "md", "py", "toml", "html", "cli"}
"""Last parts of file names, which are no attributes."""


def documented() -> set[str]:
    found = {name for page in PAGES for name in NAME.findall(page.read_text(encoding="utf-8"))}
    return {name for name in found if name.rsplit(".", maxsplit=1)[1] not in ENDINGS}


def test_every_name_that_is_written_out_can_be_used() -> None:
    names = sorted(documented())
    assert "refblo.Rule" in names
    program = """
import pkgutil, sys, refblo
missing = []
for name in sys.argv[1:]:
    try:
        getattr(refblo, name.split(".")[1])
        pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        missing.append(name)
print(*missing)
"""
    command = [sys.executable, "-W", "ignore", "-c", program, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
