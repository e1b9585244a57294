"""asv's benchmarks of time and memory that belong to one machine: on the CPU, minutes; and on a GPU.

What needs a GPU says "n/a" without one.
"""

import time

import torch

from refblo.chain import Langevin, Schedule
from refblo.cost import LiveBytes
from refblo.estimators import HPOSGLD
from refblo.problems.vit_b_16 import vit_problem

from .counted import ESTIMATORS
from .naming import shown_as, words
from .problems import quadratic

QUADRATIC, VIT = "dense quadratic, n = 1000, p = 600", "ViT-B/16"


class AtScaleOnTheCPU:
    """HPO-SGLD on ViT-B/16, B = M = 5, batch 8, on one thread, a first call's checks included: minutes."""

    timeout = 3600

    def setup_cache(self) -> tuple[float, int]:
        torch.set_num_threads(1)
        problem, lam = vit_problem(8)
        method = HPOSGLD(Langevin(1e-3), Schedule(5, 5))
        start = time.process_time()
        with LiveBytes() as memory:
            method.estimate(problem, lam)
        return time.process_time() - start, int(memory.peak)

    @shown_as("ViT-B/16 on the CPU: time", "s")
    def track_seconds(self, found: tuple[float, int]) -> float:
        return found[0]

    @shown_as("ViT-B/16 on the CPU: peak memory", "bytes")
    def track_peak_bytes(self, found: tuple[float, int]) -> int:
        return found[1]


class OnAGPU:
    """The same on a GPU, by CUDA's events and its allocator; n/a where there is none."""

    params = (words((QUADRATIC, VIT)), words(("HPO-SGLD", "RMD")), (10,))
    param_names = ("problem", "estimator", "inner steps")
    timeout = 600

    def setup(self, problem: str, estimator: str, steps: int) -> None:
        if not torch.cuda.is_available():
            raise NotImplementedError  # asv shows n/a
        if problem == VIT:
            if estimator == "RMD":
                raise NotImplementedError  # fused attention has no second derivative
            self.problem, self.lam = vit_problem(8, device="cuda")
        else:
            setting = quadratic(1000, 600, device="cuda")
            self.problem, self.lam = setting.problem, setting.lam
        self.method = ESTIMATORS[estimator](Langevin(1e-3), steps)
        self.method.estimate(self.problem, self.lam)

    @shown_as("On a GPU: time of a hypergradient", "ms")
    def track_milliseconds(self, problem: str, estimator: str, steps: int) -> float:
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # likewise
        torch.cuda.synchronize()
        start.record()
        self.method.estimate(self.problem, self.lam)
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end))

    @shown_as("On a GPU: memory allocated", "bytes")
    def track_allocated(self, problem: str, estimator: str, steps: int) -> int:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.method.estimate(self.problem, self.lam)
        return int(torch.cuda.max_memory_allocated() - before)
