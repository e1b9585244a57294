"""asv's benchmarks of the estimators: counts and errors everywhere, time and memory on each device.

Counts are measured once, in `setup_cache`, and validated there. What needs a GPU says "n/a" without one.
"""

from typing import Any

import torch

from refblo.chain import Langevin
from refblo.estimators import Estimator
from refblo.problem import BilevelProblem
from refblo.problems.vit_b_16 import vit_problem

from .counted import ESTIMATORS, PROBLEMS, SIZES, STEPS, Row, key, posed, rows
from .problems import quadratic

Rows = dict[str, dict[str, Any]]


class Counts:
    """Deterministic figures; a figure that changes is a change of the code."""

    params = (PROBLEMS, tuple(ESTIMATORS), (2, *STEPS))
    param_names = ("problem", "estimator", "steps")
    timeout = 600

    def setup_cache(self) -> Rows:
        return rows()

    def setup(self, found: Rows, problem: str, estimator: str, steps: int) -> None:
        if key(problem, estimator, steps) not in found:
            raise NotImplementedError

    def track_flops(self, found: Rows, problem: str, estimator: str, steps: int) -> int:
        return int(found[key(problem, estimator, steps)]["flops"])

    track_flops.unit = "FLOP"  # type: ignore[attr-defined]  # how asv is told a unit

    def track_peak_bytes(self, found: Rows, problem: str, estimator: str, steps: int) -> int:
        return int(found[key(problem, estimator, steps)]["peak_bytes"])

    track_peak_bytes.unit = "bytes"  # type: ignore[attr-defined]

    def track_bytes_moved(self, found: Rows, problem: str, estimator: str, steps: int) -> int:
        return int(found[key(problem, estimator, steps)]["moved"])

    track_bytes_moved.unit = "bytes"  # type: ignore[attr-defined]

    def track_evaluations(self, found: Rows, problem: str, estimator: str, steps: int) -> int:
        return Row(**found[key(problem, estimator, steps)]).evaluations

    track_evaluations.unit = "evaluations"  # type: ignore[attr-defined]

    def track_error(self, found: Rows, problem: str, estimator: str, steps: int) -> float:
        error = found[key(problem, estimator, steps)]["error"]
        return float("nan") if error is None else float(error)

    track_error.unit = "relative error"  # type: ignore[attr-defined]


def _on(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise NotImplementedError  # asv shows n/a


def _prepared(problem: str, estimator: str, steps: int) -> tuple[BilevelProblem, Any, Estimator]:
    if problem not in SIZES:
        raise NotImplementedError
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


class OnAGPU:
    """The same on a GPU, by CUDA's events and its allocator; n/a where there is none."""

    params = (("quadratic 1000 x 600", "vit-b-16"), ("HPO-SGLD", "RMD-FO", "RMD"), STEPS)
    param_names = ("problem", "estimator", "steps")
    timeout = 600

    def setup(self, problem: str, estimator: str, steps: int) -> None:
        _on("cuda")
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
