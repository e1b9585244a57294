"""The marginal likelihood of LILA, and λ along a run. One second of processor time."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import jacrev

from refblo.experiments import lila
from refblo.experiments.drift import growth, path_of, predicted
from refblo.experiments.invariance import AugmentedBatches, averaged, every_copy
from refblo.experiments.networks import Perceptron, as_function
from refblo.experiments.training import LabelledImages, Logits
from refblo.noise import Draws
from refblo.types import Theta

SIDE, HIDDEN, CLASSES, COPIES, N = 4, 3, 5, 6, 40
LAYERS = lila.Layers(SIDE**2, HIDDEN, CLASSES)
LAM = torch.tensor([0.1, 0.05, 0.4, 0.1, 0.1, 0.2], dtype=torch.float64)
PRECISIONS = torch.tensor([0.7, 2.0], dtype=torch.float64)


@pytest.fixture
def network() -> tuple[Theta, Logits]:
    theta, logits = as_function(Perceptron(SIDE, HIDDEN, CLASSES).double(), 3)
    return theta.double(), logits


def pictures(count: int) -> Tensor:
    return torch.rand(count, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()


def epsilon(copies: int = COPIES) -> Tensor:
    drawn = torch.rand(6 * copies, generator=torch.Generator().manual_seed(2))
    return 2 * drawn.double() - 1


def test_the_layers_give_the_logits_of_the_network(network: tuple[Theta, Logits]) -> None:
    theta, logits = network
    moved = every_copy(LAM, pictures(7), epsilon())
    ours = LAYERS.forward(theta, moved.flatten(2)).logits
    theirs = averaged(logits, LAM, theta, pictures(7), epsilon())
    # Two orders of summation of 6 copies, in double precision.
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_the_determinant_is_that_of_the_dense_matrix_where_the_factors_are_exact(
    network: tuple[Theta, Logits],
) -> None:
    # With one image and one copy no mean of products is replaced by a product of means.
    theta, logits = network
    moved = every_copy(LAM, pictures(1), epsilon(1))
    ours = lila.occam_factor(LAYERS.forward(theta, moved.flatten(2)), N, PRECISIONS)
    jacobian = jacrev(lambda at: logits(at, moved[0])[0])(theta)
    p = logits(theta, moved[0])[0].softmax(0)
    dense = N * jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    first = HIDDEN * (SIDE**2 + 1)
    expected = sum(
        0.5 * torch.linalg.slogdet(torch.eye(len(block)) + block / precision)[1]
        for block, precision in zip(
            (dense[:first, :first], dense[first:, first:]), PRECISIONS, strict=True
        )
    )
    assert torch.allclose(ours, torch.as_tensor(expected), rtol=1e-9)


def test_the_evidence_has_the_derivative_that_differences_give(
    network: tuple[Theta, Logits],
) -> None:
    theta, _ = network
    labels = torch.arange(9) % CLASSES
    posed = lila.problem(LAYERS, theta, LabelledImages(pictures(9), labels), 4, 8, COPIES)
    assert isinstance(posed.outer_batches, AugmentedBatches)
    batch = posed.outer_batches(Draws(0), 1, 0)
    lam = lila.start(LAM).requires_grad_()
    (gradient,) = torch.autograd.grad(posed.outer(lam, theta, batch), lam)
    for entry in range(8):
        # The images are interpolated linearly, so that a step must stay within one pixel's piece.
        nudge = torch.zeros(8, dtype=torch.float64)
        nudge[entry] = 1e-6
        with torch.no_grad():
            up, down = (posed.outer(lam + sign * nudge, theta, batch) for sign in (1, -1))
        # Central differences: rounding 1e-16 / 1e-6, curvature 1e-12.
        assert float((up - down) / 2e-6) == pytest.approx(float(gradient[entry]), abs=1e-7)


def test_the_growth_of_a_predicted_path_is_the_predicted_one() -> None:
    path = predicted(0.3, 90)
    assert path[0] == pytest.approx(0.1 * 1.006)
    assert growth([{path_of(2): path}, {path_of(2): -path}], 2) == pytest.approx(np.log(1.006))
