"""A default device of the caller's, torch.set_default_device, does not reach the checker's own tensors.

The device `meta` stands for any other than that of λ: it holds no numbers, so a tensor that the checker
makes on it cannot be used. Quick: two seconds. Full: every estimand and a function alone.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from refblo import hypergradient_report
from refblo.rules import Adam

ROOT = Path(__file__).resolve().parents[2]
FACTORIES = {"arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "tensor", "zeros"}
FOLDERS = ("refblo/conformance", "refblo/derivatives")
OWN_PROCESS = ("catalogue", "suite")
"""Folders of the conformance suite, which makes all its problems itself."""

X = torch.tensor([[0.3, -1.0], [1.2, 0.4], [-0.6, 0.8]], dtype=torch.float64)
LAM = torch.tensor([-1.0, -2.0], dtype=torch.float64)
THETA0 = torch.tensor([0.2, -0.1], dtype=torch.float64)


def inner(lam: Tensor, theta: Tensor) -> Tensor:
    """Training."""
    return (X @ theta - 1).square().mean() + lam.exp() @ theta.square()


def outer(_: Tensor, theta: Tensor) -> Tensor:
    """Validation."""
    return (X @ theta + 0.5).square().mean()


def run(lam: Tensor, kept: int = 3) -> Tensor:
    """The outer loss after three steps, of which the last `kept` are differentiated."""
    theta = THETA0.clone().requires_grad_()
    for t in range(3):
        if t == 3 - kept:
            theta = theta.detach().requires_grad_()
        theta = theta - 0.1 * torch.autograd.grad(inner(lam, theta), theta, create_graph=True)[0]
    return outer(lam, theta)


def truncated(lam: Tensor, kept: int = 3) -> Tensor:
    """Its derivative."""
    lam = lam.clone().requires_grad_()
    return torch.autograd.grad(run(lam, kept), lam)[0]


@pytest.fixture
def _on_another_device() -> Iterator[None]:
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.usefixtures("_on_another_device")
@pytest.mark.parametrize(
    ("hypergradient", "verdict", "name"),
    [(truncated, "right", None), (lambda lam: truncated(lam, 1), "wrong", "truncated")],
    ids=["right", "truncated"],
)
def test_a_run_is_judged(
    hypergradient: Callable[[Tensor], Tensor], verdict: str, name: str | None
) -> None:
    report = hypergradient_report(inner, outer, LAM, THETA0, hypergradient, steps=3, step_size=0.1)
    assert report.verdict.value == verdict
    assert (report.diagnosis and report.diagnosis.name) == name


@pytest.mark.full
@pytest.mark.usefixtures("_on_another_device")
@pytest.mark.parametrize(
    "options",
    [
        {"step_size": 0.1, "estimand": "pathwise", "burn_in": 1, "steps": 3},
        {"step_size": 0.1, "estimand": "implicit", "steps": 200},
        {"rule": Adam(lr=0.1, eps=1e-3), "steps": 3},
    ],
    ids=["pathwise", "implicit", "adam"],
)
def test_every_run_is_judged(options: dict[str, Any]) -> None:
    report = hypergradient_report(inner, outer, LAM, THETA0, -9 * LAM.exp(), **options)
    assert report.verdict.value == "wrong"


@pytest.mark.full
@pytest.mark.usefixtures("_on_another_device")
def test_a_function_alone_is_judged() -> None:
    report = hypergradient_report(
        objective=lambda lam: run(lam).detach(), lam=LAM, hypergradient=truncated
    )
    assert report.verdict.value == "right"


def places(folder: Path) -> Iterator[str]:
    """Where a tensor is made without a device: on that of the caller's default."""
    for path in sorted(folder.rglob("*.py")):
        if set(OWN_PROCESS) & set(path.relative_to(folder).parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).removeprefix("torch.") in FACTORIES
                and ast.unparse(node.func).startswith("torch.")
                and not any(keyword.arg == "device" for keyword in node.keywords)
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_tensor_of_the_checker_names_its_device(folder: str) -> None:
    assert list(places(ROOT / folder)) == []
