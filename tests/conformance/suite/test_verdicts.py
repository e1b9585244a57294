"""refblo check: right targets pass, wrong ones are named, in torch, NumPy and JAX."""

import importlib.util

import pytest

from refblo.conformance.suite import run as running
from refblo.conformance.suite.present import lines
from refblo.conformance.suite.process import Limits, Process
from refblo.conformance.suite.rows import Outcome
from refblo.conformance.suite.run import Settings, run
from refblo.conformance.suite.target import Declared
from tests.conformance.suite.targets_and_documents import check_document, target

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason='JAX is not installed (pip install "refblo[jax]")',
)


def test_what_a_target_lacks_is_never_passed() -> None:
    settings, declares = Settings("none.py:at_all"), Declared(estimands=("gibbs",))
    planned = running._planned(settings, declares)
    # Nothing is asked of it, so there need be no such target.
    with Process(settings.target, "torch", settings.limits) as process:
        rows = tuple(running._rows(settings, declares, planned, process))
    result = running._result(settings, declares, rows, (), 0.0)
    assert {row.outcome for row in result.rows} == {Outcome.SKIPPED}
    assert not result.passed
    assert "nothing is known" in list(lines(result))[-1]


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("neumann_plus_one", ("quadratic-direct",)),
        pytest.param("neumann_plus_one", ("example-weights",), marks=pytest.mark.full),
        pytest.param("neumann", ("quadratic-direct", "example-weights"), marks=pytest.mark.full),
    ],
)
def test_either_meaning_of_k_terms_is_accepted_and_named(name: str, names: tuple[str, ...]) -> None:
    result = run(Settings(target(f"good_torch.py:{name}"), entries=names))
    assert result.passed
    conventions = {row.convention for row in result.rows if row.outcome is Outcome.RIGHT}
    assert conventions == {f"K = 5 means {'K + 1' if 'plus' in name else 'K'} terms"}


@pytest.mark.full
def test_a_series_without_its_factor_is_named() -> None:
    names = ("quadratic-direct", "example-weights")
    result = run(Settings(target("good_torch.py:neumann_unscaled"), entries=names))
    assert result.consensus()[0] == ("series not scaled", 2)


@pytest.mark.full
def test_single_precision_is_judged_as_such() -> None:
    result = run(Settings(target("good_torch.py:single"), entries=("network", "quadratic-direct")))
    assert result.passed
    assert all(row.floor is None or 1e-5 < row.floor < 1e-3 for row in result.rows)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("biased_with_own_noise", Outcome.WRONG),
        pytest.param("with_own_noise", Outcome.RIGHT, marks=pytest.mark.full),
    ],
)
def test_a_stochastic_target_is_judged_by_its_mean(name: str, outcome: Outcome) -> None:
    result = run(
        Settings(target(f"good_torch.py:{name}"), entries=("langevin",), estimand="unrolled")
    )
    (found,) = result.rows
    assert found.outcome is outcome
    assert found.statistics is not None
    assert found.statistics.seeds == 200
    assert found.statistics.error_rate == 1e-6
    assert found.statistics.power == 0.99
    assert found.error is not None
    assert (found.error > found.statistics.detectable) == (outcome is Outcome.WRONG)


@pytest.mark.full
def test_numpy_with_a_declared_tolerance() -> None:
    result = run(
        Settings(
            target("good_numpy.py:by_differences"),
            framework="numpy",
            entries=("quadratic-direct", "inner-minibatches"),
        )
    )
    assert result.passed, list(lines(result))
    assert result.count(Outcome.RIGHT) == 2


@needs_jax
@pytest.mark.parametrize(
    "names",
    [
        ("quadratic-direct",),
        pytest.param(("network-minibatches", "adam", "moving-mean"), marks=pytest.mark.full),
    ],
)
def test_a_right_target_in_jax_passes(names: tuple[str, ...]) -> None:
    result = run(Settings(target("good_jax.py:unrolled"), framework="jax", entries=names))
    assert result.passed, list(lines(result))
    assert result.count(Outcome.RIGHT) >= len(names)


@needs_jax
@pytest.mark.full
def test_a_wrong_target_in_jax_is_named() -> None:
    wrong = run(
        Settings(
            target("good_jax.py:half_the_indirect_term"),
            framework="jax",
            entries=("quadratic-direct", "curved-hessian"),
            estimand="unrolled",
        )
    )
    assert wrong.consensus()[0] == ("factor 1/2 in the indirect term", 2)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "framework", "rows"),
    [
        ("good_torch.py:unrolled", "torch", 35),
        ("good_torch.py:implicit", "torch", 11),
        ("good_torch.py:single", "torch", 30),
        ("good_numpy.py:by_differences", "numpy", 20),
        pytest.param("good_jax.py:unrolled", "jax", 35, marks=needs_jax),
    ],
)
def test_right_targets_pass_the_thorough_profile(name: str, framework: str, rows: int) -> None:
    settings = Settings(target(name), framework, full=True, seed=1, limits=Limits(seconds=120))
    result = run(settings)
    assert result.passed, list(lines(result))
    assert result.count(Outcome.RIGHT) >= rows
    check_document(result)
