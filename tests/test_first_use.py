"""What torch imports late is not imported for a first verdict, or without garbage collection: 4 s."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from refblo.derivatives import import_what_is_late


@pytest.fixture
def kept() -> Iterator[None]:
    collects = gc.isenabled()
    yield
    (gc.enable if collects else gc.disable)()


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("collects", [True, False])
def test_garbage_collection_is_as_it_was(collects: bool) -> None:
    (gc.enable if collects else gc.disable)()
    import_what_is_late.cache_clear()
    import_what_is_late()
    assert gc.isenabled() is collects
    assert {"torch._dynamo", "torch._decomp.decompositions_for_jvp"} <= set(sys.modules)


FIRST = """
import sys
import torch
import refblo
inner = lambda lam, theta: ((theta - lam) * torch.arange(3.0, dtype=lam.dtype)).square().sum() / 2
outer = lambda lam, theta: (theta - 1).square().sum() + 0.1 * theta.cos().sum()
def mine(lam):
    at = lam.detach().requires_grad_()
    theta = torch.zeros_like(at).requires_grad_()
    (slope,) = torch.autograd.grad(inner(at, theta), theta, create_graph=True)
    return torch.autograd.grad(outer(at, theta - 0.1 * slope), at)[0]
lam = torch.tensor([0.3, -0.7, 0.2], dtype=torch.float64)
refblo.hypergradcheck(inner, outer, lam, torch.zeros_like(lam), mine, steps=1, step_size=0.1)
print(*(name for name in ("torch._dynamo", "sympy") if name in sys.modules))
"""


def test_a_first_verdict_does_not_wait_for_the_compiler() -> None:
    """It takes a second to import."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.split() == []
