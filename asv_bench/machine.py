"""The names under which asv keeps results.

Times belong to a machine, which is named by the model of its processor: a host name says nothing to anybody
else. Counts belong to no machine, so those of all commits lie under one name, wherever they were counted.
"""

import platform
import re
from pathlib import Path

ANY = "any machine"
"""Where counts are kept."""

CPU_INFO = Path("/proc/cpuinfo")


def processor(cpu_info: str | None = None) -> str:
    """The model of this machine's processor, with its family and model number where they are known.

    Virtual machines often name a processor without its generation, which the numbers tell apart.

    Args:
        cpu_info: the text of Linux's /proc/cpuinfo; read if not given, and done without elsewhere.
    """
    if cpu_info is None:
        cpu_info = CPU_INFO.read_text(encoding="utf-8") if CPU_INFO.is_file() else ""
    known: dict[str, str] = {}
    for line in cpu_info.splitlines():
        name, _, value = line.partition(":")
        known.setdefault(name.strip(), value.strip())
    model = known.get("model name") or platform.processor() or platform.machine()
    text = re.sub(r"\((?:R|TM|tm|C)\)", "", model)
    keys = {"family": "cpu family", "model": "model"}
    numbers = [f"{name} {known[key]}" for name, key in keys.items() if key in known]
    # asv makes names of folders and addresses of it.
    return re.sub(r"[^A-Za-z0-9.@ -]+", " ", " ".join([text, *numbers])).replace("  ", " ").strip()
