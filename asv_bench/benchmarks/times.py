"""asv's benchmark of time: a hypergradient's time over that of a fixed kernel in the same run.

The kernel is 100 gradients of the inner loss by plain torch, without refblo, so that a figure reads as a
number of inner gradients, and says nothing of how fast the machine was that day.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from refblo.estimators import Estimator

from .counted import ESTIMATORS, SIZES, STEPS, UnknownHereError, make, posed
from .counts import PROBLEMS
from .naming import shown_as, words
from .timing import interleaved, ratio

GRADIENTS = 100
"""Inner gradients in one call of the kernel: about as long as the runs that it is compared with."""
ROUNDS = 5
T = STEPS[-1]


def kernel(n: int, p: int) -> Callable[[], None]:
    """∂_θ of ½ θ·Hθ − θ·Cλ, 100 times; the fixed kernel that times are divided by."""
    generator = torch.Generator().manual_seed(0)
    hessian = torch.eye(n, dtype=torch.float64)
    mixed = torch.randn(n, p, generator=generator, dtype=torch.float64)
    lam, theta = torch.ones(p, dtype=torch.float64), torch.ones(n, dtype=torch.float64)

    def gradients() -> None:
        for _ in range(GRADIENTS):
            at = theta.detach().requires_grad_()
            torch.autograd.grad(0.5 * at @ (hessian @ at) - at @ (mixed @ lam), at)

    return gradients


def times(problem: str, rounds: int = ROUNDS) -> dict[str, float]:
    """Median time of each estimator's run, in inner gradients; without those that are not known here."""
    torch.set_num_threads(1)
    setting = posed(problem)

    def estimate(method: Estimator) -> Callable[[], Tensor]:
        return lambda: method.estimate(setting.problem, setting.lam).value

    functions: dict[str, Callable[[], object]] = {"kernel": kernel(*SIZES[problem])}
    for name in ESTIMATORS:
        try:
            functions[name] = estimate(make(name, setting.rule, T))
        except UnknownHereError:
            continue
    seconds = interleaved(functions, rounds)
    of_kernel = seconds.pop("kernel")
    return {name: GRADIENTS * ratio(each, of_kernel).median for name, each in seconds.items()}


class Times:
    """One hypergradient of 100 inner steps on a dense quadratic, in inner gradients' time."""

    params = (words(PROBLEMS), words(ESTIMATORS))
    param_names = ("problem", "estimator")
    timeout = 600
    version = "1"

    def setup_cache(self) -> dict[str, dict[str, float]]:
        return {problem: times(name) for problem, name in PROBLEMS.items()}

    @shown_as("Time of a hypergradient, T = 100, over one inner gradient", "inner gradients")
    def track_time(self, found: dict[str, dict[str, float]], problem: str, estimator: str) -> float:
        return found[problem].get(estimator, math.nan)
