"""Where finished parts of an experiment are kept, so that nothing is computed twice.

One JSON file a part, written whole or not at all; it repeats the settings and the version of refblo that it
was computed under and ends in a digest of its content. It counts only while the settings and the version are
the ones that are asked for and the digest is that of the content; otherwise the part is computed again.
"""

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
from jaxtyping import Float64

from refblo.errors import require
from refblo.experiments.report import Progress, Scale
from refblo.files import sweep, write_atomically
from refblo.noise import SEED_CONTRACT

Settings: TypeAlias = Mapping[str, float | int | str]
Values: TypeAlias = Mapping[str, Float64[np.ndarray, " _"]]
_STEP = re.compile(r"--to-step-(\d+)-")
FORMAT = 2
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
        sweep(self.parts)

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
        path, head = self._place(key), self._head(key, settings)
        found = _read(path, head)
        if not isinstance(found, str):
            self.progress(f"{key}: taken from {path.name}")
            return found
        self.progress(f"{key}: running" + (f" again: {found}" if found else ""))
        values = compute()
        content = {**head, "values": _plain(values)}
        text = json.dumps({**content, "sha256": _digest(content)})
        write_atomically(path, text, durable=True)
        return values

    @staticmethod
    def file_name(key: str) -> str:
        """A part's name as the beginning of a file's name."""
        return "".join(c if c.isalnum() or c in "=." else "-" for c in key).strip("-").lower()

    def find(self, key: str, settings: Settings) -> Values | None:
        """The values of one part if they are stored under these settings."""
        found = _read(self._place(key), self._head(key, settings))
        return None if isinstance(found, str) else found

    @staticmethod
    def piece(key: str, step: int) -> str:
        """The name of the part of a run that ends with this outer step."""
        return f"{key}, to step {step}"

    def state(self, key: str) -> Path:
        """Where an unfinished run keeps its state."""
        return self.parts / f"{self.file_name(key)}{self._of_state}"

    def states(self) -> list[Path]:
        """The states of all unfinished runs of this scale."""
        return sorted(self.parts.glob(f"*{self._of_state}"))

    @property
    def _of_state(self) -> str:
        return f"-{self.scale.value}.state.pt"

    def refused(self, key: str, settings: Settings) -> list[str]:
        """Why stored parts of this name, whole or of a piece, do not count under these settings."""
        pieces = self.parts.glob(f"{self.file_name(self.piece(key, 0))[:-1]}*.json")
        steps = sorted(int(number) for p in pieces for number in _STEP.findall(p.name))
        read = [
            _read(self._place(name), self._head(name, settings))
            for name in (key, *(self.piece(key, step) for step in steps))
        ]
        return [reason for reason in read if isinstance(reason, str) and reason]

    def _place(self, key: str) -> Path:
        return self.parts / f"{self.file_name(key)}-{self.scale.value}.json"

    def _head(self, key: str, settings: Settings) -> dict[str, Any]:
        """What a part's file repeats of what it was computed under."""
        return {
            "key": key,
            "settings": {**settings, "seed": self.seed, "format": FORMAT},
            "seed contract": SEED_CONTRACT,
            "refblo": version("refblo"),
        }

    def save(self, name: str, text: str) -> Path:
        """Write a text file beside the plots, whole or not at all."""
        path = self.folder / name
        write_atomically(path, text)
        return path


ROOM = 64 * 2**20
"""Bytes that an output folder must have left before a run begins."""


def require_room(output: Path) -> None:
    """Refuse a full disk before any work.

    Raises:
        ArgumentError: if too little is free where the output goes.
    """
    free = shutil.disk_usage(output).free
    require(
        free >= ROOM,
        "--output",
        f"have {ROOM // 2**20} MiB free",
        f"{free // 2**20} MiB at {output}",
        "make room, or choose another place; finished parts stay valid",
    )


def forget(output: Path, experiment: str, scale: Scale) -> None:
    """Remove the parts and states of one experiment at one scale."""
    for path in (output / experiment / "parts").glob(f"*-{scale.value}.*"):
        path.unlink(missing_ok=True)


def _plain(values: Values) -> dict[str, list[float | None]]:
    """JSON has no NaN and no infinity: both become null."""
    return {
        name: [x if math.isfinite(x) else None for x in np.asarray(v, float).tolist()]
        for name, v in values.items()
    }


def _opened(path: Path) -> dict[str, Any] | str:
    """What a file holds, or why it does not count; an empty text if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):
        return f"{path.name} cannot be read"
    if not isinstance(content, dict) or "sha256" not in content:
        return f"{path.name} has no digest; it comes from an older version"
    if content.pop("sha256") != _digest(content):
        return f"the digest of {path.name} does not match: it was changed since it was written"
    return content


def _read(path: Path, head: Mapping[str, Any]) -> Values | str:
    """The values of a file of this head, or why there are none."""
    content = _opened(path)
    if isinstance(content, str):
        return content
    other = [name for name, wanted in head.items() if content.get(name) != wanted]
    if other:
        return f"{path.name} was computed under another {' and another '.join(other)}"
    values: Values | str
    try:
        values = {
            name: np.array([math.nan if x is None else float(x) for x in entries])
            for name, entries in content["values"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        values = f"{path.name} holds no usable values"
    return values


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of one text for equal contents."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
