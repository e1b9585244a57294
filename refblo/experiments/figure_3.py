"""Figure 3 of Kim and Hospedales: how good the first-order approximation (21) is, step by step.

With dθ⁰/dλ = 0, (21) takes f_θ(θ^m)·dθ^{m−1}/dλ for g_{m−1}. Measured are, against exact forward mode (50),

- one step: |f_θ(θ^{m−1})·s_{m−1} − f_θ(θ^m)·s_{m−1}| / |f_θ(θ^m)·s_{m−1}|, where everything before the
  step is exact;
- all steps: |g_{m−1} − f_θ(θ^m)·s_{m−1}| / |f_θ(θ^m)·s_{m−1}|, with the recursion's own g_{m−1}, which is
  what the text says is compared;
- the sums of the hypergradients: |h_m − h_m^true| / |h_m^true| with h_m = Σ_{i≤m} (f_λ(θ^i) + g_i), and
  likewise when the first B terms are dropped as burn-in.

The paper does not say at which λ. Both ends of a run are shown: λ = θ⁰ = 0.1, and the printed optimum's λ
with the chain started at its own θ.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
import torch

from refblo.chain import Chain, Langevin, Schedule
from refblo.derivatives import gradient_and_tangent, outer_gradients
from refblo.estimators import HPOSGLD
from refblo.experiments import landmarks
from refblo.experiments.markdown import saved
from refblo.experiments.methods import STEP_SIZE, TEMPERATURE
from refblo.experiments.outer_loop import Descent
from refblo.experiments.printed import TRUE_LAM
from refblo.experiments.report import (
    ExperimentReport,
    ExperimentRow,
    ExperimentVerdict,
    Progress,
    Scale,
    silent,
)
from refblo.experiments.store import Store, Values
from refblo.outer import outer_draws
from refblo.plotting import COLOURS, PRINTED, drawing
from refblo.problem import BilevelProblem
from refblo.problems.synth_1d import START

BURN_IN, SAMPLES = 50, 50
DYNAMICS = Langevin(STEP_SIZE, TEMPERATURE, 1.0)


@final
@dataclass(frozen=True)
class TracePlace:
    """Where along an outer run the recursion is looked at."""

    label: str
    lam: float
    theta: float
    noisy: bool


def places(scale: Scale) -> tuple[TracePlace, ...]:
    """The start of a run and its end; without and (except in a smoke run) with the noise of (27)."""
    end = landmarks.grid_optimum()
    kinds = (False,) if scale is Scale.SMOKE else (False, True)
    return tuple(
        TracePlace(f"{text}{', noisy' if noisy else ''}", lam, theta, noisy)
        for noisy in kinds
        for text, lam, theta in (
            ("at the start", START, START),
            (f"at λ = {TRUE_LAM}", end.lam, end.theta),
        )
    )


def trace(place: TracePlace, seed: int) -> Values:
    """g_m and its true counterpart along one inner run, by the package's own step and forward mode.

    Returns:
        Vectors with one entry for each m = 1 … B + M: `recursion` g_{m−1}, `true` f_θ(θ^m)·s_{m−1},
        `frozen` f_θ(θ^{m−1})·s_{m−1}, and the hypergradients of step m, `ours` f_λ(θ^m) + g_m and `exact`
        f_λ(θ^m) + f_θ(θ^m)·s_m.
    """
    problem: BilevelProblem = Descent(noisy=place.noisy).problem
    lam = torch.full((1,), place.lam, dtype=torch.float64)
    theta = torch.full_like(lam, place.theta)
    chain = Chain(problem.starting_at(theta), DYNAMICS, outer_draws(seed, 0))
    method = HPOSGLD(DYNAMICS, Schedule(0, BURN_IN + SAMPLES))
    state, tangent = method.init(chain, lam), torch.zeros_like(lam)
    found: dict[str, list[float]] = {
        name: [] for name in ("recursion", "true", "frozen", "ours", "exact")
    }
    for m in range(1, BURN_IN + SAMPLES + 1):
        before = state
        _, change = gradient_and_tangent(
            problem.inner,
            lam,
            before.theta,
            chain.inner_batch(m - 1),
            torch.ones_like(lam),
            tangent,
        )
        state, direct = method.step(chain, lam, before, m)
        _, slope_before = outer_gradients(problem.outer, lam, before.theta, None)
        by_lam, slope = outer_gradients(problem.outer, lam, state.theta, None)
        found["recursion"].append(before.g.item())
        found["true"].append((slope * tangent).item())
        found["frozen"].append((slope_before * tangent).item())
        tangent = tangent.sub(change, alpha=DYNAMICS.step_size)
        if direct is not None:
            found["ours"].append((direct + state.g).item())
        found["exact"].append((by_lam + slope * tangent).item())
    return {name: np.array(values) for name, values in found.items()}


def relative(ours: np.ndarray, true: np.ndarray) -> np.ndarray:
    """|ours − true| / |true|, NaN where the truth is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error: np.ndarray = abs(ours - true) / abs(true)
    error[true == 0] = np.nan
    return error


@final
@dataclass(frozen=True, eq=False)
class Errors:
    """The curves of the figure for one place, one entry for each m."""

    one_step: np.ndarray
    all_steps: np.ndarray
    accumulated: np.ndarray
    after_burn_in: np.ndarray

    @staticmethod
    def of(traced: Values) -> "Errors":
        """From `trace`."""
        ours, exact = traced["ours"], traced["exact"]
        return Errors(
            relative(traced["frozen"], traced["true"]),
            relative(traced["recursion"], traced["true"]),
            relative(np.cumsum(ours), np.cumsum(exact)),
            relative(np.cumsum(ours[BURN_IN:]), np.cumsum(exact[BURN_IN:])),
        )


@final
@dataclass(frozen=True)
class Figure3:
    """Figure 3."""

    name: str = field(default="figure-3", init=False)
    what: str = field(
        default="HPO-SGLD's first-order approximation: its error in one step and accumulated",
        init=False,
    )

    def run(
        self, scale: Scale, output: Path, progress: Progress = silent, seed: int = 0
    ) -> ExperimentReport:
        """Run it; see `Experiment.run`.

        Raises:
            ArgumentError: for a negative seed, or an output folder that cannot be used.
        """
        began = time.monotonic()
        store = Store(output, self.name, scale, seed, progress)
        setting = (
            f"γ = {STEP_SIZE:g}, τ = {TEMPERATURE:g}, κ = 1, B = {BURN_IN}, M = {SAMPLES}, one run"
        )
        traced: dict[str, Values] = {}
        for place in places(scale):
            traced[place.label] = store.part(
                place.label,
                {"setting": setting, "lam": place.lam, "theta": place.theta, "noisy": place.noisy},
                partial(trace, place, seed),
            )
        errors = {label: Errors.of(values) for label, values in traced.items()}
        plot = f"{self.name}.png"
        _draw(store.folder / plot, errors)
        report = ExperimentReport(
            self.name,
            self.what,
            scale,
            seed,
            tuple(_rows(errors, setting)),
            _findings(errors, traced),
            (f"{self.name}/{plot}",),
            time.monotonic() - began,
        )
        return saved(store, report)


def _rows(errors: Mapping[str, Errors], setting: str) -> list[ExperimentRow]:
    rows = []
    for label, curves in errors.items():
        for quantity, value in (
            ("one step, median", np.nanmedian(curves.one_step)),
            ("all steps, m = 10", curves.all_steps[9]),
            (f"all steps, m = {BURN_IN}", curves.all_steps[BURN_IN - 1]),
            (f"all steps, m = {BURN_IN + SAMPLES}", curves.all_steps[-1]),
            ("hypergradient, nothing dropped", curves.accumulated[-1]),
            ("hypergradient, burn-in dropped", curves.after_burn_in[-1]),
        ):
            rows.append(
                ExperimentRow(
                    f"Synth-1D {label}",
                    quantity,
                    None,
                    float(value),
                    ExperimentVerdict.MEASURED,
                    setting,
                    "relative errors; one step: everything before it exact; all steps: the recursion's g",
                )
            )
    return rows


def _findings(errors: Mapping[str, Errors], traced: Mapping[str, Values]) -> tuple[str, ...]:
    sentences = []
    for label, curves in errors.items():
        early, late = curves.accumulated[-1], curves.after_burn_in[-1]
        how = "larger" if late > early else "smaller"
        sign = traced[label]["ours"][BURN_IN:].mean() * traced[label]["exact"][BURN_IN:].mean()
        sentences.append(
            f"Synth-1D {label}: one step is off by {np.nanmedian(curves.one_step):.2g} (median), the "
            f"recursion by {curves.all_steps[9]:.2g} at m = 10 and {curves.all_steps[-1]:.2g} at "
            f"m = {BURN_IN + SAMPLES}; the hypergradient by {late:.2g} with the burn-in dropped, "
            f"{how} than the {early:.2g} with nothing dropped; its sign is "
            f"{'right' if sign > 0 else 'wrong'}."
        )
    sentences.append(
        "A relative error peaks where the outer slope f_θ, and with it the true product, passes zero."
    )
    worse = sum(c.after_burn_in[-1] > c.accumulated[-1] for c in errors.values())
    sentences.append(
        f"Dropping the first iterates makes the hypergradient less accurate in {worse} of "
        f"{len(errors)} places; 'even more accurate' after burn-in expects 0."
    )
    return tuple(sentences)


def _draw(path: Path, errors: Mapping[str, Errors]) -> None:
    m = np.arange(1, BURN_IN + SAMPLES + 1)
    with drawing(path, 3, 13, 4.2) as axes:
        for (label, curves), colour in zip(errors.items(), COLOURS, strict=False):
            # Nothing is approximated at m = 1, where s_0 = 0: the curves begin at m = 2.
            axes[0].plot(m[1:], curves.one_step[1:], color=colour, label=label)
            axes[1].plot(m[1:], curves.all_steps[1:], color=colour, label=label)
            axes[2].plot(m[1:], curves.accumulated[1:], color=colour, label=label)
            axes[2].plot(m[BURN_IN:], curves.after_burn_in, "--", color=colour)
        for axis, title in zip(
            axes,
            (
                "One step, all before it exact",
                "All steps: g against the true product",
                "Hypergradient so far (dashed: burn-in dropped)",
            ),
            strict=True,
        ):
            axis.axvline(BURN_IN, color=PRINTED, lw=1, ls=":")
            axis.set(yscale="log", xlabel="m", title=title, ylim=(1e-5, None))
        axes[1].text(44, 60, "the outer slope\npasses zero", fontsize=8)
        axes[0].set_ylabel("relative error")
        axes[0].legend(loc="upper right")
