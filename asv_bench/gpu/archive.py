"""What a session on a device leaves behind: one folder, one file for each part, committed as it is.

    asv_bench/results/gpu/MACHINE-COMMIT/machine.json     the device, its driver, versions, the commit
    asv_bench/results/gpu/MACHINE-COMMIT/PART.json        what one part found, or why it did not end

A part that is there and ended is not run again.
"""

import json
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from refblo.errors import ArgumentError
from refblo.files import write_atomically

ROOT = Path(__file__).resolve().parents[1] / "results" / "gpu"


@final
@dataclass(frozen=True)
class MachineFacts:
    """What the figures depend on.

    Attributes:
        device: the device in words.
        driver: version of its driver; "none" without a GPU.
        cuda: version of CUDA that torch was built for; "none" without.
        torch: version of torch.
        python: version of Python.
        memory: bytes of the device; 0 if it does not say.
        commit: of the source, in full or as given.
    """

    device: str
    driver: str
    cuda: str
    torch: str
    python: str
    memory: int
    commit: str

    @property
    def folder(self) -> str:
        """The name of the archive."""
        name = re.sub(r"[^a-z0-9]+", "-", self.device.lower()).strip("-")
        return f"{name}-{self.commit[:10]}"


@final
@dataclass(frozen=True)
class PartResult:
    """What one part left behind.

    Attributes:
        part: the name of the part.
        seconds: how long it took.
        finished: when it ended, in seconds since 1970.
        status: exit status of its process; None where the time limit ended it.
        output: the end of what it printed.
        found: the figures of the part.
    """

    part: str
    seconds: float
    finished: float
    status: int | None
    output: str = ""
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether it need not be run again."""
        return self.status == 0


def facts(device: torch.device, commit: str) -> MachineFacts:
    """What is known of a device."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, memory = torch.cuda.get_device_name(device), int(properties.total_memory)
    else:
        name, memory = f"{device.type} of {platform.machine()}", 0
    return MachineFacts(
        device=name,
        driver=_driver() if device.type == "cuda" else "none",
        cuda=torch.version.cuda or "none",
        torch=torch.__version__,
        python=platform.python_version(),
        memory=memory,
        commit=commit,
    )


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "not said"
    return done.stdout.strip().splitlines()[0]


@final
@dataclass(frozen=True)
class Archive:
    """The folder of one machine and one commit.

    Args:
        folder: where it is.
    """

    folder: Path

    def begin(self, machine: MachineFacts) -> None:
        """Make the folder, or go on with it.

        Raises:
            ArgumentError: if it is of another machine, driver, version or commit.
        """
        path = self.folder / "machine.json"
        new = asdict(machine)
        if path.exists():
            old = json.loads(path.read_text(encoding="utf-8"))
            if other := [name for name in new if new[name] != old.get(name)]:
                was = ", ".join(f"{name} {old.get(name)!r}" for name in other)
                now = ", ".join(f"{name} {new[name]!r}" for name in other)
                raise ArgumentError(
                    f"--archive must be of this machine and commit, got {self.folder} with {was} where "
                    f"this is {now}; name another folder"
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(new, indent=1) + "\n")

    def machine(self) -> MachineFacts:
        """Whose archive it is."""
        text = (self.folder / "machine.json").read_text(encoding="utf-8")
        return MachineFacts(**json.loads(text))

    def load(self, part: str) -> PartResult | None:
        """What a part left; None if it was not run."""
        path = self.folder / f"{part}.json"
        if not path.exists():
            return None
        return PartResult(**json.loads(path.read_text(encoding="utf-8")))

    def save(self, result: PartResult) -> None:
        """Keep what a part left."""
        text = json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n"
        write_atomically(self.folder / f"{result.part}.json", text)


def archives(root: Path = ROOT) -> list[Archive]:
    """All that are committed, by name."""
    return [Archive(path.parent) for path in sorted(root.glob("*/machine.json"))]
