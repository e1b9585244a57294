"""Few-shot learning, D.4 of Kim and Hospedales: λ is where the adaptation of a network starts.

    inner: mean cross-entropy on a task's support images,     outer: on its query images,     θ⁰ = λ.

A task is five letters of matplotlib's fonts with their faces as examples, one an outer step; the letters of
meta training are Latin, those that tune are Cyrillic, those that test are Armenian and Georgian. A tested λ
is adapted by gradient descent without noise, with the method's own rate and number of steps. The outer
optimiser is Adam: the paper names none. A task has one support image a class, or five.

What the small scale cuts, so that Table 6 takes some ten minutes of one core: layers of width 8, images of 16
x 16 pixels, 80 outer steps of one task, 150 test episodes, two of the printed τ, four outer rates. The two
highest of these rates are above every printed one, since 80 steps of Adam at those move λ by little.
"""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy

from refblo.chain import Langevin, Schedule
from refblo.errors import require
from refblo.estimators import HPOSGLD, Estimator
from refblo.estimators.fo_maml import FOMAML
from refblo.estimators.imaml import IMAML
from refblo.estimators.maml import MAML
from refblo.estimators.reptile import Reptile
from refblo.experiments.data.fonts import ENOUGH, TEST, TRAIN, TUNING, glyphs, require_letters
from refblo.experiments.networks import ConvNet, as_function
from refblo.experiments.report import Scale
from refblo.experiments.store import Values
from refblo.experiments.study import Arm, Trial, TrialPlace
from refblo.experiments.training import Logits, descend
from refblo.experiments.twins import Twin
from refblo.noise import Draws, Stream
from refblo.outer import OuterRun
from refblo.problem import BilevelProblem, identity_initial
from refblo.types import Batch, Lam, Theta

WAY = 5
SHOTS = (1, 5)
"""Support images a class, in the order of the table's columns."""


@final
@dataclass(frozen=True)
class FewShotEffort:
    """How much is run.

    Attributes:
        width: channels of the network's four layers.
        side: of the images in pixels.
        letters: of meta training at most; as many of each other split at most.
        query: images a class.
        outer_steps: K, and tasks seen.
        pieces: after which λ is tested.
        episodes: tasks that a test takes.
    """

    width: int
    side: int
    letters: int
    query: int
    outer_steps: int
    pieces: int
    episodes: int


EFFORTS = {
    Scale.SMOKE: FewShotEffort(8, 16, 100, 5, 12, 1, 8),
    Scale.SMALL: FewShotEffort(8, 16, 1000, 5, 80, 2, 150),
}


def effort(scale: Scale) -> FewShotEffort:
    """The effort of a scale.

    Raises:
        ArgumentError: at the paper's scale: MiniImagenet has no loader here.
    """
    known = scale in EFFORTS
    require(known, "--scale", "be smoke or small for table-6", scale.value, "choose one of the two")
    return EFFORTS[scale]


def require_data(scale: Scale, shot: int) -> None:
    """Look at the fonts before any work.

    Raises:
        ArgumentError, MissingExtraError: if there are too few of them for an episode.
    """
    for scripts in (TRAIN, TUNING, TEST):
        require_letters(scripts, WAY, shot + effort(scale).query)


def describe(scale: Scale, shot: int) -> dict[str, float | int | str]:
    """The settings that every part repeats."""
    of = effort(scale)
    return {
        "data": "letters of matplotlib's fonts",
        "network": f"four convolutions of width {of.width} on {of.side} x {of.side} pixels",
        "way": WAY,
        "shot": shot,
        "query images a class": of.query,
        "letters": of.letters,
        "outer steps": of.outer_steps,
        "test episodes": of.episodes,
        "test images": of.episodes * WAY * of.query,
        "outer optimiser": "Adam",
        "inner rate": INNER_RATE,
    }


@final
@dataclass(frozen=True)
class EpisodeBatches:
    """One task an outer step: the same for every inner step of it, and for the outer loss.

    Attributes:
        classes: there are.
        shot: support images a class.
        query: query images a class.
    """

    classes: int
    shot: int
    query: int

    def __call__(self, draws: Draws, stream: int, step: int) -> Batch:  # noqa: ARG002
        """Indices of shape (WAY · (shot + query),): those of a class together, its support first."""
        chosen = draws.indices(Stream.INSTANCE, 0, self.classes, WAY)
        keys = draws.uniform(Stream.INSTANCE, 1, (WAY, ENOUGH), 0.0, 1.0)
        faces = torch.argsort(keys, dim=1, stable=True)[:, : self.shot + self.query]
        return (chosen[:, None] * ENOUGH + faces).reshape(-1)


@final
@dataclass(frozen=True, eq=False)
class Episodes:
    """The tasks of one split.

    Attributes:
        pictures: of all letters and faces, shape (letters · ENOUGH, side, side).
        shot: support images a class.
        query: query images a class.
    """

    pictures: Float[Tensor, "N h w"]
    shot: int
    query: int

    @property
    def batches(self) -> EpisodeBatches:
        """Where its tasks come from."""
        return EpisodeBatches(len(self.pictures) // ENOUGH, self.shot, self.query)

    def images(
        self, batch: Batch, *, support: bool
    ) -> tuple[Float[Tensor, "k h w"], Int64[Tensor, " k"]]:
        """The support or query images of a task, and their labels."""
        assert batch is not None
        grid = batch.reshape(WAY, -1)
        part = grid[:, : self.shot] if support else grid[:, self.shot :]
        labels = torch.arange(WAY, device=self.pictures.device).repeat_interleave(part.shape[1])
        return self.pictures[part.reshape(-1)], labels


def episodes(
    scripts: tuple[str, ...], of: FewShotEffort, shot: int, device: str = "cpu"
) -> Episodes:
    """The tasks of some scripts."""
    pictures = glyphs(scripts, of.side, of.letters).to(device)
    return Episodes(pictures.reshape(-1, of.side, of.side), shot, of.query)


def splits(place: TrialPlace, shot: int) -> tuple[Episodes, Episodes, Episodes]:
    """The tasks of meta training, tuning and test."""
    of = effort(place.scale)
    training, tuning, test = (
        episodes(scripts, of, shot, place.device) for scripts in (TRAIN, TUNING, TEST)
    )
    return training, tuning, test


def problem(logits: Logits, tasks: Episodes) -> BilevelProblem:
    """θ⁰ = λ; the inner loss on a task's support images, the outer one on its query images."""

    def loss(theta: Theta, batch: Batch, *, support: bool) -> Tensor:
        images, labels = tasks.images(batch, support=support)
        return cross_entropy(logits(theta, images), labels)

    return BilevelProblem(
        inner=lambda _, theta, batch: loss(theta, batch, support=True),
        outer=lambda _, theta, batch: loss(theta, batch, support=False),
        initial=identity_initial(),
        inner_batches=tasks.batches,
        outer_batches=tasks.batches,
        name="few-shot",
    )


INNER_RATE = 0.5
"""Of every method; D.4 states it for HPO-SGLD and iMAML. The 0.01 that it states for the others leaves them
at chance within the outer steps of these scales."""


def adaptation(arm: Arm) -> tuple[float, int]:
    """The inner rate and number of steps of a method: (B, M) = (4, 1) for HPO-SGLD, else 10 (D.4)."""
    return INNER_RATE, 5 if arm.method == "HPO-SGLD" else 10


def estimator(arm: Arm) -> Estimator:
    """The method of a row, D.4.

    Raises:
        ValueError: for a row that Table 6 does not have.
    """
    rate, steps = adaptation(arm)
    plain = Langevin(rate)
    if arm.method == "HPO-SGLD":
        temperature = float(arm.option.removeprefix("τ = "))
        return HPOSGLD(Langevin(rate, temperature, 1e-4), Schedule(steps - 1, 1))
    others: dict[str, Estimator] = {
        "MAML": MAML(plain, steps),
        "FO-MAML": FOMAML(plain, steps),
        "iMAML": IMAML(plain, steps, 5, 0.5),
        "Reptile": Reptile(plain, steps),
    }
    if arm.method not in others:
        raise ValueError(f"arm must be a row of Table 6, got {arm.label}; choose one")
    return others[arm.method]


def adapted_outputs(
    logits: Logits, tasks: Episodes, lam: Lam, rate: float, steps: int, count: int
) -> tuple[Float[Tensor, "task query way"], Int64[Tensor, " query"]]:
    """The logits for the query images of some tasks, after steps of gradient descent, and their labels.

    All tasks are adapted together, θ_k ← θ_k − γ ∂_θ L(θ_k; support_k) from θ_k = λ: with a network this
    small, many tasks take little longer than one.
    """
    # Seeds that no outer step has: those are below 2^62.
    drawn = [tasks.batches(Draws(2**62 + task), 0, 0) for task in range(count)]
    support, query = (
        torch.stack([tasks.images(batch, support=part)[0] for batch in drawn])
        for part in (True, False)
    )
    given, wanted = (tasks.images(drawn[0], support=part)[1] for part in (True, False))

    def loss(theta: Theta, pictures: Tensor) -> Tensor:
        return cross_entropy(logits(theta, pictures), given)

    slope = vmap(grad(loss))
    theta = lam.expand(count, -1)
    with torch.no_grad():
        for _ in range(steps):
            theta = theta - rate * slope(theta, support)
        return vmap(logits)(theta, query), wanted


def task_errors(
    logits: Logits, tasks: Episodes, lam: Lam, rate: float, steps: int, count: int
) -> np.ndarray:
    """The error in percent on the query images of each of some tasks, adapted; NaN where it diverged."""
    out, wanted = adapted_outputs(logits, tasks, lam, rate, steps, count)
    wrong = 100.0 * (out.argmax(dim=2) != wanted).to(torch.float64).mean(dim=1)
    lost = ~torch.isfinite(out).flatten(1).all(dim=1)
    result: np.ndarray = wrong.masked_fill(lost, torch.nan).cpu().numpy()
    return result


def run(trial: Trial, place: TrialPlace, shot: int) -> Values:
    """Meta training, tested after each piece."""
    of = effort(place.scale)
    module = ConvNet(of.side, of.width, 4, WAY, normalised=True)
    lam, logits = as_function(module, 50 + trial.seed)
    lam = lam.to(place.device)
    training, tuning_tasks, test_tasks = splits(place, shot)
    rate, adapted = adaptation(trial.arm)

    def measure(ended: OuterRun) -> Values:
        test, tuning = (
            task_errors(logits, tasks, ended.lam, rate, adapted, of.episodes)
            for tasks in (test_tasks, tuning_tasks)
        )
        return {
            "test": np.array([test.mean()]),
            "tuning": np.array([tuning.mean()]),
            "episode deviation": np.array([test.std(ddof=1)]),
        }

    return descend(
        problem(logits, training),
        estimator(trial.arm),
        lam,
        of.outer_steps,
        of.pieces,
        trial,
        place,
        measure,
        optimiser=lambda ps: torch.optim.Adam(ps, lr=trial.rate),
    )


TWIN_RATE = 0.01
TWIN_IN_WORDS = (
    f"four convolutions of width 4, tasks as in the table, Adam with outer rate {TWIN_RATE:g}"
)


def twin(seed: int, shot: int) -> Twin:
    """The shrunken twin of one seed, at τ = 1; its test loss is the mean over 50 tasks, adapted."""
    of = replace(EFFORTS[Scale.SMALL], width=4)
    lam, logits = as_function(ConvNet(of.side, of.width, 4, WAY, normalised=True), 50 + seed)
    posed = problem(logits, episodes(TRAIN, of, shot))
    tasks, arm = episodes(TEST, of, shot), Arm("HPO-SGLD", "τ = 1")
    method = estimator(arm)
    assert isinstance(method, HPOSGLD)

    def test(lam: Lam, _: Theta) -> Tensor:
        out, wanted = adapted_outputs(logits, tasks, lam, *adaptation(arm), 50)
        return cross_entropy(out.flatten(0, 1), wanted.repeat(50))

    def adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=TWIN_RATE)

    return Twin(posed, posed, method, adam, lam, test)


def prototypes(trial: Trial, place: TrialPlace, shot: int) -> Values:
    """ProtoNet: features trained so that a query image lies nearest to its class's mean."""
    of = effort(place.scale)
    module = ConvNet(of.side, of.width, 4, 0, normalised=True)
    start, features = as_function(module, 50 + trial.seed)
    training, tuning, test_tasks = splits(place, shot)

    def logits(theta: Theta, tasks: Episodes, draws: Draws) -> tuple[Tensor, Tensor]:
        batch = tasks.batches(draws, 0, 0)
        support, _ = tasks.images(batch, support=True)
        query, labels = tasks.images(batch, support=False)
        both = features(theta, torch.cat([support, query]))
        means = both[: len(support)].reshape(WAY, tasks.shot, -1).mean(dim=1)
        return -(both[len(support) :, None] - means).square().sum(dim=2), labels

    theta = start.to(place.device, copy=True).requires_grad_()
    optimiser = torch.optim.Adam([theta], lr=trial.rate)
    for step in range(of.outer_steps):
        out, labels = logits(theta, training, Draws(trial.seed * 2**20 + step))
        (theta.grad,) = torch.autograd.grad(cross_entropy(out, labels), theta)
        optimiser.step()

    def errors(tasks: Episodes) -> np.ndarray:
        wrong = []
        for task in range(of.episodes):
            with torch.no_grad():
                out, labels = logits(theta, tasks, Draws(2**62 + task))
            wrong.append(100.0 * float((out.argmax(1) != labels).float().mean()))
        return np.array(wrong)

    test = errors(test_tasks)
    return {
        "test": np.array([test.mean()]),
        "tuning": np.array([errors(tuning).mean()]),
        "episode deviation": np.array([test.std(ddof=1)]),
    }
