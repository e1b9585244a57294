"""The core's costs for asv: bytes to be compared exactly, ratios and times to be looked at.

What is measured is imported when it is: asv imports this file on earlier commits too, which lack some of it.
"""

from .naming import shown_as, words

CLOSED_FORM = "in closed form"

TINY = (
    "HPO-SGLD",
    "HPO-SGLD, with noise",
    "HPO-SGLD, start depends on λ",
    "RMD",
    "RMD, a step at a time",
    "RMD-FO",
)
"""What `tiny_problems` measures, in its order."""

WAYS = ("refblo", "refblo, a step at a time", "refblo, checkpointed")
"""The names in `reverse_mode_of_refblo`."""


class HPOSGLDMemory:
    """Peak live bytes of HPO-SGLD: the same at every number of steps."""

    params = (10, 100, 1000)
    param_names = ("inner steps",)

    @shown_as("HPO-SGLD: peak memory by the number of steps", "bytes")
    def track_peak_live_bytes(self, steps: int) -> int:
        from asv_bench.measuring.measures import hpo_sgld_peak_bytes

        return hpo_sgld_peak_bytes(steps)


class HPOSGLDStep:
    """A step of HPO-SGLD with 10⁶ parameters, over one inner and one outer gradient."""

    params = ((128, 256, 512), words((CLOSED_FORM, "by autograd")))
    param_names = ("batch size", "derivatives of the regulariser")
    timeout = 300

    @shown_as("A step of HPO-SGLD over its two gradients, 10⁶ parameters", "ratio")
    def track_step_over_gradients(self, batch_size: int, derivatives: str) -> float:
        from asv_bench.measuring.measures import hpo_sgld_step

        return hpo_sgld_step(batch_size, derivatives == CLOSED_FORM, rounds=9).ratio.median


class Gradients:
    """One inner and one outer gradient with 10⁶ parameters: what the step above is held against."""

    params = (128, 256, 512)
    param_names = ("batch size",)
    number = 1

    def setup(self, batch_size: int) -> None:
        from .problems import network_with_weight_decay

        self.setting = network_with_weight_decay(batch_size, closed_form=True)

    @shown_as("One inner and one outer gradient, 10⁶ parameters", "seconds")
    def time_inner_and_outer_gradient(self, batch_size: int) -> None:
        from asv_bench.measuring.bare import inner_and_outer_gradient

        inner_and_outer_gradient(self.setting)


class Overhead:
    """Whole runs on a tiny problem, over the autograd calls that they need."""

    params = (words(TINY),)
    param_names = ("estimator",)
    timeout = 300

    def setup_cache(self) -> dict[str, float]:
        from asv_bench.measuring.measures import tiny_problems

        measured = tiny_problems(rounds=9)
        return dict(zip(TINY, (one.ratio.median for one in measured), strict=True))

    @shown_as("A run on a tiny problem over its bare autograd calls", "ratio")
    def track_run_over_bare_calls(self, ratios: dict[str, float], estimator: str) -> float:
        return ratios[estimator]


class ReverseMode:
    """Reverse mode on the quadratic; the libraries' share is n/a where none is installed."""

    params = (words(WAYS),)
    param_names = ("way of reverse mode",)
    number = 1

    def setup(self, method: str) -> None:
        from asv_bench.measuring.measures import reverse_mode_of_refblo

        from .problems import quadratic

        self.setting = quadratic()
        self.method = reverse_mode_of_refblo()[method]

    @shown_as("Reverse mode on a dense quadratic, T = 100", "seconds")
    def time_hypergradient(self, method: str) -> None:
        self.method.estimate(self.setting.problem, self.setting.lam)


class ReverseModeAgainstLibraries:
    """Reverse mode over the fastest public library."""

    timeout = 300

    @shown_as("Reverse mode over the fastest public library", "ratio")
    def track_over_fastest_library(self) -> float:
        from asv_bench.measuring.measures import reverse_mode

        measurement, _ = reverse_mode(rounds=9)
        return float("nan") if measurement is None else measurement.ratio.median
