"""The comparison of speeds and the roofline: what they say, not how fast anything is."""

import json

import pytest
import torch
from torch import Tensor

from asv_bench import speed
from asv_bench.benchmarks import counted
from asv_bench.benchmarks.problems import Setting, separable
from asv_bench.roofline import Machine, Reached, page
from refblo.chain import Langevin, Schedule
from refblo.cost import measure
from refblo.estimators import FMD, RMD


def test_the_separable_problem_is_what_it_says() -> None:
    setting = separable(4)
    rule, last = Langevin(0.5), Schedule.last(3)
    reverse, forward = (
        method.estimate(setting.problem, setting.lam).value
        for method in (RMD(rule, last), FMD(rule, last))
    )
    torch.testing.assert_close(reverse, forward, rtol=1e-12, atol=1e-12)  # as in test_unrolled.py


def contender(answer: float) -> object:
    def make(_: str, setting: Setting) -> dict[str, object]:
        estimator = speed.estimators()["RMD"]

        def run() -> Tensor:
            return estimator.estimate(setting.problem, setting.lam).value * answer

        return {"a library": run}

    return make


@pytest.mark.full
@pytest.mark.parametrize(("answer", "timed"), [(1.0, True), (1.0 + 1e-6, False)])
def test_a_library_with_another_answer_is_named_and_not_timed(
    answer: float, timed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "contenders", contender(answer))
    monkeypatch.setattr(speed, "available_jax", lambda *_: {})
    found = speed.compare("RMD", 5, rounds=3, compiled=False)
    seconds, wrong = found["seconds"], found["wrong"]
    assert ("a library" in seconds, "a library" in wrong) == (timed, not timed)
    assert ("times_faster" in found) == timed
    assert "over_jax" not in found
    assert set(found["first_call"]) == {"traced"}  # the compiler was not asked for


def test_a_library_is_faster_if_it_beats_all_of_ours() -> None:
    def found(*medians: float) -> dict[str, object]:
        return {"times_faster": {str(median): {"median": median} for median in medians}}

    assert [speed.is_slower(found(*m)) for m in ((0.9, 1.1), (0.9, 0.95), ())] == [0, 1, 0]


def test_the_longest_bound_is_the_roof() -> None:
    cost = measure(lambda: torch.ones(3) + 1)
    one = Reached("a", "b", cost, 0.5, compute=0.1, memory=0.25, calls=0.2)
    assert one.roof == ("memory", 0.25)
    rates = Machine({torch.float32: 2e9, torch.float64: 1e9}, 1e10, 1e-6)
    text = page(rates, [one])
    assert "2.00 GFLOP/s in float32 and 1.00 GFLOP/s in float64" in text
    assert "| memory | 250.00 | 500.00 | 50% |" in text


def test_every_row_of_the_grid_can_be_made() -> None:
    names = [counted.key(*where) for where in counted.grid()]
    assert len(names) == len(set(names))
    assert {where[1] for where in counted.grid()} == set(counted.ESTIMATORS)


def test_the_page_is_what_the_results_say() -> None:
    document = json.loads(speed.OUTPUT.read_text(encoding="utf-8"))
    assert speed.PAGE.read_text(encoding="utf-8") == speed.page(document)
    assert {(one["method"], one["n"]) for one in document["results"]} == {
        (method, n) for method in speed.estimators() for n in speed.SIZES
    }
