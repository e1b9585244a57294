"""What a computation costs: operations, bytes, evaluations, reads and transfers, all counted, none timed."""

from refblo.cost.evaluations import Evaluations, count, count_all, counting
from refblo.cost.fake import decide, is_fake, number, numbers, shapes_only
from refblo.cost.live_bytes import LiveBytes
from refblo.cost.machine_memory import machine_memory
from refblo.cost.meter import Meter
from refblo.cost.pause import repeated, uncounted
from refblo.cost.pretend import PretendDeviceError, pretend_device
from refblo.cost.run_cost import Cost, measure
from refblo.cost.traffic import HostTraffic

__all__ = [
    "Cost",
    "Evaluations",
    "HostTraffic",
    "LiveBytes",
    "Meter",
    "PretendDeviceError",
    "count",
    "count_all",
    "counting",
    "decide",
    "is_fake",
    "machine_memory",
    "measure",
    "number",
    "numbers",
    "pretend_device",
    "repeated",
    "shapes_only",
    "uncounted",
]
