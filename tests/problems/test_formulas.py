"""Losses that have no sympy statement, against their formulas written out term by term."""

import math

import torch
from torch.nn.functional import cross_entropy

from refblo.noise import Draws, Stream
from refblo.problems import build
from refblo.problems.data import digits, iris

TERMS = 200 * 650
"""More additions than any of these losses makes; each rounds by at most u relative to the terms' sum."""


def close(value: float, expected: float) -> bool:
    """Equal up to the rounding of sums of terms of one sign or of the size of the result."""
    return abs(value - expected) <= TERMS * 2**-53 * max(abs(expected), 1.0)


def test_the_taylor_loss_is_equation_53() -> None:
    case = build("taylor_loss_iris")
    split = iris(75, 75)
    theta = case.problem.initial(case.lam)
    weights, biases = theta[:12].reshape(4, 3).tolist(), theta[12:].tolist()
    lam = case.lam.tolist()
    total = 0.0
    for x, y in zip(split.train.tolist(), split.train_targets.tolist(), strict=True):
        logits = [sum(x[i] * weights[i][j] for i in range(4)) + biases[j] for j in range(3)]
        partition = sum(math.exp(logit) for logit in logits)
        inside = 0.0
        for logit, target in zip(logits, y, strict=True):
            u, w = math.exp(logit) / partition - lam[1], target - lam[0]
            inside += lam[2] * u + lam[3] / 2 * u**2 + lam[4] / 6 * u**3
            inside += lam[5] * u * w + lam[6] / 2 * u**2 * w + lam[7] / 2 * u * w**2
        total += -inside / 3
    assert close(float(case.problem.inner(case.lam, theta, None)), total / 75)


def test_the_taylor_loss_starts_near_the_cross_entropy() -> None:
    """Its λ is drawn around −y log f expanded at ½: −y(log ½ + 2(f − ½) − 2(f − ½)² + …)."""
    case = build("taylor_loss_iris")
    centre = torch.tensor([0.0, 0.5, 0, 0, 0, 2, -4, 0], dtype=torch.float64)
    # Eight normal draws of deviation 0.1: a norm above 0.6 has a chance below 1e-4.
    assert (case.lam - centre).norm() < 0.6


def test_softmax_regression_is_equation_1() -> None:
    case, split = build("softmax_digits"), digits(200, 200)
    theta = case.problem.initial(case.lam)
    weights, biases = theta[:640].reshape(64, 10), theta[640:]

    def likelihood(x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return cross_entropy(x @ weights + biases, targets.argmax(dim=1))

    train, train_targets = torch.as_tensor(split.train), torch.as_tensor(split.train_targets)
    penalty = sum(case.lam[f] * weights[f].square().sum() for f in range(64))
    inner = likelihood(train, train_targets) + penalty + 0.01 * biases.square().sum()
    assert close(float(case.problem.inner(case.lam, theta, None)), float(inner))
    validation = torch.as_tensor(split.validation)
    outer = likelihood(validation, torch.as_tensor(split.validation_targets))
    assert close(float(case.problem.outer(case.lam, theta, None)), float(outer))


def test_a_minibatch_is_the_loss_over_its_rows() -> None:
    case, split = build("softmax_digits_minibatch"), digits(200, 200)
    theta = case.problem.initial(case.lam)
    weights, biases = theta[:640].reshape(64, 10), theta[640:]
    rows = case.problem.outer_batches(Draws(1), Stream.OUTER_BATCH, 4)
    assert rows is not None
    assert rows.shape == (100,)
    x = torch.as_tensor(split.validation)[rows]
    labels = torch.as_tensor(split.validation_targets)[rows].argmax(dim=1)
    expected = cross_entropy(x @ weights + biases, labels)
    assert close(float(case.problem.outer(case.lam, theta, rows)), float(expected))


def test_the_network_has_one_l1_weight_a_parameter() -> None:
    case = build("mlp_digits_l1")
    theta = case.problem.initial(case.lam)
    assert case.lam.shape == theta.shape == (172,)
    at_zero = case.problem.inner(torch.zeros_like(case.lam), theta, None)
    penalty = case.problem.inner(case.lam, theta, None) - at_zero
    assert close(float(penalty), float((case.lam * theta.abs()).sum()))


def test_noisy_synth_1d_is_equation_27() -> None:
    case = build("noisy_synth_1d")
    first = torch.tensor([0.2, -0.1], dtype=torch.float64)
    lam = torch.tensor([0.4], dtype=torch.float64)
    theta = torch.tensor([0.7], dtype=torch.float64)
    expected = (1 / 3 + 0.2) * 0.7**3 - (1 - 0.4**2 - 0.1) * 0.7
    assert close(float(case.problem.inner(lam, theta, first)), expected)
    drawn = torch.stack(
        [b for t in range(500) if (b := case.problem.inner_batches(Draws(0), 1, t)) is not None]
    )
    assert drawn.shape == (500, 2)
    assert drawn.abs().max() < 0.3
    # The mean of 1000 uniform draws has deviation 0.3/√3/√1000 = 0.0055: five of them, 6e-7.
    assert abs(float(drawn.mean())) < 5 * 0.3 / math.sqrt(3 * 1000)
