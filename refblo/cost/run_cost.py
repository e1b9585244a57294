"""All the counts of one run together."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import torch

from refblo.cost.evaluations import Evaluations, counting
from refblo.cost.live_bytes import LiveBytes
from refblo.cost.meter import Meter
from refblo.cost.traffic import HostTraffic


@final
@dataclass(frozen=True)
class Cost:
    """What a run costs, counted.

    Attributes:
        flops: floating-point operations of products, solves, convolutions and attention.
        elements: elements that all other kernels compute.
        moved: bytes that the kernels read and write.
        kernels: calls of kernels.
        peak_bytes: the most bytes of tensor storages made in the run that were alive at once.
        evaluations: of the problem's derivatives.
        uncountable: kernels met whose operations no formula gives; then `flops` is a lower bound.
        host_synchronisations: how often the host looks at a tensor's numbers, and waits for them on a GPU.
        transfers: kernels that take a tensor from one device to another; on the CPU there are none.
        places: the lines of both, as "file:line in function: what"; not compared.
    """

    flops: int
    elements: int
    moved: int
    kernels: int
    peak_bytes: int
    evaluations: Evaluations
    uncountable: tuple[str, ...] = ()
    host_synchronisations: int = 0
    transfers: int = 0
    places: tuple[str, ...] = field(default=(), compare=False)

    @property
    def operations(self) -> int:
        """Operations of all kernels, an element of an elementwise one counting as one."""
        return self.flops + self.elements


def measure(run: Callable[[], object]) -> Cost:
    """Run something and count what it costs.

    What is done once for a problem (looking at its losses, sizing a step's graph) is not counted, so a
    first run gives the same figures as any other.

    Example:
        >>> import torch
        >>> matrix, vector = torch.ones(3, 4), torch.ones(4)
        >>> cost = measure(lambda: matrix @ vector)
        >>> cost.flops, cost.peak_bytes, cost.moved
        (24, 12, 76)
    """
    # A collection in the middle of a run would free what a cycle holds, sooner or later by chance.
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        # A GPU's backward pass runs in a thread of its own, where nothing tells that counting is paused.
        with (
            torch.autograd.set_multithreading_enabled(False),
            counting() as evaluations,
            LiveBytes() as memory,
            Meter() as meter,
            HostTraffic() as traffic,
        ):
            run()
    finally:
        if collecting:
            gc.enable()
    return Cost(
        flops=meter.flops,
        elements=meter.elements,
        moved=meter.moved,
        kernels=meter.kernels,
        peak_bytes=memory.peak,
        evaluations=evaluations,
        uncountable=tuple(sorted(meter.uncountable)),
        host_synchronisations=traffic.synchronisations,
        transfers=traffic.transfers,
        places=tuple(traffic.places),
    )
