"""What asv runs, on the commit at hand and, `counts` and `times`, on earlier ones.

asv imports all of it on every commit, so what an earlier commit may lack is imported where it is used. An
editable installation would lend an old commit the modules of today that it lacks, and its figures would be
those of a mixture: where refblo is on the path, it is taken from there alone.
"""

import sys
from importlib.machinery import PathFinder


def _keep_to_the_path() -> None:
    if PathFinder.find_spec("refblo") is not None:
        sys.meta_path[:] = [
            finder for finder in sys.meta_path if not _of_editable_installation(finder)
        ]


def _of_editable_installation(finder: object) -> bool:
    module = getattr(finder, "__module__", "")
    return module.startswith("__editable__") and "refblo" in module


_keep_to_the_path()
