"""L1-Reg, (1) and D.2 of Kim and Hospedales: one λ for every weight of a vision transformer.

    inner: mean cross-entropy of a batch of 8 + Σ_j λ_j |θ_j|,      outer: mean cross-entropy of a batch.

At the small scales the images are scikit-learn's digits: the network is trained on the digits 0 to 4, then
fine-tuned on a few images of 5 to 9 with a new head, stopped early, and what is compared starts there. θ
goes on from one outer step to the next. What the paper does not state: λ⁰ = 1e-4, the outer optimiser is
gradient descent, and λ is not kept positive.

What the small scale cuts, so that Table 4 takes some ten minutes of one core: 102,853 weights, images of
8 x 8 pixels, 30 outer steps for 1,000.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from refblo.chain import Langevin, Schedule
from refblo.errors import require
from refblo.estimators import (
    HPOSGLD,
    RMD,
    AmIGO,
    Estimator,
    IFTConjugateGradient,
    IFTNeumann,
    NeumannScaling,
    RMDFirstOrder,
)
from refblo.experiments.data.folders import picture_folder
from refblo.experiments.data.packaged import sklearn_digits
from refblo.experiments.report import Scale
from refblo.experiments.store import Values
from refblo.experiments.study import Arm, Trial, TrialPlace
from refblo.experiments.training import (
    LabelledImages,
    Logits,
    descend,
    early_stopped,
    errors,
    require_enough,
    split,
    train,
)
from refblo.experiments.twins import Twin, descent, whole
from refblo.noise import Draws
from refblo.outer import OuterRun
from refblo.problem import BilevelProblem, FixedInitial, Minibatches, Separable
from refblo.problems.namespace import TORCH
from refblo.problems.regularisers import weighted_l1, weighted_l1_products
from refblo.problems.vit_b_16 import Attention, Size, vision_transformer
from refblo.ravel import module_layout
from refblo.types import Theta

INNER_RATE, BATCH, INNER_STEPS, UNROLLED_STEPS = 0.01, 8, 10, 3
"""D.2: γ, the batch, B + M (and T of the others), and the T that RMD's memory allowed."""
START = 1e-4


@final
@dataclass(frozen=True)
class L1Effort:
    """How much is run.

    Attributes:
        size: of the network.
        pretraining: steps on the first half of the classes.
        parts: images for training, validation, tuning and test.
        outer_steps: K.
        pieces: after which the errors are measured.
    """

    size: Size
    pretraining: int
    parts: tuple[int, int, int, int]
    outer_steps: int
    pieces: int


EFFORTS = {
    Scale.SMOKE: L1Effort(Size(8, 4, 1, 16, 2, 32, 5), 60, (40, 40, 100, 500), 6, 2),
    Scale.SMALL: L1Effort(Size(8, 2, 3, 64, 4, 128, 5), 300, (40, 40, 200, 600), 30, 2),
    Scale.PAPER: L1Effort(Size(classes=37), 0, (110, 110, 110, 3669), 1000, 20),
}
"""At the paper's scale the parts are 3 % of Pets; the tuning split is as large as the validation split."""
TWIN = L1Effort(Size(8, 4, 1, 4, 1, 4, 5), 60, (40, 40, 100, 500), 0, 0)
"""The shrunken twin: 389 weights, so that the Hessian can be formed."""
TWIN_RATE = 0.1


def describe(scale: Scale) -> dict[str, float | int | str]:
    """The settings that every part repeats."""
    effort = EFFORTS[scale]
    size = effort.size
    return {
        "data": "Oxford-IIIT Pet" if scale is Scale.PAPER else "scikit-learn's digits, 5 to 9",
        "network": f"vision transformer, {size.layers} layers of width {size.width}, patches of "
        f"{size.patch} x {size.patch}",
        "weights": count(scale),
        "training images": effort.parts[0],
        "validation images": effort.parts[1],
        "tuning images": effort.parts[2],
        "test images": effort.parts[3],
        "outer steps": effort.outer_steps,
        "inner rate": INNER_RATE,
        "batch": BATCH,
        "start of lam": START,
    }


@cache
def count(scale: Scale) -> int:
    """n = p."""
    from refblo.problems.vit_b_16 import VisionTransformer

    with torch.device("meta"):
        return sum(module_layout(VisionTransformer(EFFORTS[scale].size)).sizes)


@cache
def pretrained(effort: L1Effort) -> Theta:
    """Weights after training on the first half of the classes; the same for every run, as in the paper."""
    theta, logits = vision_transformer(effort.size)
    images = as_pictures(sklearn_digits()).of_classes(0, 5)
    return train(logits, theta, images, effort.pretraining, 32, 3e-3, Draws(11))


def as_pictures(data: LabelledImages) -> LabelledImages:
    """Grey images in the three channels that the transformer expects."""
    return LabelledImages(data.images[:, None].expand(-1, 3, -1, -1).contiguous(), data.labels)


def images(scale: Scale, data: Path | None) -> LabelledImages:
    """Those that are fine-tuned on."""
    if scale is Scale.PAPER:
        require_folder(data)
        return picture_folder("pets", data or Path(), EFFORTS[scale].size.image)
    return as_pictures(sklearn_digits()).of_classes(5, 10)


def require_data(scale: Scale, data: Path | None) -> None:
    """Look at the data before any work.

    Raises:
        ArgumentError, MissingExtraError: if something is missing, cut short or of another kind.
    """
    effort = EFFORTS[scale]
    require_enough(images(scale, data), sum(effort.parts), effort.size.classes)


def require_folder(data: Path | None) -> None:
    """Refuse the paper's scale without a folder.

    Raises:
        ArgumentError: with what to download, and where to put it.
    """
    require(
        data is not None,
        "--data",
        "name a folder at the paper's scale that holds pets/images and pets/annotations as the archives of "
        "the Oxford-IIIT Pet data set (images.tar.gz, annotations.tar.gz) unpack",
        None,
        "download them, unpack both into pets/, and name the folder that pets/ is in",
    )


def l1_problem(
    logits: Logits,
    theta: Theta,
    data: LabelledImages,
    validation: LabelledImages,
    batch: int = BATCH,
) -> BilevelProblem:
    """The bilevel problem from given weights."""

    def loss(of: LabelledImages) -> Callable[[Tensor, Tensor | None], Tensor]:
        def value(theta: Tensor, index: Tensor | None) -> Tensor:
            chosen = of if index is None else of.take(index)
            return cross_entropy(logits(theta, chosen.images), chosen.labels)

        return value

    outer = loss(validation)
    return BilevelProblem(
        inner=Separable(loss(data), weighted_l1(TORCH), weighted_l1_products()),
        outer=lambda _, theta, index: outer(theta, index),
        initial=FixedInitial(theta),
        inner_batches=Minibatches(len(data), min(batch, len(data))),
        outer_batches=Minibatches(len(validation), min(batch, len(validation))),
        name="l1-reg",
    )


def estimator(arm: Arm, schedule: Schedule | None = None) -> Estimator:
    """The method of a row.

    Raises:
        ValueError: for a row that Table 4 does not have.
    """
    plain = Langevin(INNER_RATE)
    numbers = [float(number) for number in arm.option.strip("()").split(",") if number]
    if arm.method == "HPO-SGLD":
        temperature, noise_scale = numbers
        rule = Langevin(INNER_RATE, temperature, noise_scale)
        return HPOSGLD(rule, schedule or Schedule(INNER_STEPS // 2, INNER_STEPS // 2))
    if arm.method == "IFT-Neumann":
        terms = int(numbers[1]) + 1
        return IFTNeumann(plain, INNER_STEPS, numbers[0], terms, NeumannScaling.UNSCALED)
    if arm.method == "IFT-CG":
        return IFTConjugateGradient(plain, INNER_STEPS, int(numbers[1]), numbers[0])
    others: dict[str, Estimator] = {
        "RMD": RMD(plain, Schedule.last(UNROLLED_STEPS)),
        "RMD-FO": RMDFirstOrder(plain, Schedule.last(UNROLLED_STEPS)),
        "AmIGO-CG": AmIGO(plain, INNER_STEPS, INNER_STEPS),
        "AmIGO-SGD": AmIGO(plain, INNER_STEPS, INNER_STEPS, INNER_RATE),
    }
    if arm.method not in others:
        raise ValueError(f"arm must be a row of Table 4, got {arm.label}; choose one")
    return others[arm.method]


@cache
def _prepared(
    scale: Scale, effort: L1Effort, folder: Path | None, seed: int
) -> tuple[Theta, tuple[LabelledImages, ...]]:
    """The start and the parts of one seed, the same for every arm."""
    parts = split(images(scale, folder), effort.parts, Draws(100 + seed))
    theta = _new_head(effort, seed)
    _, logits = vision_transformer(effort.size)
    theta = early_stopped(
        logits, theta, parts[0], parts[1], 5, 8, BATCH, 1e-3, Draws(2**20 + 100 * seed)
    )
    return theta, tuple(parts)


def _new_head(effort: L1Effort, seed: int) -> Theta:
    """Pretrained weights with a head of its own for each seed; random ones without pretraining."""
    size = effort.size
    fresh, _ = vision_transformer(size, seed=seed + 1)
    if effort.pretraining == 0:
        return fresh
    theta, head = pretrained(effort).clone(), size.classes * (size.width + 1)
    theta[-head:] = fresh[-head:]
    return theta


def run(trial: Trial, place: TrialPlace, method: Estimator, rate: float | None = None) -> Values:
    """Warm-up, then the outer loop; errors in percent on the test and the tuning split.

    Args:
        trial: which run.
        place: where it is kept.
        method: the estimator.
        rate: the outer rate; the trial's unless given.
    """
    scale = place.scale
    effort = EFFORTS[scale]
    theta, parts = _prepared(scale, effort, place.data, trial.seed)
    # The start is made on the CPU: it is the same for every device.
    theta, parts = theta.to(place.device), tuple(part.to(place.device) for part in parts)
    attention: Attention = "fused" if trial.arm.method in ("HPO-SGLD", "RMD-FO") else "plain"
    _, logits = vision_transformer(effort.size, attention)
    steps, pieces = effort.outer_steps, effort.pieces
    return descend_from(logits, theta, parts, method, steps, pieces, trial, place, rate)


def descend_from(
    logits: Logits,
    theta: Theta,
    parts: tuple[LabelledImages, ...],
    method: Estimator,
    steps: int,
    pieces: int,
    trial: Trial,
    place: TrialPlace,
    rate: float | None = None,
) -> Values:
    """The outer loop from given weights; errors in percent on the test and the tuning split.

    Args:
        logits: the network.
        theta: its weights.
        parts: images for training, validation, tuning and test.
        method: the estimator.
        steps: K.
        pieces: after which the errors are measured.
        trial: which run.
        place: where it is kept.
        rate: the outer rate; the trial's unless given.
    """
    problem = l1_problem(logits, theta, parts[0], parts[1])

    def measure(ended: OuterRun) -> Values:
        return {
            "test": np.array([errors(logits, ended.theta, parts[3])]),
            "tuning": np.array([errors(logits, ended.theta, parts[2])]),
            "largest lam": np.array([float(ended.lam.max())]),
            "smallest lam": np.array([float(ended.lam.min())]),
        }

    lam = torch.full_like(theta, START)
    return descend(problem, method, lam, steps, pieces, trial, place, measure, rate)


def twin(seed: int, option: str = "(0.01, 0.01)", samples: int = INNER_STEPS // 2) -> Twin:
    """The shrunken twin of one seed, for HPO-SGLD at these (τ, κ) and M."""
    theta, parts = _prepared(Scale.SMALL, TWIN, None, seed)
    _, logits = vision_transformer(TWIN.size, "plain")
    problem = l1_problem(logits, theta, parts[0], parts[1])
    method = estimator(Arm("HPO-SGLD", option), Schedule(INNER_STEPS // 2, samples))
    assert isinstance(method, HPOSGLD)

    def test(_: Tensor, theta: Theta) -> Tensor:
        return cross_entropy(logits(theta, parts[3].images), parts[3].labels)

    lam = torch.full_like(theta, START)
    return Twin(problem, whole(problem), method, descent(TWIN_RATE), lam, test)


TWIN_IN_WORDS = (
    f"{TWIN.size.layers} layer of width {TWIN.size.width}, 389 weights, outer rate {TWIN_RATE:g}"
)
