"""The ordinary-code matrix: right code is right and wrong code is wrong, whatever loss, layer and precision.

Four cells are quick (5 s of processor time); all cells are marked full, in shards. The cells are
functions of their places and seeds: no test here is statistical.
"""

import json
import random
from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from refblo.conformance import Rule, Verdict, hypergradient_report
from tests.conformance.ordinary.layers import LAYERS
from tests.conformance.ordinary.losses import LOSSES
from tests.conformance.ordinary.matrix import (
    RESULTS,
    Cell,
    Side,
    cells,
    judged,
    run,
    shard,
)
from tests.conformance.ordinary.mistakes import IMPLICIT, UNROLLED
from tests.conformance.ordinary.page import PAGE, REASONS, render

SHARDS = 16
NEVER_REFUSED = {"Linear", "Conv1d", "Conv2d", "LayerNorm", "BatchNorm1d", "BatchNorm2d", "LSTM"}


KINDS = (
    ("unrolled", "float64", Side.RIGHT),
    ("unrolled", "float32", Side.WRONG),
    ("implicit", "float64", Side.WRONG),
    ("implicit", "float32", Side.RIGHT),
)


def _sample() -> list[Cell]:
    """A cell of each of these kinds, drawn with seed 4."""
    draw = random.Random(4)
    return [
        draw.choice([c for c in cells() if (c.estimand, c.dtype, c.side) == kind]) for kind in KINDS
    ]


@pytest.mark.parametrize("cell", _sample(), ids=lambda cell: str(cell.index))
def test_a_sample_of_ordinary_code_has_the_right_outcome(cell: Cell) -> None:
    outcome = judged(cell)
    assert outcome is not None
    assert outcome.good, asdict(outcome)


def test_a_mistake_in_the_optimiser_is_named_beside_batch_normalisation() -> None:
    """The diagnosis differentiates in a way that leaves a layer free to write its running statistics."""
    (cell,) = [
        cell
        for cell in cells()
        if LAYERS[cell.layer].name == "BatchNorm1d"
        and LOSSES[cell.loss].name == "triplet_margin_loss"
        and (cell.estimand, cell.dtype, cell.side) == ("unrolled", "float64", Side.WRONG)
    ]
    outcome = judged(cell)
    assert outcome is not None
    assert (outcome.mistake, outcome.named) == ("weight decay forgotten", "weight decay forgotten")
    assert outcome.failed == ()


@pytest.mark.full
@pytest.mark.parametrize("number", range(SHARDS))
def test_all_ordinary_code_has_the_right_outcome(number: int) -> None:
    outcomes = list(run(shard(f"{number}/{SHARDS}")))
    assert len(outcomes) > 0
    bad = [outcome for outcome in outcomes if not outcome.good]
    assert [asdict(one) for one in bad if not one.outcome.startswith("refused")] == []
    assert {one.loss for one in bad} <= set(REASONS)
    assert not any(one.loss in REASONS and one.layer in NEVER_REFUSED for one in bad)


def test_the_matrix_has_every_kind_of_cell_once() -> None:
    found = cells()
    assert len(found) >= 1500
    assert [cell.index for cell in found] == list(range(len(found)))
    places = {(c.layer, c.loss, c.estimand, c.dtype, c.side) for c in found}
    assert len(places) == len(found)
    parts = [cell for number in range(SHARDS) for cell in shard(f"{number}/{SHARDS}")]
    assert sorted(cell.index for cell in parts) == list(range(len(found)))


def test_every_mistake_of_a_run_or_a_solve_is_planted_once_at_least() -> None:
    planted = {case.mistake for case in UNROLLED} | {case.mistake for case in IMPLICIT}
    assert len(planted) >= 55


def test_float32_code_of_a_solve_is_judged_by_the_roundings_of_a_solve() -> None:
    """Not by those of the run that leads there: after two steps it is far from the solution."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(9, 3, generator=generator), torch.randn(9, generator=generator)
    lam = torch.tensor([0.1, -0.2, 0.3])

    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        return (x @ theta - y).square().mean() + (lam.exp() * theta.square()).sum()

    def outer(lam: Tensor, theta: Tensor) -> Tensor:
        return (theta - 1).square().sum() + lam.square().sum()

    def solved(lam: Tensor) -> Tensor:
        lam = lam.detach().clone().requires_grad_()
        gram = 2 * x.T @ x / 9 + torch.diag(2 * lam.exp())
        theta = torch.linalg.solve(gram, 2 * x.T @ y / 9)
        (gradient,) = torch.autograd.grad(outer(lam, theta), lam)
        return gradient

    def report(factor: float) -> Verdict:
        return hypergradient_report(
            inner,
            outer,
            lam,
            torch.zeros(3),
            lambda lam: factor * solved(lam),
            steps=2,
            rule=Rule(0.05),
            estimand="implicit",
            diagnosis_seconds=0,
        ).verdict

    assert report(1.0) is Verdict.RIGHT
    assert report(1.01) is Verdict.WRONG


@pytest.mark.parametrize(("estimand", "most"), [("implicit", 600), ("unrolled", 320)])
def test_a_small_network_is_judged_with_few_gradients(estimand: str, most: int) -> None:
    """All rows of a Jacobian in one backward pass, and no halving of steps that end in rounding."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(8, 30, generator=generator).double()
    labels = torch.randint(3, (8,), generator=generator)
    calls = 0

    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        scores = features @ theta.view(30, 3)
        loss = torch.nn.functional.cross_entropy(scores, labels)
        return loss + (lam.exp() * theta.square().sum()).sum()

    def outer(lam: Tensor, theta: Tensor) -> Tensor:
        return (features @ theta.view(30, 3) + lam).sin().sum()

    lam = torch.tensor([0.1, 0.2, -0.3]).double()
    report = hypergradient_report(
        inner,
        outer,
        lam,
        torch.zeros(90).double(),
        torch.ones(3).double(),
        steps=3,
        step_size=0.1,
        estimand=estimand,
    )
    assert report.verdict is Verdict.WRONG
    assert calls < most


def test_the_page_says_what_the_cells_say() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert PAGE.read_text(encoding="utf-8") == render(found)
    assert found["cells"] == sum(count for _, count in found["table"].values())
    assert found["good"] == sum(good for good, _ in found["table"].values())
    assert found["cells"] - found["good"] == len(found["bad"])
