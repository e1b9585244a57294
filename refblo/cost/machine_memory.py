"""How much memory a machine has: what limits a default that trades memory for time."""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup/memory.max")  # the limit of a container; "max" where there is none


@cache
def machine_memory(device: torch.device) -> int | None:
    """The bytes of memory that a device has, whoever uses them now; None where that cannot be found out.

    For the CPU it is the memory of the machine, or of the container where that has less.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type != "cpu":
        return None
    found: list[int] = []
    with suppress(OSError, ValueError, AttributeError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):
        found.append(int(_CGROUP.read_text(encoding="ascii")))
    known = [size for size in found if size > 0]
    return min(known) if known else None
