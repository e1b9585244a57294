"""Take this machine's paths out of asv's result files: `python -m asv_bench.tidy`.

asv names an existing environment by the path of its interpreter, in each file's name and inside it. Results
are committed, and a path says nothing to anybody else: the environment is called `existing`.
"""

import json
import re
import sys
from pathlib import Path

from refblo.files import write_atomically

RESULTS = Path(__file__).parent / "results" / "asv"
_NAMED = re.compile(r"existing-py[A-Za-z0-9_.\-]*")


def tidy(results: Path) -> int:
    """Rename the environment in every result file, and merge it with what its commit has already.

    Args:
        results: asv's folder of results, with a folder for each machine.

    Returns:
        How many files were changed.
    """
    changed = 0
    for path in sorted(results.glob("*/*-existing-py*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        document["env_name"] = document["python"] = "existing"
        document.setdefault("params", {})["python"] = "existing"
        target = path.with_name(_NAMED.sub("existing", path.stem) + ".json")
        if target.is_file():
            before = json.loads(target.read_text(encoding="utf-8"))
            for part in ("results", "durations"):
                document[part] = {**before.get(part, {}), **document.get(part, {})}
        write_atomically(target, json.dumps(document))
        path.unlink()
        changed += 1
    return changed


def main() -> int:
    """The command."""
    print(f"{tidy(RESULTS)} result files name their environment without a path")
    return 0


if __name__ == "__main__":
    sys.exit(main())
