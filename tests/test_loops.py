"""Outer loops against libraries: what is compared and said, not how fast anything is. Under 2 s."""

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from asv_bench import loops, speed
from asv_bench.benchmarks.problems import Setting


def library(factor: float) -> Callable[[str, Setting], dict[str, Callable[[], Tensor]]]:
    """A library whose hypergradient is refblo's times a factor."""

    def make(method: str, setting: Setting) -> dict[str, Callable[[], Tensor]]:
        estimator = speed.estimators()[method]
        return {
            "a library": lambda: estimator.estimate(setting.problem, setting.lam).value * factor
        }

    return make


@pytest.mark.parametrize(("factor", "same"), [(1.0, True), (1.01, False)])
@pytest.mark.parametrize("count", [1, 12])
def test_only_a_library_that_ends_at_the_same_lam_is_counted(
    factor: float, same: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "contenders", library(factor))
    result = loops.compare("IFT-Neumann", 3, count, 2, ["a library"])
    assert ("a library" in result["wrong"]) == (not same)
    assert (result["fastest"] == "a library") == same


def test_the_loop_is_the_same_as_updates_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "contenders", library(1.0))
    mine, other = loops.ours("RMD", 4, 10), loops.theirs("RMD", 4, 10, "a library")
    torch.testing.assert_close(mine, other, rtol=1e-14, atol=0)


def test_a_median_below_the_limit_does_not_hold() -> None:
    result = {"times_faster": {"median": 1.69}, "limit": 1.7}
    assert not loops.holds(result)
    assert loops.holds(result | {"limit": 1.69})


def test_near_are_libraries_and_not_ourselves() -> None:
    seconds = {"refblo": 0.1, "one": 1.0, "two": 1.2, "three": 1.3}
    assert loops.near({"seconds": seconds}) == ["one", "two"]


def test_the_page_is_what_the_results_say() -> None:
    document = json.loads(loops.OUTPUT.read_text(encoding="utf-8"))
    assert loops.PAGE.read_text(encoding="utf-8") == loops.page(document)
    cases = {(m, n, count) for m in speed.estimators() for n, count, _ in loops.CASES}
    assert {(one["method"], one["n"], one["count"]) for one in document["results"]} <= cases
    assert len(loops.left_out(document)) == len(cases) - len(document["results"])
