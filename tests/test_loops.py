"""Outer loops against libraries: what is compared and said, not how fast anything is.

About 5 s of processor time.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from asv_bench import loops, speed
from asv_bench.benchmarks.problems import Setting


def libraries(**factors: float) -> Callable[[str, Setting], dict[str, Callable[[], Tensor]]]:
    """Libraries whose hypergradients are refblo's times a factor."""

    def make(method: str, setting: Setting) -> dict[str, Callable[[], Tensor]]:
        estimator = speed.estimators()[method]

        def run(factor: float) -> Tensor:
            return estimator.estimate(setting.problem, setting.lam).value * factor

        return {name: partial(run, factor) for name, factor in factors.items()}

    return make


@pytest.mark.parametrize("count", [1, 3])
def test_only_a_library_that_ends_at_the_same_lam_is_counted(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "contenders", libraries(right=1.0, wrong=1.01))
    result = loops.compare("IFT-Neumann", 3, count, 2, ["right", "wrong"])
    assert set(result["wrong"]) == {"wrong"}
    assert result["fastest"] == "right"


def test_a_library_that_ends_elsewhere_is_compared_with_by_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loops, "contenders", libraries(wrong=1.01))
    result = loops.compare("IFT-Neumann", 3, 1, 2, ["wrong"])
    assert result["fastest"] is None
    assert "no library gives the same answer" in loops.line(result)


def test_the_loop_is_the_same_as_updates_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "contenders", libraries(right=1.0))
    mine, other = loops.ours("RMD", 4, 10), loops.theirs("RMD", 4, 10, "right")
    torch.testing.assert_close(mine, other, rtol=1e-14, atol=0)


def test_a_median_below_the_limit_does_not_hold() -> None:
    result = {"times_faster": {"median": 1.69}, "limit": 1.7}
    assert not loops.holds(result)
    assert loops.holds(result | {"limit": 1.69})


def test_new_results_take_the_place_of_known_ones_of_the_same_case() -> None:
    def one(method: str, n: int, count: int, seconds: float) -> dict[str, object]:
        return {"method": method, "n": n, "count": count, "seconds": seconds}

    known = [one("RMD", 100, 1, 1.0), one("RMD", 100, 500, 2.0), one("RMD", 10_000, 1, 3.0)]
    new = [one("IFT-CG", 100, 1, 4.0), one("RMD", 100, 1, 5.0)]
    assert [each["seconds"] for each in loops.merged(known, new)] == [5.0, 4.0, 2.0, 3.0]


def test_near_are_libraries_and_not_ourselves() -> None:
    seconds = {"refblo": 0.1, "one": 1.0, "two": 1.2, "three": 1.3}
    assert loops.near({"seconds": seconds}) == ["one", "two"]


def test_the_page_is_what_the_results_say() -> None:
    document = json.loads(loops.OUTPUT.read_text(encoding="utf-8"))
    assert loops.PAGE.read_text(encoding="utf-8") == loops.page(document)
    cases = {(m, n, count) for m in speed.estimators() for n, count, _ in loops.CASES}
    assert {(one["method"], one["n"], one["count"]) for one in document["results"]} <= cases
    assert len(loops.left_out(document)) == len(cases) - len(document["results"])


def test_the_command_writes_what_it_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loops, "contenders", libraries(right=1.0))
    monkeypatch.setattr(loops, "CASES", ((3, 1, 2), (3, 12, 2)))
    file = tmp_path / "new" / "loops.json"
    found = CliRunner().invoke(loops.loops, ["--most", "1", "--output", str(file)])
    document = json.loads(file.read_text(encoding="utf-8"))
    measured = {(one["method"], one["n"], one["count"]) for one in document["results"]}
    assert measured == {(method, 3, 1) for method in speed.estimators()}
    assert found.exit_code == (0 if all(map(loops.holds, document["results"])) else 1), found.output
    assert found.output.count("n = 3, K = 1") == len(measured)
    left = loops.page(document)
    assert "Not measured yet: RMD at n = 3 with K = 12" in left
