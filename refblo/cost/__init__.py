"""What a computation costs: operations, bytes and derivative evaluations, all counted, none timed."""

from refblo.cost.evaluations import Evaluations, count, counting
from refblo.cost.fake import decide, is_fake, shapes_only
from refblo.cost.live_bytes import LiveBytes
from refblo.cost.meter import Meter
from refblo.cost.pause import uncounted
from refblo.cost.run_cost import Cost, measure

__all__ = [
    "Cost",
    "Evaluations",
    "LiveBytes",
    "Meter",
    "count",
    "counting",
    "decide",
    "is_fake",
    "measure",
    "shapes_only",
    "uncounted",
]
