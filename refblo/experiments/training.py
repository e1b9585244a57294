"""What tables with networks share: splits, plain training, test errors, outer runs kept in pieces."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from refblo.errors import ResumeError, require
from refblo.estimators.protocol import Estimator
from refblo.experiments.store import Values
from refblo.experiments.study import Trial, TrialPlace, discarded
from refblo.noise import Draws, Stream
from refblo.outer import OuterLoop, OuterRun, OuterStep
from refblo.outer.loop import Optimiser
from refblo.problem import BilevelProblem
from refblo.types import DIVERGED, Lam, Theta

Logits = Callable[[Theta, Tensor], Tensor]
"""(theta, inputs) ↦ logits, shape (batch, classes)."""


@final
@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Inputs with their labels.

    Attributes:
        images: one a row, of any shape.
        labels: 0 … C − 1.
    """

    images: Float[Tensor, "N ..."]
    labels: Int64[Tensor, " N"]

    def __len__(self) -> int:
        return int(self.labels.numel())

    def take(self, index: Int64[Tensor, " k"]) -> "LabelledImages":
        """Some of them."""
        return LabelledImages(self.images[index], self.labels[index])

    def to(self, device: str) -> "LabelledImages":
        """The same on a device."""
        return LabelledImages(self.images.to(device), self.labels.to(device))

    def of_classes(self, first: int, last: int) -> "LabelledImages":
        """Those with labels from `first` to `last` − 1, labelled from 0."""
        chosen = torch.nonzero((self.labels >= first) & (self.labels < last)).reshape(-1)
        return LabelledImages(self.images[chosen], self.labels[chosen] - first)


def require_enough(data: LabelledImages, total: int, classes: int, each: int = 1) -> None:
    """Refuse data that the parts or the classes of an experiment cannot be taken from.

    Args:
        data: the data.
        total: images in all parts together.
        classes: of the network.
        each: images that each class must have.

    Raises:
        ArgumentError: naming what there is too little of.
    """
    require(
        total <= len(data),
        "the data",
        f"have {total} images or more",
        len(data),
        "use the whole data set, as it is published",
    )
    counts = torch.bincount(data.labels, minlength=classes)
    require(
        len(counts) == classes,
        "the labels",
        f"be those of {classes} classes",
        len(counts),
        "use the data set that the table names",
    )
    fewest = int(counts.argmin())
    require(
        int(counts[fewest]) >= each,
        f"class {fewest} of the data",
        f"have {each} images or more",
        int(counts[fewest]),
        "use the whole data set, as it is published",
    )


def shuffled(draws: Draws, step: int, population: int) -> Int64[Tensor, " N"]:
    """All indices in a random order."""
    keys = draws.uniform(Stream.INSTANCE, step, (population,), 0.0, 1.0)
    return torch.argsort(keys, stable=True)


def split(data: LabelledImages, sizes: tuple[int, ...], draws: Draws) -> list[LabelledImages]:
    """Disjoint random parts of these sizes.

    Raises:
        ArgumentError: if there is too little data.
    """
    total = sum(sizes)
    require(
        total <= len(data),
        "the parts of the data",
        f"be at most {len(data)} images together",
        total,
        "take smaller ones, or a larger data set",
    )
    order = shuffled(draws, 0, len(data))[:total]
    return [data.take(part) for part in torch.split(order, list(sizes))]


def errors(logits: Logits, theta: Theta, data: LabelledImages, batch: int = 500) -> float:
    """Test error in percent; NaN if θ or a logit is not finite."""
    wrong = 0
    with torch.no_grad():
        for start in range(0, len(data), batch):
            out = logits(theta, data.images[start : start + batch])
            if not bool(torch.isfinite(out).all()):
                return float("nan")
            wrong += int((out.argmax(dim=1) != data.labels[start : start + batch]).sum())
    return 100.0 * wrong / len(data)


def initial_weights(module: nn.Module, draws: Draws) -> Theta:
    """He's normal weights for matrices and kernels, 1 for scales of normalisations, 0 for the rest."""
    parts = []
    for index, (name, parameter) in enumerate(module.named_parameters()):
        like = torch.empty(parameter.shape)
        if parameter.ndim > 1:
            scale = (2.0 / parameter[0].numel()) ** 0.5
            part = scale * draws.normal(Stream.INSTANCE, index, like)
        else:
            part = torch.full_like(like, float(name.endswith("weight")))
        parts.append(part.reshape(-1))
    return torch.cat(parts)


def train(
    logits: Logits,
    theta: Theta,
    data: LabelledImages,
    steps: int,
    batch: int,
    rate: float,
    draws: Draws,
) -> Theta:
    """Adam on the cross-entropy."""
    theta = theta.clone().requires_grad_()
    optimiser = torch.optim.Adam([theta], lr=rate)
    for step in range(steps):
        index = draws.indices(Stream.INNER_BATCH, step, len(data), min(batch, len(data)))
        loss = cross_entropy(logits(theta, data.images[index]), data.labels[index])
        (theta.grad,) = torch.autograd.grad(loss, theta)
        optimiser.step()
    return theta.detach()


def early_stopped(
    logits: Logits,
    theta: Theta,
    data: LabelledImages,
    validation: LabelledImages,
    pieces: int,
    steps: int,
    batch: int,
    rate: float,
    draws: Draws,
) -> Theta:
    """The θ with the lowest validation loss among those after each of some pieces of plain training."""

    def loss(at: Theta) -> float:
        with torch.no_grad():
            return float(cross_entropy(logits(at, validation.images), validation.labels))

    best, lowest = theta, loss(theta)
    for piece in range(pieces):
        theta = train(logits, theta, data, steps, batch, rate, Draws(draws.seed + piece))
        if (now := loss(theta)) < lowest:
            best, lowest = theta, now
    return best


def descend(
    problem: BilevelProblem,
    estimator: Estimator,
    lam: Lam,
    steps: int,
    pieces: int,
    trial: Trial,
    place: TrialPlace,
    measure: Callable[[OuterRun], Values],
    rate: float | None = None,
    optimiser: Optimiser | None = None,
    along: Callable[[OuterStep], dict[str, float]] | None = None,
) -> Values:
    """Outer steps with a warm-started θ, measured after each of some pieces.

    What is measured after a piece is a part of the store, and the state there a checkpoint, so that a run
    that is interrupted goes on, bit by bit, from the last piece.

    Args:
        problem: the bilevel problem.
        estimator: of its hypergradient.
        lam: λ⁰.
        steps: K.
        pieces: how many parts they are made in.
        trial: whose run it is.
        place: where it is kept.
        measure: numbers of a state: vectors of one entry.
        rate: η of gradient descent on λ; the trial's unless given.
        optimiser: of [λ], in the place of gradient descent.
        along: numbers of an outer step.

    Returns:
        The measured numbers, one entry a piece, with the evaluations spent, and those of `along`, one entry
        an outer step; after a divergence NaN.
    """
    store, rows = place.store, list[Values]()
    eta = trial.rate if rate is None else rate
    path = store.state(trial.key)
    ends = [steps * (piece + 1) // pieces for piece in range(pieces)]
    for begin, end in zip([0, *ends], ends, strict=False):

        def piece(begin: int = begin, end: int = end) -> Values:
            noted: dict[int, dict[str, float]] = {}

            def note(step: OuterStep) -> None:
                if along is not None:
                    noted[step.step] = along(step)

            loop = OuterLoop(
                problem,
                estimator,
                optimiser or (lambda ps: torch.optim.SGD(ps, lr=eta)),
                steps=end,
                seed=trial.seed,
                checkpoint=path,
                every=steps + 1,
                # The published code does not look whether a series diverged.
                unchecked=True,
                # The evaluations are reported, and a traced estimate makes more of them.
                plain=True,
                callbacks=(note,),
            )
            try:
                ended = loop.run(lam, resume=True)
            except ResumeError as error:
                # A state of another run: it counts no more than such a part does.
                place.tell(discarded(path, error))
                ended = loop.run(lam)
            if along is not None and ended.steps == end and begin + 1 not in noted:
                # Killed between the state at the end of this piece and its part: no step was made again.
                path.unlink(missing_ok=True)
                ended = loop.run(lam)
            measured = dict(measure(ended))
            if ended.status in DIVERGED and ended.steps < end:
                measured = {name: np.full(1, np.nan) for name in measured}
            return {
                **measured,
                "evaluations": np.array([float(ended.cost.total)]),
                **_noted(noted, begin, end),
            }

        rows.append(store.part(store.piece(trial.key, end), place.settings, piece))
    path.unlink(missing_ok=True)
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _noted(noted: Mapping[int, Mapping[str, float]], begin: int, end: int) -> Values:
    """One entry for each outer step after `begin` up to `end`; NaN for those that were not made."""
    names = dict.fromkeys(name for numbers in noted.values() for name in numbers)
    return {
        name: np.array([noted.get(k, {}).get(name, np.nan) for k in range(begin + 1, end + 1)])
        for name in names
    }
