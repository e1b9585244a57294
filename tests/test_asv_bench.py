"""The benchmarks measure what they say; nothing here looks at a time."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from asv_bench.benchmarks import counted
from asv_bench.benchmarks.problems import Setting, network_with_weight_decay, quadratic, tiny
from asv_bench.benchmarks.timing import interleaved, ratio
from asv_bench.measuring import measures, peers
from refblo.chain import Langevin, Schedule
from refblo.equal_cost.methods import BY_SLUG
from refblo.estimators import FMD, HPOSGLD, RMD

OTHER_SETTINGS = {"RMD, a step at a time": "rmd-stored", "HPO-SGLD, with noise": "hpo-sgld"}
"""A method that is counted under a name of its own, and its name in the table of methods."""

ROOT = Path(__file__).resolve().parent.parent


def test_each_round_calls_each_function_once() -> None:
    calls: Counter[str] = Counter()
    seconds = interleaved(
        {"a": lambda: calls.update("a"), "b": lambda: calls.update("b")}, rounds=3
    )
    assert calls == {"a": 4, "b": 4}  # one round warms up
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}


def test_ratios_are_taken_round_by_round() -> None:
    found = ratio([2.0, 30.0, 6.0], [1.0, 10.0, 6.0])
    assert found.median == 2.0
    assert found.lower_quartile <= 2.0 <= found.upper_quartile


def test_the_network_has_a_million_parameters() -> None:
    setting = network_with_weight_decay(2, closed_form=True)
    n = setting.problem.initial(setting.lam).numel()
    assert 1_000_000 <= n <= 1_010_000
    assert setting.lam.numel() == n


def test_the_declared_derivatives_of_the_weight_decay_are_right() -> None:
    declared, left = (network_with_weight_decay(2, closed_form) for closed_form in (True, False))
    method = HPOSGLD(Langevin(1e-2), Schedule.last(2))
    found, expected = (
        method.estimate(setting.problem, setting.lam).value for setting in (declared, left)
    )
    # Two steps of elementwise products in float32: some units in the last place of each entry.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("setting", [tiny(), tiny(moving_start=True), quadratic(5, 3)])
def test_the_small_problems_are_problems(setting: Setting) -> None:
    rule, schedule = Langevin(0.01), Schedule.last(3)
    reverse = RMD(rule, schedule).estimate(setting.problem, setting.lam).value
    forward = FMD(rule, schedule).estimate(setting.problem, setting.lam).value
    torch.testing.assert_close(reverse, forward, rtol=1e-12, atol=1e-12)  # as in test_unrolled.py


def test_bytes_do_not_depend_on_the_number_of_steps() -> None:
    assert measures.hpo_sgld_peak_bytes(4) == measures.hpo_sgld_peak_bytes(12)


def test_a_longer_run_with_noise_holds_no_more_bytes_either() -> None:
    assert measures.live_bytes(10, 70, noise_scale=1.0).holds


@pytest.mark.full
def test_a_run_of_a_thousand_steps_with_noise_holds_the_bytes_of_ten() -> None:
    assert measures.live_bytes(noise_scale=1.0).holds


@pytest.mark.full
def test_noise_holds_at_most_a_vector() -> None:
    assert measures.bytes_of_noise().holds


def test_a_library_that_disagrees_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(setting: Setting, *_: object) -> dict[str, peers.Hypergradient]:
        def hypergradient() -> Tensor:
            return torch.zeros_like(setting.lam)

        return {"a library": hypergradient}

    monkeypatch.setattr(measures, "available", wrong)
    with pytest.raises(RuntimeError, match="a library and refblo disagree"):
        measures.reverse_mode(rounds=2)


def test_without_libraries_there_is_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "available", lambda *_: {})
    measurement, medians = measures.reverse_mode(rounds=2)
    assert measurement is None
    assert set(medians) == set(measures.reverse_mode_of_refblo())


def test_asv_is_told_where_things_are() -> None:
    path = ROOT / "asv_bench" / "asv.conf.json"
    configuration = json.loads(path.read_text(encoding="utf-8"))
    assert (path.parent / configuration["benchmark_dir"] / "__init__.py").is_file()
    assert (path.parent / configuration["repo"] / "pyproject.toml").is_file()
    assert configuration["environment_type"] == "existing"


def test_what_is_counted_is_in_the_table_of_methods() -> None:
    """The benchmarks keep a list of their own, since they run on old commits: the names are the same."""
    slugs = {
        OTHER_SETTINGS.get(name, name.lower().replace(", ", "-")) for name in counted.ESTIMATORS
    }
    assert slugs <= set(BY_SLUG), slugs - set(BY_SLUG)
