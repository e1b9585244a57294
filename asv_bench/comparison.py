"""The frame of the commands that compare refblo with public libraries: `asv_bench.speed`, `asv_bench.loops`.

What is measured and what a page says stands in those files; here is how such a run begins, and how its
results and its page are written.
"""

import importlib.util
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from rich.console import Console

LIBRARIES = ("hypergrad", "torchopt", "higher", "betty", "boat_torch", "jax")


def begin() -> Console:
    """Compute on one thread, and print which libraries are not installed."""
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 140)
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        console.print(f"not installed, and left out: {', '.join(missing)}")
    return console


@final
@dataclass(frozen=True, eq=False)
class ResultFile:
    """Where the results of a comparison go.

    Attributes:
        output: the JSON file.
        committed: the JSON file of the repository; the page is written only with it.
        page_file: the page of the docs.
        page: the text of the page, from the document that the JSON file holds.
        steps: T, which the document states.
    """

    output: Path
    committed: Path
    page_file: Path
    page: Callable[[dict[str, Any]], str]
    steps: int

    def write(self, results: list[dict[str, Any]]) -> None:
        """Write the results so far, so that a run which is cut short keeps them."""
        document = {
            "machine": platform.machine(),
            "torch": torch.__version__,
            "steps": self.steps,
            "results": results,
        }
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        if self.output == self.committed:
            self.page_file.write_text(self.page(document), encoding="utf-8")
