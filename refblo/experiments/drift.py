"""λ along the runs of Table 8, beside what its reward alone predicts.

The outer loss (59) of Kim and Hospedales ends in −ρ ‖λ‖², which has no lower bound: gradient descent with
rate η multiplies λ by 1 + 2 η ρ at every step,

    λ_k = λ_0 (1 + 2 η ρ)^k,

wherever the cross-entropy does not depend on λ. A rotation by up to ±π and one by more are both any rotation,
so that a learnt full rotation goes on growing at this rate, and its end is one of a number of steps.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from matplotlib.ticker import FuncFormatter, NullFormatter

from refblo.experiments.invariance import ENTRIES, REWARD, ROTATION, START
from refblo.experiments.store import Values
from refblo.experiments.study import StudyRuns
from refblo.plotting import COLOURS, drawing

OURS = "HPO-SGLD"
PRINTED_RATE, PRINTED_STEPS, PRINTED_ROTATION = 0.01, 2000, 10.0
"""η, the number of outer steps, and |λ| of the rotation, as printed for Rot-180."""


def path_of(entry: int) -> str:
    """The name of the numbers that are λ_i after each outer step."""
    return f"lam {entry} along the run"


def predicted(rate: float, steps: int) -> Float64[np.ndarray, " steps"]:
    """λ_k for k = 1 … steps, by the reward alone."""
    factors: np.ndarray = START * (1 + 2 * rate * REWARD) ** np.arange(1, steps + 1)
    return factors


def _paths(values: Sequence[Values], entry: int) -> Float64[np.ndarray, "seeds steps"]:
    """|λ_i| after each outer step, one row a seed."""
    rows: np.ndarray = np.abs(np.stack([v[path_of(entry)] for v in values]))
    return rows


def growth(values: Sequence[Values], entry: int) -> float:
    """The mean growth of log |λ_i| in one outer step of the last third of the run."""
    paths = _paths(values, entry)
    steps = paths.shape[1]
    last = max(2, steps // 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(paths[:, -1]) - np.log(paths[:, -last])
    return float(np.nanmean(logs) / (last - 1))


def drift_finding(runs: StudyRuns) -> list[str]:
    """Where λ ends, how fast its rotation still grows there, and what the reward alone predicts."""
    ends, rates = [], []
    for label, values in runs.runs.items():
        if not label.startswith(f"{OURS} "):
            continue
        kind, rate = label.removeprefix(f"{OURS} "), runs.rates[label]
        mean = ", ".join(
            f"{float(np.nanmean(_paths(values, i)[:, -1])):.2f}" for i in range(len(ENTRIES))
        )
        ends.append(f"{kind} ({mean})")
        rates.append(
            f"{kind} {100 * growth(values, ROTATION):.2f} ({200 * rate * REWARD:.2f} by the reward alone)"
        )
    alone = (1 + 2 * PRINTED_RATE * REWARD) ** PRINTED_STEPS
    return [
        f"Mean |λ| at the end, in the order {', '.join(ENTRIES)}: {'; '.join(ends)}. "
        f"The reward −ρ‖λ‖² has no bound: it multiplies λ by 1 + 2ηρ at each outer step, wherever the "
        f"cross-entropy does not depend on λ, and an end value is one of a number of steps.",
        f"Growth of the rotation in percent of itself for one outer step, over the last third of the run: "
        f"{'; '.join(rates)}.",
        f"At the printed rate {PRINTED_RATE:g} and {PRINTED_STEPS} outer steps the reward alone multiplies λ "
        f"by {alone:.2f}: it does not carry a rotation from π to the printed {PRINTED_ROTATION:g}, which is "
        f"{PRINTED_ROTATION / math.pi:.1f} times that.",
    ]


def draw_paths(path: Path, runs: StudyRuns) -> None:
    """|λ_i| along the run, its mean over the seeds, one panel for each data set."""
    of_kind = {
        label.removeprefix(f"{OURS} "): values
        for label, values in runs.runs.items()
        if label.startswith(f"{OURS} ")
    }
    with drawing(path, len(of_kind), 3.0 * len(of_kind) + 0.6, 3.2) as axes:
        for position, (axis, (kind, values)) in enumerate(zip(axes, of_kind.items(), strict=True)):
            rate = runs.rates[f"{OURS} {kind}"]
            for entry, name in enumerate(ENTRIES):
                paths = _paths(values, entry)
                steps = np.arange(1, paths.shape[1] + 1)
                axis.plot(steps, np.nanmean(paths, axis=0), color=COLOURS[entry], label=name)
            axis.plot(
                steps,
                predicted(rate, steps.size),
                color="black",
                ls="--",
                lw=1.1,
                label="the reward alone",
            )
            axis.set(xlabel="outer step", yscale="log")
            axis.set_title(f"{kind}, outer rate {rate:g}")
            plain = FuncFormatter(lambda number, _: f"{number:g}")
            low, high = axis.get_ylim()
            axis.yaxis.set_major_formatter(plain)
            # Within one power of ten there is at most one major tick.
            axis.yaxis.set_minor_formatter(plain if high < 5 * low else NullFormatter())
            if position == 0:
                axis.set_ylabel("mean |λ|")
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
