"""The core's costs for asv: bytes to be compared exactly, ratios and times to be looked at."""

from .bare import inner_and_outer_gradient
from .measures import (
    hpo_sgld_peak_bytes,
    hpo_sgld_step,
    reverse_mode,
    reverse_mode_of_refblo,
    tiny_problems,
)
from .problems import network_with_weight_decay, quadratic


class HPOSGLDMemory:
    """Peak live bytes of HPO-SGLD: the same at every number of steps."""

    params = (10, 100, 1000)
    param_names = ("steps",)
    unit = "bytes"

    def track_peak_live_bytes(self, steps: int) -> int:
        return hpo_sgld_peak_bytes(steps)


class HPOSGLDStep:
    """A step of HPO-SGLD with 10⁶ parameters, over one inner and one outer gradient."""

    params = ((128, 256, 512), (True, False))
    param_names = ("batch_size", "closed_form")
    unit = "ratio"
    timeout = 300

    def track_step_over_gradients(self, batch_size: int, closed_form: bool) -> float:
        return hpo_sgld_step(batch_size, closed_form, rounds=9).ratio.median


class Gradients:
    """One inner and one outer gradient with 10⁶ parameters: what the step above is held against."""

    params = (128, 256, 512)
    param_names = ("batch_size",)
    number = 1

    def setup(self, batch_size: int) -> None:
        self.setting = network_with_weight_decay(batch_size, closed_form=True)

    def time_inner_and_outer_gradient(self, batch_size: int) -> None:
        inner_and_outer_gradient(self.setting)


class Overhead:
    """Whole runs on a tiny problem, over the autograd calls that they need."""

    params = tuple(range(5))
    param_names = ("method",)
    unit = "ratio"
    timeout = 300

    def setup_cache(self) -> list[float]:
        return [measurement.ratio.median for measurement in tiny_problems(rounds=9)]

    def track_run_over_bare_calls(self, ratios: list[float], method: int) -> float:
        return ratios[method]


class ReverseMode:
    """Reverse mode on the quadratic; the libraries' share is n/a where none is installed."""

    params = tuple(reverse_mode_of_refblo())
    param_names = ("method",)
    number = 1

    def setup(self, method: str) -> None:
        self.setting = quadratic()
        self.method = reverse_mode_of_refblo()[method]

    def time_hypergradient(self, method: str) -> None:
        self.method.estimate(self.setting.problem, self.setting.lam)


class ReverseModeAgainstLibraries:
    """Reverse mode over the fastest public library."""

    unit = "ratio"
    timeout = 300

    def track_over_fastest_library(self) -> float:
        measurement, _ = reverse_mode(rounds=9)
        return float("nan") if measurement is None else measurement.ratio.median
