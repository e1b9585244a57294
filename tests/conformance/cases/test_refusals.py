"""What a check refuses to judge: a loss cut off from autograd, a batch not given, kept state.

Share of the quick suite: about 3 s of processor time.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from refblo import hypergradient_report
from refblo.conformance.report import Verdict
from refblo.errors import ArgumentError, LossError, OracleError

GENERATOR = torch.Generator().manual_seed(8)
X, Y, U, V = (
    torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)
    for shape in ((20, 3), (20,), (20, 3), (20,))
)
LAM, THETA = torch.linspace(-2, 0, 3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
RUN: dict[str, Any] = {"steps": 3, "step_size": 0.1, "diagnosis_seconds": 0}


def fit(theta: Tensor, rows: Any = slice(None)) -> Tensor:
    return (X[rows] @ theta - Y[rows]).square().mean()


def outer(_: Tensor, theta: Tensor) -> Tensor:
    return (U @ theta - V).square().mean()


@pytest.mark.parametrize("cut", [torch.no_grad, torch.inference_mode])
def test_a_zero_truth_of_a_loss_that_is_cut_off_is_no_verdict(
    cut: Callable[[], AbstractContextManager[None]],
) -> None:
    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        with cut():
            penalty = (lam.exp() * theta.square()).sum()
        return fit(theta) + penalty.clone()

    for answer in (torch.zeros(3, dtype=torch.float64), LAM):
        with pytest.raises(OracleError, match=r"inner must be .* torch\.no_grad"):
            hypergradient_report(inner, outer, LAM, THETA, answer, **RUN)


def test_a_loss_that_does_not_couple_lam_and_theta_has_a_verdict() -> None:
    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        with torch.no_grad():
            constant = lam.exp().sum()
        return fit(theta) + constant

    report = hypergradient_report(inner, outer, LAM, THETA, torch.zeros_like(LAM), **RUN)
    assert report.verdict is Verdict.RIGHT


def penalty(lam: Tensor, theta: Tensor) -> Tensor:
    return (lam.exp() * theta.square()).sum()


def beside_no_grad(lam: Tensor, theta: Tensor) -> Tensor:
    with torch.no_grad():
        lost = penalty(lam, theta)
    return fit(theta) + lost + (lam * theta).sum()


CUT: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "a penalty under no_grad": (beside_no_grad, "which depends on lam, "),
    "theta detached in a penalty": (
        lambda lam, theta: fit(theta) + penalty(lam, theta) + penalty(lam, theta.detach()),
        "which depends on lam, ",
    ),
    "a number made of theta": (
        lambda lam, theta: fit(theta) + penalty(lam, theta) + theta.square().sum().item(),
        "",
    ),
    "all but a penalty": (lambda lam, theta: fit(theta.detach()) + penalty(lam, theta), ""),
    "a penalty of lam alone": (
        lambda lam, theta: fit(theta) + penalty(lam, theta) + lam.sum() * theta[0].detach().sin(),
        "which depends on lam, ",
    ),
}
"""Losses of which a part is cut off from autograd, and what a report says of the part."""

WHOLE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nothing": lambda lam, theta: fit(theta) + penalty(lam, theta),
    "nothing that theta changes": lambda lam, theta: (
        fit(theta) + penalty(lam, theta) + lam.detach().exp().sum()
    ),
    "a corner in the run": lambda lam, theta: fit(theta) + (lam.exp() * theta.abs()).sum(),
    "a hinge": lambda lam, theta: (1 - X @ theta).relu().sum() + penalty(lam, theta),
}
"""Losses whose gradient is that of their values."""


def _by_autograd(inner: Callable[[Tensor, Tensor], Tensor], start: Tensor) -> Callable[..., Tensor]:
    """Right code for the run that autograd's gradient makes."""

    def answer(lam: Tensor) -> Tensor:
        lam, theta = lam.clone().requires_grad_(), start.clone().requires_grad_()
        for _ in range(3):
            (slope,) = torch.autograd.grad(inner(lam, theta), theta, create_graph=True)
            theta = theta - 0.1 * slope
        return torch.autograd.grad(outer(lam, theta), lam)[0]

    return answer


STARTS = pytest.mark.parametrize(
    "start", [0 * THETA, pytest.param(THETA, marks=pytest.mark.full)], ids=["zeros", "ones"]
)


@STARTS
@pytest.mark.parametrize("cut", CUT)
def test_a_part_that_is_cut_off_is_told_beside_the_verdict(cut: str, start: Tensor) -> None:
    inner, depends = CUT[cut]
    report = hypergradient_report(inner, outer, LAM, start, _by_autograd(inner, start), **RUN)
    assert report.verdict is Verdict.RIGHT  # stopping a gradient on purpose is no mistake
    (finding,) = report.findings
    assert f"a part of inner{', ' if depends else ' '}{depends}is cut off" in finding


@STARTS
@pytest.mark.parametrize("name", WHOLE)
def test_nothing_is_told_of_a_loss_that_is_whole(name: str, start: Tensor) -> None:
    inner = WHOLE[name]
    report = hypergradient_report(inner, outer, LAM, start, _by_autograd(inner, start), **RUN)
    assert (report.verdict, report.findings) == (Verdict.RIGHT, ())


def test_a_part_of_lam_that_is_cut_off_is_no_verdict() -> None:
    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        return fit(theta) + penalty(lam.detach(), theta) + penalty(lam[:2], theta[:2])

    with pytest.raises(OracleError, match="whose derivatives torch knows"):
        hypergradient_report(inner, outer, LAM, THETA, _by_autograd(inner, THETA), **RUN)


def test_a_batch_that_is_used_and_was_not_given_is_asked_for() -> None:
    def inner(lam: Tensor, theta: Tensor, rows: Tensor) -> Tensor:
        return fit(theta, rows) + (lam.exp() * theta.square()).sum()

    with pytest.raises(ArgumentError, match="inner_batches must be given, as inner takes a batch"):
        hypergradient_report(inner, outer, LAM, THETA, LAM, **RUN)
    rows = [torch.arange(5)]
    with pytest.raises(ArgumentError, match=r"inner_batches=batches \* 3"):
        hypergradient_report(inner, outer, LAM, THETA, LAM, inner_batches=rows, **RUN)


def test_none_that_means_all_data_is_taken() -> None:
    def inner(lam: Tensor, theta: Tensor, rows: Tensor | None) -> Tensor:
        found = fit(theta, slice(None) if rows is None else rows)
        return found + (lam.exp() * theta.square()).sum()

    assert hypergradient_report(inner, outer, LAM, THETA, LAM, **RUN).verdict is Verdict.WRONG


def test_a_batch_that_is_not_used_need_not_be_given() -> None:
    def inner(lam: Tensor, theta: Tensor, _: object) -> Tensor:
        return fit(theta) + (lam.exp() * theta.square()).sum()

    assert hypergradient_report(inner, outer, LAM, THETA, LAM, **RUN).verdict is Verdict.WRONG


def test_statistics_that_inner_writes_and_outer_reads_are_told() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)).double()
    theta = {name: part.detach().clone() for name, part in net.named_parameters()}

    def inner(lam: Tensor, theta: dict[str, Tensor]) -> Tensor:
        net.train()
        found: Tensor = functional_call(net, theta, (X,)).square().mean()
        return found + lam.exp().sum() * theta["0.weight"].square().sum()

    def evaluated(_: Tensor, theta: dict[str, Tensor]) -> Tensor:
        net.eval()
        found: Tensor = functional_call(net, theta, (U,))
        return (found.squeeze() - V).square().mean()

    with pytest.raises(OracleError, match=r"hidden state in .*running_(mean|var)"):
        hypergradient_report(inner, evaluated, LAM, theta, LAM, **RUN)


def test_what_inner_keeps_for_outer_outside_of_buffers_is_told() -> None:
    calls = [0.0]

    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        calls[0] += 1
        return fit(theta) + (lam.exp() * theta.square()).sum()

    def outer(_: Tensor, theta: Tensor) -> Tensor:
        return (1 + calls[0]) * theta.square().sum()

    with pytest.raises(OracleError, match=r"because inner .* was called between them: it keeps"):
        hypergradient_report(inner, outer, LAM, torch.ones(3).double(), LAM, **RUN)


def test_a_chain_factor_of_several_tensors_under_one_key_is_named() -> None:
    lam = {"init": LAM, "rate": {"a": LAM[:2] - 1, "b": LAM[2:] - 2}}

    def inner(lam: Any, theta: Tensor) -> Tensor:
        rates = torch.cat([lam["rate"]["a"], lam["rate"]["b"]]).exp()
        found: Tensor = fit(theta) + (rates * theta.square()).sum() + (lam["init"] * theta).sum()
        return found

    def answer(lam: Any) -> Any:
        parts = [lam["init"], lam["rate"]["a"], lam["rate"]["b"]]
        init, one, two = (part.clone().requires_grad_() for part in parts)
        theta = THETA.clone().requires_grad_()
        for _ in range(3):
            loss = inner({"init": init, "rate": {"a": one, "b": two}}, theta)
            (slope,) = torch.autograd.grad(loss, theta, create_graph=True)
            theta = theta - 0.1 * slope
        found = torch.autograd.grad(outer(init, theta), (init, one, two))
        return {"init": found[0], "rate": {"a": found[1] / one.exp(), "b": found[2] / two.exp()}}

    run = {**RUN, "diagnosis_seconds": 60}
    report = hypergradient_report(inner, outer, lam, THETA, answer, **run)
    assert report.diagnosis is not None
    assert report.diagnosis.name == "chain factor of lambda", report.describe()
    assert "exp(lam) by lam is left out in block rate" in report.diagnosis.text


def test_a_loss_that_torch_func_cannot_take_is_told_what_to_change() -> None:
    embedding = torch.nn.Embedding(5, 3, sparse=True).double()
    theta = {name: value.detach().clone() for name, value in embedding.named_parameters()}

    def sparse(lam: Tensor, theta: Any) -> Tensor:
        looked_up = torch.func.functional_call(embedding, theta, (torch.tensor([0, 1, 1]),))
        penalty: Tensor = looked_up.square().sum() * lam.exp()
        return penalty

    def in_place(lam: Tensor, theta: Any) -> Tensor:
        with torch.no_grad():
            theta.clamp_(-1, 1)
        distance: Tensor = (theta - lam).square().sum()
        return distance

    lam = torch.tensor(0.1).double()
    for inner, start, remedy in (
        (sparse, theta, r"sparse=False"),
        (in_place, torch.ones(3).double(), r"do not change lam or theta in place"),
    ):
        with pytest.raises(LossError, match=remedy):
            hypergradient_report(
                inner, lambda _, t: lam, lam, start, torch.zeros_like, steps=2, step_size=0.1
            )
