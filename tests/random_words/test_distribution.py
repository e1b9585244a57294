"""The draws are standard normal numbers, independent between seeds, streams and steps.

Takes 3 s of the quick suite; the full one draws 10⁸ numbers, in some minutes.
"""

import pytest
import torch

from asv_bench import draws
from asv_bench.measuring.draws import PART, Statistic, statistics
from refblo.noise import SEED_CONTRACT, Draws

LIMIT = 1e-4
"""Right draws have one of their six figures less likely than this in one of 1,600 samples."""


def bad(found: list[Statistic]) -> list[str]:
    return [f"{one.name} = {one.value:.3g}" for one in found if not one.probability >= LIMIT]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_few_million_draws_are_normal(dtype: torch.dtype) -> None:
    assert not bad(statistics(6, dtype))


@pytest.mark.full
def test_a_hundred_million_draws_are_normal() -> None:
    assert not bad(statistics(100))


def test_a_sample_that_is_not_normal_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    # A hundredth too wide: 14 standard deviations of the mean of z² at 10⁶ numbers.
    right = Draws.normal

    def wide(self: Draws, stream: int, step: int, like: torch.Tensor) -> torch.Tensor:
        return right(self, stream, step, like) * 1.01

    monkeypatch.setattr(Draws, "normal", wide)
    assert any("z^2" in name for name in bad(statistics(1)))


def test_the_page_is_what_the_results_say() -> None:
    stored = draws.load(draws.OUTPUT)
    assert draws.PAGE.read_text(encoding="utf-8") == draws.page(stored)
    assert stored["seed contract"] == SEED_CONTRACT
    assert stored["statistics"]["numbers"] == 100 * PART
    assert all(one["probability"] >= LIMIT for one in stored["statistics"]["found"])
