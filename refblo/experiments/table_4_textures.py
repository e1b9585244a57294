"""L1-Reg as in Table 4, on EfficientNet-Lite0 with its ImageNet weights and pictures of materials.

    inner: mean cross-entropy of a batch of 8 + Σ_j λ_j |θ_j|,      outer: mean cross-entropy of a batch.

3,383,818 weights with a head for 10 materials, and as many λ: a network that was pre-trained on photographs,
as the paper's was. Normalisations keep the statistics of ImageNet. The network is fine-tuned with a new head
on 40 squares of the materials' pictures, stopped early, and what is compared starts there. All methods have
the inner steps, the inner rate and the start of λ of refblo.experiments.l1.

The smoke scale has squares of 64 x 64 pixels pooled to 32 x 32, and 2 outer steps; the small scale has them
whole, and 10 outer steps. No claim is judged on either: the rows have 2 and 3 seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import final

from refblo.errors import require
from refblo.experiments import l1
from refblo.experiments.data.textures import MATERIALS, textures
from refblo.experiments.efficientnet import count, efficientnet, imagenet_weights, normalised
from refblo.experiments.printed_networks import TABLE_4
from refblo.experiments.report import Scale
from refblo.experiments.store import Values
from refblo.experiments.study import Arm, StudyPlan, Trial, TrialPlace
from refblo.experiments.study_report import StudyTable
from refblo.experiments.table_4 import MEASURE
from refblo.experiments.training import LabelledImages, early_stopped, require_enough, split
from refblo.noise import Draws
from refblo.types import Theta


@final
@dataclass(frozen=True)
class TextureEffort:
    """How much is run.

    Attributes:
        side: of an image in pixels.
        parts: images for training, validation, tuning and test.
        rows: method, option and cost of a run in gradients for each outer step.
        rates: the grid of outer rates.
        seeds: of each row.
        outer_steps: K.
        pieces: after which the errors are measured.
    """

    side: int
    parts: tuple[int, int, int, int]
    rows: tuple[tuple[str, str, float], ...]
    rates: tuple[float, ...]
    seeds: int
    outer_steps: int
    pieces: int


SQUARE = 64
EFFORTS = {
    Scale.SMOKE: TextureEffort(
        32,
        (40, 40, 60, 100),
        (("IFT-CG", "(0.01, 1)", 14), ("RMD-FO", "", 4), ("HPO-SGLD", "(0.01, 0.01)", 20)),
        (0.001, 0.1),
        2,
        2,
        1,
    ),
    Scale.SMALL: TextureEffort(
        64,
        (40, 40, 150, 400),
        (
            ("IFT-Neumann", "(0.9, 1)", 14),
            ("IFT-CG", "(0.01, 1)", 14),
            ("RMD", "", 10),
            ("RMD-FO", "", 4),
            ("HPO-SGLD", "(0.01, 0.01)", 20),
            ("HPO-SGLD", "(0.0001, 1e-06)", 20),
        ),
        (0.0001, 0.01, 0.1),
        3,
        10,
        2,
    ),
}


def effort(scale: Scale) -> TextureEffort:
    """The effort of a scale.

    Raises:
        ArgumentError: at the paper's scale: the paper has no such network.
    """
    known = scale in EFFORTS
    require(
        known,
        "--scale",
        "be smoke or small for table-4-textures",
        scale.value,
        "choose one of the two; the paper's own scale is that of table-4",
    )
    return EFFORTS[scale]


@cache
def images(scale: Scale) -> LabelledImages:
    """The squares, normalised as the network expects them."""
    found = textures(SQUARE, effort(scale).side)
    return LabelledImages(normalised(found.images), found.labels)


@cache
def _prepared(scale: Scale, seed: int) -> tuple[Theta, tuple[LabelledImages, ...]]:
    """The start and the parts of one seed, the same for every arm."""
    parts = split(images(scale), effort(scale).parts, Draws(900 + seed))
    theta, logits = efficientnet(len(MATERIALS), seed)
    draws = Draws(2**21 + 100 * seed)
    theta = early_stopped(logits, theta, parts[0], parts[1], 5, 8, l1.BATCH, 1e-3, draws)
    return theta, tuple(parts)


@final
@dataclass(frozen=True)
class Table4Textures(StudyTable):
    """Table 4 on another network and other images."""

    name: str = field(default="table-4-textures", init=False)
    what: str = field(
        default="L1-Reg: one λ a weight of EfficientNet-Lite0 with ImageNet weights, on materials",
        init=False,
    )

    def plan(self, scale: Scale) -> StudyPlan:
        """What is run."""
        of = effort(scale)
        arms = (
            Arm(
                method,
                option,
                TABLE_4[f"{method} {option}".strip()],
                rated=method != "RMD-FO",
                weight=cost,
            )
            for method, option, cost in of.rows
        )
        return StudyPlan(
            tuple(arms),
            of.rates,
            1,
            of.seeds,
            (),
            {
                "data": f"{len(MATERIALS)} materials in miniworld, squares of {SQUARE} x {SQUARE} pixels",
                "network": f"EfficientNet-Lite0 with ImageNet weights, on {of.side} x {of.side} pixels",
                "weights": count(len(MATERIALS)),
                "training images": of.parts[0],
                "validation images": of.parts[1],
                "tuning images": of.parts[2],
                "test images": of.parts[3],
                "outer steps": of.outer_steps,
                "inner rate": l1.INNER_RATE,
                "batch": l1.BATCH,
                "start of lam": l1.START,
            },
            MEASURE,
        )

    def require_data(self, scale: Scale, data: Path | None) -> None:  # noqa: ARG002
        """Look at the pictures and the weights before any work.

        Raises:
            ArgumentError, MissingExtraError: if something is missing, cut short or of another kind.
        """
        require_enough(images(scale), sum(effort(scale).parts), len(MATERIALS))
        imagenet_weights()

    @property
    def twin(self) -> None:
        """None: that of Table 4 stands for both."""

    def train(self, trial: Trial, place: TrialPlace) -> Values:
        """One run."""
        of = effort(place.scale)
        theta, parts = _prepared(place.scale, trial.seed)
        # The start is made on the CPU: it is the same for every device.
        theta, parts = theta.to(place.device), tuple(part.to(place.device) for part in parts)
        _, logits = efficientnet(len(MATERIALS), trial.seed)
        method = l1.estimator(trial.arm)
        steps, pieces = of.outer_steps, of.pieces
        return l1.descend_from(logits, theta, parts, method, steps, pieces, trial, place)

    def remarks(self) -> Sequence[str]:
        """Sentences of the table's own."""
        return (
            "The claims are judged by `table-4`, on more seeds; here none is judged. The printed errors are "
            "those of ViT-B/16 on Pets, DTD and Flowers.",
        )
