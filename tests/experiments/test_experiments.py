"""The tables and figures: their digits, and that a second run repeats nothing."""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from refblo.chain import Schedule
from refblo.errors import ArgumentError
from refblo.estimators import FMD, HPOSGLD
from refblo.experiments import figure_1, figure_3
from refblo.experiments.figure_1 import Chance, Table, chance_of_zero, loss_table
from refblo.experiments.figure_3 import DYNAMICS, Errors, trace
from refblo.experiments.landmarks import optimum
from refblo.experiments.methods import Competitor, hpo_sgld
from refblo.experiments.outer_loop import (
    Descent,
    Runs,
    final_state,
    many_seeds,
    with_estimator,
)
from refblo.experiments.printed import TABLE_2, TABLE_3, error_column
from refblo.experiments.recursions import RecursionRun, begun, outer_direct, outer_slope
from refblo.experiments.registry import find, registry
from refblo.experiments.report import Experiment, ExperimentVerdict, Scale, agrees_to_printed_digits
from refblo.experiments.table_2 import (
    FITTING,
    LOOP,
    deterministic_competitors,
    hpo_sgld_readings,
    indirect_weight,
)
from refblo.experiments.table_3 import perturbation_temperature
from refblo.noise import Draws
from refblo.outer import outer_draws

QUICK = [c for c in deterministic_competitors() if "1000" not in c.label]
LONG = [c for c in deterministic_competitors() if "1000" in c.label]


def printed_digits_agree(competitor: Competitor, ended: Runs) -> bool:
    printed = TABLE_2[competitor.label]
    return agrees_to_printed_digits(printed.lam, float(ended.lam[0])) and agrees_to_printed_digits(
        printed.theta, float(ended.theta[0])
    )


@pytest.mark.parametrize("competitor", QUICK, ids=lambda c: c.label)
def test_table_2_to_every_printed_digit(competitor: Competitor) -> None:
    """By the recursions, which test_recursions.py ties to the estimators."""
    ended = final_state(many_seeds(competitor.written_out, competitor.dynamics, LOOP, 1, 0))
    assert printed_digits_agree(competitor, ended)


@pytest.mark.full
@pytest.mark.parametrize("competitor", QUICK, ids=lambda c: c.label)
def test_table_2_to_every_printed_digit_by_the_estimators(competitor: Competitor) -> None:
    assert competitor.estimator is not None
    assert printed_digits_agree(
        competitor, final_state(with_estimator(competitor.estimator, LOOP, 0))
    )


@pytest.mark.full
@pytest.mark.parametrize("competitor", LONG, ids=lambda c: c.label)
def test_table_2_at_1000_inner_iterations(competitor: Competitor) -> None:
    ended = final_state(many_seeds(competitor.written_out, competitor.dynamics, LOOP, 1, 0))
    assert printed_digits_agree(competitor, ended)


@pytest.mark.full
def test_table_2_hpo_sgld_fits_at_other_settings_only(tmp_path: Path) -> None:
    report = find("table-2").run(Scale.SMOKE, tmp_path)
    verdicts = {(row.label, row.quantity): row.verdict for row in report.rows}
    assert verdicts["HPO-SGLD", "λ*"] is ExperimentVerdict.NOT_REPRODUCED
    assert verdicts["HPO-SGLD", "θ*"] is ExperimentVerdict.NOT_REPRODUCED
    for competitor, _ in hpo_sgld_readings()[:FITTING]:
        assert verdicts[competitor.label, "λ*"] is ExperimentVerdict.OTHER_SETTINGS
        assert verdicts[competitor.label, "θ*"] is ExperimentVerdict.OTHER_SETTINGS


@pytest.mark.full
def test_table_3_shows_what_it_claims(tmp_path: Path) -> None:
    report = find("table-3").run(Scale.SMOKE, tmp_path)
    verdicts = {(row.label, row.quantity): row.verdict for row in report.rows}
    for tau in ("1e-05", "1e-10"):
        assert verdicts[f"HPO-SGLD, τ = {tau}", "λ*"] is ExperimentVerdict.NOT_REPRODUCED
    for label in ("IFT-Neumann", "IFT-CG", "RMD", "RMD-FO", "FMD"):
        assert verdicts[label, "λ*"] is ExperimentVerdict.WITHIN_SPREAD
    assert any("more accurate does not hold" in finding for finding in report.findings)


@dataclass(frozen=True)
class NoNoise:
    """Zeros for every draw of a run."""

    def perturbation(self, step: int) -> tuple[float, float]:  # noqa: ARG002
        return 0.0, 0.0

    def langevin(self, step: int) -> float:  # noqa: ARG002
        return 0.0

    def directions(self, count: int) -> np.ndarray:
        return np.zeros((count, 1))


def test_hpo_sgld_weighs_the_indirect_term_as_stated() -> None:
    """At a stationary θ, the recursion's excess over the direct term is −weight·f_θ·C."""
    lam = np.array([0.6])
    theta = np.sqrt(1 - lam**2)
    method = hpo_sgld("any", burn_in=7, samples=5, noise_scale=0.0)
    value, _ = begun(method.written_out)(lam, theta, RecursionRun(method.dynamics, NoNoise()))
    indirect = value - outer_direct(lam, theta)
    expected = -indirect_weight(0.005, 7, 5) * outer_slope(lam, theta) * 2 * lam
    # θ stands still up to rounding, and some 100 operations round numbers below 10.
    np.testing.assert_allclose(indirect, expected, rtol=0, atol=1e-13)


def test_the_error_column_is_that_of_the_rounded_figures() -> None:
    assert "in 16 of 18 places" in error_column(TABLE_2)
    assert "in 22 of 22 places" in error_column(TABLE_3)


def test_the_perturbation_heats_the_chain_by_what_it_is_said_to() -> None:
    """γσ²/2 against the sample variance of 10^5 perturbed gradients.

    The variance of a sample variance of N draws is below 2σ⁴/N (uniform draws have light tails), so four
    standard errors are 4·sqrt(2/N) = 1.8 % (error rate 6e-5).
    """
    theta = optimum().point.theta
    pair = Draws(5).uniform(0, 0, (2, 100_000), -0.3, 0.3).numpy()
    sample = float(np.var(3 * pair[0] * theta**2 - pair[1]))
    assert perturbation_temperature() == pytest.approx(0.005 * sample / 2, rel=0.018)


def test_figure_1_has_the_printed_losses() -> None:
    table = loss_table()
    tenth = table[Fraction(1, 10)]
    assert Fraction(17, 2048) in tenth
    assert max(tenth) == Fraction(785, 2048)
    assert agrees_to_printed_digits("0.0083", float(Fraction(17, 2048)))
    assert agrees_to_printed_digits("0.3833", float(Fraction(785, 2048)))
    for lam, row in table.items():
        for theta_2, value in zip(figure_1.THETA_2_GRID, row, strict=True):
            closed = Fraction(25, 512) * (4 * (theta_2 + Fraction(2, 5)) ** 2 + lam**2)
            assert value == closed
            fit = figure_1.optimum(lam, theta_2)
            assert figure_1.loss(figure_1.TRAINING, lam, fit) == 0


def test_the_chance_of_random_columns_is_that_of_every_choice_on_a_small_table() -> None:
    table: Table = {
        Fraction(0): (Fraction(1), Fraction(3)),
        Fraction(1): (Fraction(1), Fraction(2)),
        Fraction(2): (Fraction(4), Fraction(2)),
    }
    # Of the 8 choices: row 0 picks 1 (4 of them): alone best unless row 1 picks 1 too; picks 3: never best.
    assert chance_of_zero(table) == Chance(strict=Fraction(2, 8), favoured=Fraction(4, 8))


def test_random_columns_select_zero_as_often_as_the_closed_form_says() -> None:
    # The simulation gives ties to the first row, so its share lies between the two closed values; five
    # standard errors of a share over 20 000 runs are below 5·0.5/sqrt(20 000) (error rate below 1e-6).
    table = loss_table()
    chance = chance_of_zero(table)
    share = float(figure_1.random_columns(table, 20_000, Draws(1)).mean())
    slack = 2.5 / 20_000**0.5
    assert float(chance.strict) - slack <= share <= float(chance.favoured) + slack


@pytest.mark.parametrize("start", range(2))
def test_gradient_descent_from_one_point_selects_zero(start: int) -> None:
    assert figure_1.descent_selects(Draws(0), start, shared=True) == 0


def test_figure_3_traces_what_the_estimators_compute() -> None:
    """The mean of the traced steps is HPO-SGLD's and FMD's hypergradient over the same draws."""
    place = figure_3.places(Scale.SMALL)[2]
    traced = trace(place, 7)
    schedule = Schedule(figure_3.BURN_IN, figure_3.SAMPLES)
    problem = Descent(noisy=place.noisy).problem
    lam = problem.initial.theta.clone().fill_(place.lam)  # type: ignore[union-attr]  # a fixed start
    problem = problem.starting_at(lam.clone().fill_(place.theta))
    for method, name in ((HPOSGLD(DYNAMICS, schedule), "ours"), (FMD(DYNAMICS, schedule), "exact")):
        mean = traced[name][figure_3.BURN_IN :].mean()
        value = method.estimate(problem, lam, outer_draws(7, 0)).value.item()
        # Below 10^4 operations on numbers below 10, each rounded by 1.1e-16 relative.
        assert mean == pytest.approx(value, abs=1e-11)


def test_figure_3_errors_vanish_for_an_exact_recursion() -> None:
    same = np.linspace(1, 2, figure_3.BURN_IN + figure_3.SAMPLES)
    errors = Errors.of(
        {"recursion": same, "true": same, "frozen": same, "ours": same, "exact": same}
    )
    for curve in (errors.one_step, errors.all_steps, errors.accumulated, errors.after_burn_in):
        assert not np.any(curve)


def test_an_interrupted_run_is_taken_up(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("gradient descent from a start"):
            raise KeyboardInterrupt

    experiment = find("figure-1")
    with pytest.raises(KeyboardInterrupt):
        experiment.run(Scale.SMOKE, tmp_path, interrupt)
    lines: list[str] = []
    first = experiment.run(Scale.SMOKE, tmp_path, lines.append)
    assert [line.rsplit(": ")[1].split()[0] for line in lines] == ["taken", "taken", "running"]
    lines.clear()
    again = experiment.run(Scale.SMOKE, tmp_path, lines.append)
    assert all("taken from" in line for line in lines)
    assert again == first
    saved = json.loads((tmp_path / "figure-1" / "report.json").read_text(encoding="utf-8"))
    assert len(saved["rows"]) == len(first.rows)
    assert all(row["setting"] for row in saved["rows"])
    for plot in first.plots:
        assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")


def test_the_registry_knows_every_experiment_by_its_name() -> None:
    for name, experiment in registry().items():
        assert isinstance(experiment, Experiment)
        assert experiment.name == name
        assert find(name) is experiment


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match=r"figure-1, table-2.*did you mean table-2\?"):
        find("tabel-2")
