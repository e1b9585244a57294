"""asv's benchmarks of the estimators: counts and errors everywhere, time and memory on each device.

Counts are measured once, in `setup_cache`, and validated there. What needs a GPU says "n/a" without one.
"""

import time
from typing import Any

import torch

from refblo.chain import Langevin, Schedule
from refblo.cost import LiveBytes
from refblo.estimators import HPOSGLD, Estimator
from refblo.problem import BilevelProblem
from refblo.problems.vit_b_16 import vit_problem

from .counted import AT_SCALE, ESTIMATORS, SIZES, STEPS, Row, key, posed, row_on_shapes, rows
from .problems import quadratic

Rows = dict[str, dict[str, Any]]


class Counts:
    """Deterministic figures; a figure that changes is a change of the code."""

    params = (tuple(SIZES), tuple(ESTIMATORS), STEPS)
    param_names = ("problem", "estimator", "steps")
    timeout = 600

    def setup_cache(self) -> Rows:
        return rows()

    def track_flops(self, found: Rows, problem: str, estimator: str, steps: int) -> int:
        return int(found[key(problem, estimator, steps)]["flops"])

    def track_peak_bytes(self, found: Rows, problem: str, estimator: str, steps: int) -> int:
        return int(found[key(problem, estimator, steps)]["peak_bytes"])

    def track_bytes_moved(self, found: Rows, problem: str, estimator: str, steps: int) -> int:
        return int(found[key(problem, estimator, steps)]["moved"])

    def track_evaluations(self, found: Rows, problem: str, estimator: str, steps: int) -> int:
        return Row(**found[key(problem, estimator, steps)]).evaluations

    def track_host_synchronisations(
        self, found: Rows, problem: str, estimator: str, steps: int
    ) -> int:
        return int(found[key(problem, estimator, steps)]["host_synchronisations"])

    def track_error(self, found: Rows, problem: str, estimator: str, steps: int) -> float:
        return float(found[key(problem, estimator, steps)]["error"])

    track_flops.unit = "FLOP"  # type: ignore[attr-defined]  # how asv is told a unit
    track_peak_bytes.unit = track_bytes_moved.unit = "bytes"  # type: ignore[attr-defined]
    track_evaluations.unit = "evaluations"  # type: ignore[attr-defined]
    track_host_synchronisations.unit = "synchronisations"  # type: ignore[attr-defined]
    track_error.unit = "relative error"  # type: ignore[attr-defined]


class CountsAtScale:
    """The same on ViT-B/16, counted on shapes alone: two steps, batch 8."""

    params = AT_SCALE
    param_names = ("estimator",)
    timeout = 600

    def setup_cache(self) -> dict[str, Row]:
        return {estimator: row_on_shapes(estimator, 2) for estimator in AT_SCALE}

    def track_flops(self, found: dict[str, Row], estimator: str) -> int:
        return found[estimator].flops

    def track_peak_bytes(self, found: dict[str, Row], estimator: str) -> int:
        return found[estimator].peak_bytes

    track_flops.unit = "FLOP"  # type: ignore[attr-defined]
    track_peak_bytes.unit = "bytes"  # type: ignore[attr-defined]


def _prepared(problem: str, estimator: str, steps: int) -> tuple[BilevelProblem, Any, Estimator]:
    setting = posed(problem)
    return setting.problem, setting.lam, ESTIMATORS[estimator](setting.rule, steps)


class OnTheCPU:
    """Time and the process's memory of a hypergradient; asv's own floor under memory is torch's import."""

    params = (tuple(SIZES), tuple(ESTIMATORS), STEPS)
    param_names = ("problem", "estimator", "steps")
    number = 1
    repeat = (3, 20, 1.0)
    warmup_time = 0.1

    def setup(self, problem: str, estimator: str, steps: int) -> None:
        torch.set_num_threads(1)
        self.problem, self.lam, self.method = _prepared(problem, estimator, steps)
        self.method.estimate(self.problem, self.lam)

    def time_hypergradient(self, problem: str, estimator: str, steps: int) -> None:
        self.method.estimate(self.problem, self.lam)

    def peakmem_hypergradient(self, problem: str, estimator: str, steps: int) -> None:
        self.method.estimate(self.problem, self.lam)


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

    def track_seconds(self, found: tuple[float, int]) -> float:
        return found[0]

    def track_peak_bytes(self, found: tuple[float, int]) -> int:
        return found[1]

    track_seconds.unit = "s"  # type: ignore[attr-defined]  # how asv is told a unit
    track_peak_bytes.unit = "bytes"  # type: ignore[attr-defined]  # likewise


class OnAGPU:
    """The same on a GPU, by CUDA's events and its allocator; n/a where there is none."""

    params = (("quadratic 1000 x 600", "vit-b-16"), ("HPO-SGLD", "RMD"), (10,))
    param_names = ("problem", "estimator", "steps")
    timeout = 600

    def setup(self, problem: str, estimator: str, steps: int) -> None:
        if not torch.cuda.is_available():
            raise NotImplementedError  # asv shows n/a
        if problem == "vit-b-16":
            if estimator == "RMD":
                raise NotImplementedError  # fused attention has no second derivative
            self.problem, self.lam = vit_problem(8, device="cuda")
        else:
            setting = quadratic(1000, 600, device="cuda")
            self.problem, self.lam = setting.problem, setting.lam
        self.method = ESTIMATORS[estimator](Langevin(1e-3), steps)
        self.method.estimate(self.problem, self.lam)

    def track_milliseconds(self, problem: str, estimator: str, steps: int) -> float:
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # likewise
        torch.cuda.synchronize()
        start.record()
        self.method.estimate(self.problem, self.lam)
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end))

    track_milliseconds.unit = "ms"  # type: ignore[attr-defined]

    def track_allocated(self, problem: str, estimator: str, steps: int) -> int:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.method.estimate(self.problem, self.lam)
        return int(torch.cuda.max_memory_allocated() - before)

    track_allocated.unit = "bytes"  # type: ignore[attr-defined]
