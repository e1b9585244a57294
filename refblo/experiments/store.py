"""Where finished parts of an experiment are kept, so that nothing is computed twice.

One JSON file a part, written whole or not at all; it repeats the settings it was computed under, and
counts only while they are the ones that are asked for.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, final

import numpy as np
from jaxtyping import Float64

from refblo.errors import require
from refblo.experiments.report import Progress, Scale
from refblo.files import write_atomically
from refblo.noise import SEED_CONTRACT

Settings: TypeAlias = Mapping[str, float | int | str]
Values: TypeAlias = Mapping[str, Float64[np.ndarray, " _"]]
FORMAT = 1
"""Raised whenever a part's numbers change their meaning, so that old files count no more."""


@final
@dataclass(frozen=True)
class Store:
    """The parts of one experiment.

    Args:
        output: the output folder of all experiments; made when it is missing.
        experiment: the experiment's name.
        scale: how much of it is run.
        seed: of all its draws.
        progress: told which part is computed and which one is taken from the store.

    Raises:
        ArgumentError: for a negative seed, or an output that is a file.
    """

    output: Path
    experiment: str
    scale: Scale
    seed: int
    progress: Progress

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, "seed", "lie in [0, 2^32)", self.seed, "choose such a seed")
        blocked = next((p for p in (self.output, *self.output.parents) if p.is_file()), None)
        require(
            blocked is None,
            "output",
            "be a folder, or a path at which one can be made",
            f"{self.output} ({blocked} is a file)",
            "choose another place",
        )
        self.parts.mkdir(parents=True, exist_ok=True)

    @property
    def folder(self) -> Path:
        """Where this experiment's plots and report go."""
        return self.output / self.experiment

    @property
    def parts(self) -> Path:
        """Where the finished parts lie."""
        return self.folder / "parts"

    def part(self, key: str, settings: Settings, compute: Callable[[], Values]) -> Values:
        """The values of one part, from its file if that has the same settings, else computed.

        Args:
            key: the part's name, in words.
            settings: everything the values depend on.
            compute: makes the values: named vectors, NaN where a run diverged.
        """
        path = self.parts / f"{_file_name(key)}-{self.scale.value}.json"
        asked = {
            **settings,
            "seed": self.seed,
            "seed contract": SEED_CONTRACT,
            "format": FORMAT,
        }
        stored = _read(path, asked)
        if stored is not None:
            self.progress(f"{key}: taken from {path.name}")
            return stored
        contract = _seed_contract(path)
        if contract not in (None, SEED_CONTRACT):
            self.progress(
                f"{key}: {path.name} was drawn under seed contract {contract}, this version draws under "
                f"{SEED_CONTRACT}: not used"
            )
        self.progress(f"{key}: running")
        values = compute()
        write_atomically(
            path, json.dumps({"key": key, "settings": asked, "values": _plain(values)})
        )
        return values

    def save(self, name: str, text: str) -> Path:
        """Write a text file beside the plots, whole or not at all."""
        path = self.folder / name
        write_atomically(path, text)
        return path


def _file_name(key: str) -> str:
    return "".join(c if c.isalnum() or c in "=." else "-" for c in key).strip("-").lower()


def _plain(values: Values) -> dict[str, list[float | None]]:
    """JSON has no NaN and no infinity: both become null."""
    return {
        name: [x if math.isfinite(x) else None for x in np.asarray(v, float).tolist()]
        for name, v in values.items()
    }


def _read(path: Path, asked: Mapping[str, float | int | str]) -> Values | None:
    """The values of a file, or None if it is missing, unreadable or of other settings."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["settings"] != asked:
            return None
        return {
            name: np.array([math.nan if x is None else float(x) for x in entries])
            for name, entries in content["values"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Whatever is wrong with the file, computing the part again mends it.
        return None


def _seed_contract(path: Path) -> object:
    """Under which seed contract a file's values were drawn; None for a file that cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["settings"].get("seed contract", 1)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
