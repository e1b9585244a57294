"""What the core promises about its cost, measured: each function answers one promise."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch

from asv_bench.benchmarks.problems import Setting, network_with_weight_decay, quadratic, tiny
from asv_bench.benchmarks.timing import Ratio, interleaved, ratio
from asv_bench.measuring import bare
from asv_bench.measuring.peers import available
from refblo.chain import Chain, Langevin, Schedule
from refblo.cost import LiveBytes
from refblo.estimators import HPOSGLD, RMD, Estimator, RMDFirstOrder
from refblo.many_runs import side_by_side
from refblo.noise import Draws


@final
@dataclass(frozen=True)
class Measurement:
    """One ratio and what it may be.

    Attributes:
        name: what takes the time.
        against: what it is divided by.
        ratio: processor time over processor time, or bytes over bytes.
        limit: the most that the median may be; None for a figure that is given for comparison.
        numerator: the median of the numerator, in seconds or bytes.
        denominator: median seconds of what it is compared with.
    """

    name: str
    against: str
    ratio: Ratio
    limit: float | None
    numerator: float
    denominator: float

    @property
    def holds(self) -> bool:
        """Whether the median is within the limit."""
        return self.limit is None or self.ratio.median <= self.limit


def _compare(
    name: str,
    against: str,
    functions: dict[str, Callable[[], object]],
    rounds: int,
    limit: float | None,
) -> Measurement:
    """The first function's time over the second's."""
    ours, theirs = interleaved(functions, rounds).values()
    return Measurement(name, against, ratio(ours, theirs), limit, _median(ours), _median(theirs))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


STEP_LIMIT = 1.15


STEPS = 4
"""Transitions of a run whose step is measured."""


def steps_and_gradients(
    setting: Setting, rule: Langevin, steps: int = STEPS
) -> dict[str, Callable[[], object]]:
    """What some steps of an averaging run take, and as many pairs of an inner and an outer gradient.

    The steps are those that `estimate` makes, from θ⁰ on; once a run g is copied.
    """
    lam = setting.lam
    method = HPOSGLD(rule, Schedule(0, steps))
    chain = Chain(setting.problem, rule, Draws(0))
    state, h = method.init(chain, lam), torch.zeros_like(lam)

    def run() -> None:
        method.run(chain, lam, state, h, range(steps))

    def gradients() -> None:
        for _ in range(steps):
            bare.inner_and_outer_gradient(setting)

    return {"step": run, "gradients": gradients}


def hpo_sgld_step(
    batch_size: int = 256,
    closed_form: bool = True,
    noise_scale: float = 0.0,
    limit: float | None = STEP_LIMIT,
    rounds: int = 15,
) -> Measurement:
    """A step with 10⁶ parameters and a separable regulariser against its two gradients.

    What the step adds are passes over vectors of 10⁶ entries, whose time does not depend on the batch:
    some five with a regulariser in closed form, some ten where autograd differentiates it twice. With
    noise it also draws 10⁶ normal numbers.
    """
    setting = network_with_weight_decay(batch_size, closed_form)
    products = "in closed form" if closed_form else "by autograd"
    noise = ", with noise" if noise_scale > 0 else ""
    return _compare(
        f"HPO-SGLD step, 10⁶ parameters, batch {batch_size}, regulariser {products}{noise}",
        "one inner and one outer gradient",
        steps_and_gradients(setting, Langevin(1e-3, 1.0, noise_scale)),
        rounds,
        limit,
    )


def hpo_sgld_peak_bytes(steps: int, noise_scale: float = 0.0) -> int:
    """The most bytes alive at once during a run of `steps` steps on the quadratic."""
    return _peak_bytes(quadratic(), Langevin(0.05, 1.0, noise_scale), steps)


def _peak_bytes(setting: Setting, rule: Langevin, steps: int) -> int:
    method = HPOSGLD(rule, Schedule(steps // 2, steps - steps // 2))
    method.estimate(setting.problem, setting.lam)  # the losses are looked at in a first run only
    with LiveBytes() as memory:
        method.estimate(setting.problem, setting.lam)
    return int(memory.peak)


def live_bytes(few: int = 10, many: int = 1000, noise_scale: float = 0.0) -> Measurement:
    """Peak live bytes after many steps over those after few."""
    before, after = (hpo_sgld_peak_bytes(steps, noise_scale) for steps in (few, many))
    share, noise = after / before, ", with noise" if noise_scale > 0 else ""
    return Measurement(
        f"HPO-SGLD, peak live bytes at T = {many}{noise}",
        f"the same at T = {few}",
        Ratio(share, share, share),
        1.0,
        after,
        before,
    )


def bytes_of_noise(steps: int = 4) -> Measurement:
    """Peak live bytes with noise over those without at 10⁶ parameters; at most one vector more."""
    setting = network_with_weight_decay(8, closed_form=True)
    quiet, noisy = (_peak_bytes(setting, Langevin(1e-3, 1.0, kappa), steps) for kappa in (0.0, 1.0))
    share, vector = noisy / quiet, setting.lam.numel() * setting.lam.element_size()
    return Measurement(
        "HPO-SGLD, 10⁶ parameters, peak live bytes with noise",
        "the same without",
        Ratio(share, share, share),
        1 + vector / quiet,
        noisy,
        quiet,
    )


def _per_step(
    method: Estimator, setting: Setting, bare_calls: Callable[[], object], rounds: int
) -> Measurement:
    return _compare(
        f"{method.name}, p = {setting.lam.numel()}, whole run",
        "the bare autograd calls it needs",
        {
            "refblo": lambda: method.estimate(setting.problem, setting.lam),
            "bare": bare_calls,
        },
        rounds,
        limit=1.3,
    )


TINY_STEPS = 100


def tiny_problems(rounds: int = 25) -> list[Measurement]:
    """Whole runs of 100 steps at p = 3, n = 5, checks included, against the autograd calls alone."""
    rule, schedule, setting, moving = (
        Langevin(0.01),
        Schedule.last(TINY_STEPS),
        tiny(),
        tiny(moving_start=True),
    )
    stored = RMD(rule, schedule, graph_bytes=0, name="RMD, a step at a time")
    return [
        _per_step(
            HPOSGLD(rule, schedule), setting, lambda: bare.hpo_sgld(setting, TINY_STEPS), rounds
        ),
        _per_step(
            HPOSGLD(replace(rule, noise_scale=1.0), schedule, name="HPO-SGLD, with noise"),
            setting,
            lambda: bare.hpo_sgld(setting, TINY_STEPS),
            rounds,
        ),
        _per_step(
            HPOSGLD(rule, schedule, name="HPO-SGLD, θ⁰(λ)"),
            moving,
            lambda: bare.hpo_sgld_moving(moving, TINY_STEPS),
            rounds,
        ),
        _per_step(
            RMD(rule, schedule),
            setting,
            lambda: bare.reverse_unrolled(setting, TINY_STEPS, rule.step_size),
            rounds,
        ),
        _per_step(stored, setting, lambda: bare.reverse_stored(setting, TINY_STEPS), rounds),
        _per_step(
            RMDFirstOrder(rule, schedule),
            setting,
            lambda: bare.first_order(setting, TINY_STEPS),
            rounds,
        ),
    ]


MANY = 64


def runs_side_by_side(rounds: int = 9) -> Measurement:
    """Runs of 100 noisy steps at p = 3, n = 5 side by side, against the same number one by one."""
    rule, setting = Langevin(0.01, noise_scale=1.0), tiny()
    method = HPOSGLD(rule, Schedule.last(TINY_STEPS))
    many, lams = side_by_side(setting.problem, MANY), setting.lam.repeat(MANY)

    def one_by_one() -> None:
        for seed in range(MANY):
            method.estimate(setting.problem, setting.lam, Draws(seed))

    functions: dict[str, Callable[[], object]] = {
        "side by side": lambda: method.estimate(many, lams),
        "one by one": one_by_one,
    }
    return _compare(f"{MANY} runs side by side", "one by one", functions, rounds, 0.25)


REVERSE_STEPS, REVERSE_STEP_SIZE = 100, 0.1


def reverse_mode_of_refblo() -> dict[str, RMD]:
    """The ways to run reverse mode, by name; the first is the default."""
    rule, schedule = Langevin(REVERSE_STEP_SIZE), Schedule.last(REVERSE_STEPS)
    return {
        "refblo": RMD(rule, schedule),
        "refblo, a step at a time": RMD(rule, schedule, graph_bytes=0),
        "refblo, checkpointed": RMD(rule, schedule, checkpointed=True),
    }


def reverse_mode(rounds: int = 25) -> tuple[Measurement | None, dict[str, float]]:
    """RMD on the quadratic (n = 100, p = 60, T = 100) against the fastest library that is installed.

    Returns:
        The comparison, or None where no library can be imported, and every contender's median
        processor seconds.

    Raises:
        RuntimeError: if two contenders disagree, for then their times mean nothing.
    """
    setting = quadratic()
    theirs = available(setting, REVERSE_STEPS, REVERSE_STEP_SIZE)
    ours = {
        name: lambda method=method: method.estimate(setting.problem, setting.lam).value
        for name, method in reverse_mode_of_refblo().items()
    }
    reference = ours["refblo"]()
    for name, hypergradient in theirs.items():
        # 100 steps of rounding at n = 100: 10⁴ units in the last place, 2e-12, with room.
        if not torch.allclose(hypergradient(), reference, rtol=1e-10, atol=1e-10):
            raise RuntimeError(f"{name} and refblo disagree on the quadratic's hypergradient")
    seconds = interleaved({**ours, **theirs}, rounds)
    medians = {name: _median(values) for name, values in seconds.items()}
    if not theirs:
        return None, medians
    fastest = min(theirs, key=lambda name: medians[name])
    measurement = Measurement(
        f"RMD, quadratic, n = 100, p = 60, T = {REVERSE_STEPS}",
        f"the fastest library: {fastest}",
        ratio(seconds["refblo"], seconds[fastest]),
        1.0,
        medians["refblo"],
        medians[fastest],
    )
    return measurement, medians
