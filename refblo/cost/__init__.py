"""What a computation costs: derivative evaluations and live bytes, both counted, neither timed."""

from refblo.cost.evaluations import Evaluations, count, counting
from refblo.cost.live_bytes import LiveBytes

__all__ = ["Evaluations", "LiveBytes", "count", "counting"]
