"""A check leaves the caller's buffers as they were, whatever layer, precision and way to reach the module.

Quick (4 s of processor time).
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor, nn
from torch.func import functional_call

from refblo.conformance import hypergradient_report
from refblo.errors import OracleError, RefbloError

LAM = torch.tensor([0.2, -1.0], dtype=torch.float64)


class Averaged(nn.Module):
    """A layer that keeps an average of what it sees, replaced at each call, and a count."""

    average: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("average", torch.zeros(3))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.average = 0.9 * self.average + 0.1 * x.detach().mean(0).to(self.average)
            self.count += 1
        return x * self.weight


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm1d": lambda: nn.BatchNorm1d(3),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
    "an average of its own": Averaged,
}


class Trainer:
    """Losses that are methods of an object that holds the network."""

    def __init__(self, layer: str, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (6, 2, 3) if layer == "InstanceNorm1d" else (6, 3)
        self.x = torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        self.net = nn.Sequential(nn.Linear(3, 3), LAYERS[layer]()).to(dtype)
        self.theta = {name: p.detach().clone() for name, p in self.net.named_parameters()}

    def inner(self, lam: Tensor, theta: dict[str, Tensor]) -> Tensor:
        decay = torch.stack([value.square().sum() for value in theta.values()]).sum()
        fit: Tensor = functional_call(self.net, theta, (self.x,)).sin().mean()
        return lam[0].exp() * fit + lam[1].exp() * decay

    def hypergradient(self, lam: Tensor) -> Tensor:
        lam = lam.detach().clone().requires_grad_()
        theta = {name: value.clone().requires_grad_() for name, value in self.theta.items()}
        slopes = torch.autograd.grad(
            self.inner(lam, theta), list(theta.values()), create_graph=True
        )
        moved = {
            name: value - 0.1 * s for (name, value), s in zip(theta.items(), slopes, strict=True)
        }
        (found,) = torch.autograd.grad(self.inner(lam, moved), lam)
        return found


def _losses(trainer: Trainer, way: str) -> Callable[..., Tensor]:
    if way == "method":
        return trainer.inner
    if way == "partial":
        return functools.partial(Trainer.inner, trainer)
    net, x = trainer.net, trainer.x

    def inner(lam: Tensor, theta: dict[str, Tensor]) -> Tensor:
        def fit() -> Tensor:
            value: Tensor = functional_call(net, theta, (x,)).sin().mean()
            return value

        decay = torch.stack([value.square().sum() for value in theta.values()]).sum()
        return lam[0].exp() * fit() + lam[1].exp() * decay

    return inner


def _check(trainer: Trainer, way: str, **options: Any) -> None:
    inner = _losses(trainer, way)
    lam = LAM.to(trainer.x.dtype)
    hypergradient_report(
        inner, inner, lam, trainer.theta, trainer.hypergradient, step_size=0.1, **options
    )


def _bits(net: nn.Module) -> dict[str, tuple[int, list[float]]]:
    return {
        name: (id(buffer), buffer.double().reshape(-1).tolist())
        for name, buffer in net.named_buffers()
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("layer", LAYERS)
def test_buffers_are_after_a_check_what_they_were(layer: str, dtype: torch.dtype) -> None:
    for way in ("method", "closure") if dtype is torch.float64 else ("partial",):
        trainer = Trainer(layer, dtype)
        before = _bits(trainer.net)
        try:
            _check(trainer, way, diagnosis_seconds=0)
        except RefbloError:
            assert layer == "an average of its own"  # told to write to nothing outside it
        assert _bits(trainer.net) == before
        trainer.hypergradient(LAM.to(dtype))
        assert _bits(trainer.net) != before


def test_buffers_are_put_back_after_an_error() -> None:
    trainer = Trainer("BatchNorm1d", torch.float64)
    before = _bits(trainer.net)

    def broken(lam: Tensor) -> Tensor:
        trainer.hypergradient(lam)
        raise ValueError("no answer")

    with pytest.raises(RefbloError, match="no answer"):
        hypergradient_report(
            trainer.inner, trainer.inner, LAM, trainer.theta, broken, step_size=0.1
        )
    assert _bits(trainer.net) == before


def test_buffers_are_put_back_by_the_last_of_several_checks() -> None:
    """Of losses that threads may share: `functional_call` puts its tensors into the module for the while."""
    norm, x = nn.BatchNorm1d(3).double(), Trainer("BatchNorm1d", torch.float64).x
    before = _bits(norm)

    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        moved = F.batch_norm(x * theta, norm.running_mean, norm.running_var, training=True)
        return lam[0].exp() * moved.sin().mean() + lam[1].exp() * theta.square().sum()

    def check(_: int) -> bool:
        theta = torch.arange(1.0, 4.0).double()
        return hypergradient_report(inner, inner, LAM, theta, LAM, step_size=0.1).right

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(check, range(6))) == [False] * 6
    assert _bits(norm) == before
    inner(LAM, torch.ones(3).double())
    assert _bits(norm) != before


def test_the_objective_of_a_whole_run_leaves_buffers_alone() -> None:
    trainer = Trainer("BatchNorm1d", torch.float64)
    before = _bits(trainer.net)

    def objective(lam: Tensor) -> float:
        return float(trainer.inner(lam, trainer.theta))

    answer = torch.zeros(2, dtype=torch.float64)
    report = hypergradient_report(objective=objective, lam=LAM, hypergradient=answer)
    assert not report.right
    assert _bits(trainer.net) == before


RUNNING: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "BatchNorm1d": (nn.BatchNorm1d, (6, 3)),
    "BatchNorm2d": (nn.BatchNorm2d, (4, 3, 2, 2)),
    "BatchNorm3d": (nn.BatchNorm3d, (3, 3, 2, 2, 1)),
    "SyncBatchNorm": (nn.SyncBatchNorm, (6, 3)),
    "InstanceNorm1d": (nn.InstanceNorm1d, (4, 3, 3)),
    "InstanceNorm2d": (nn.InstanceNorm2d, (3, 3, 2, 2)),
    "InstanceNorm3d": (nn.InstanceNorm3d, (2, 3, 2, 2, 1)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("layer", RUNNING)
def test_statistics_that_inner_writes_and_outer_reads_are_named(
    layer: str, dtype: torch.dtype
) -> None:
    make, shape = RUNNING[layer]
    generator = torch.Generator().manual_seed(1)
    x = (2 + torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)
    norm = make(3, affine=True, track_running_stats=True)
    net = nn.ModuleDict({"norm": norm}).to(dtype)
    theta = {name: p.detach().clone() for name, p in net["norm"].named_parameters()}
    before = _bits(net)

    def fit(at: dict[str, Tensor], train: bool) -> Tensor:
        net.train(train)
        value: Tensor = functional_call(net["norm"], at, (x,)).sin().mean()
        return value

    def inner(lam: Tensor, at: dict[str, Tensor]) -> Tensor:
        return fit(at, True) + lam[0].exp() * at["weight"].square().sum()

    def outer(_: Tensor, at: dict[str, Tensor]) -> Tensor:
        return fit(at, False)

    message = (
        r"outer.*hidden state in norm\.running_mean, norm\.running_var.*fixed copy of the buffers"
    )
    with pytest.raises(OracleError, match=message):
        hypergradient_report(inner, outer, LAM.to(dtype), theta, LAM, steps=2, step_size=0.1)
    assert _bits(net) == before


def test_a_random_loss_beside_written_buffers_is_still_random() -> None:
    trainer = Trainer("BatchNorm1d", torch.float64)

    def random(lam: Tensor, theta: dict[str, Tensor]) -> Tensor:
        return trainer.inner(lam, theta) * (1 + torch.rand(()).double())

    with pytest.raises(OracleError, match="hidden randomness"):
        hypergradient_report(trainer.inner, random, LAM, trainer.theta, LAM, steps=2, step_size=0.1)
