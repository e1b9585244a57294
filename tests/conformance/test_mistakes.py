"""Every mistake that the diagnosis can name is planted and named, and wrong names are counted.

The plants are those of `plants.py` and `plants_of_rules.py` on problems drawn from a seed. The quick
run takes the first plant of each mistake of one seed, the thorough run all plants of six.

Share of the quick suite: about 25 s of processor time.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import pytest
import torch
from torch import Tensor

from refblo.conformance.diagnosis import Diagnosis, Mistake, Setting, diagnose
from refblo.rules import Rule
from tests.conformance import plants_of_habits, plants_of_rules, plants_of_solves
from tests.conformance.plants import P, Plant, Problem, generated, plants

NAMED, WRONGLY_NAMED = 0.97, 0.01
SEEDS = range(6)
ADAMW = Rule(0.12, betas=(0.8, 0.9), weight_decay=0.4, adam_epsilon=0.05, decoupled_decay=True)
ADDED = (plants_of_habits.__name__, plants_of_rules.__name__, plants_of_solves.__name__)
"""The modules that add plants where they are imported."""


@lru_cache
def judged(seed: int, *, each: bool) -> tuple[tuple[Plant, Diagnosis], ...]:
    """All plants of one seed with their diagnoses, or the first of each mistake."""
    chosen = plants(seed)
    if not each:
        first = {plant.mistake: plant for plant in reversed(chosen)}
        chosen = [plant for plant in chosen if first[plant.mistake] is plant]
    return tuple((plant, plant.diagnosed()) for plant in chosen)


def named(plant: Plant, found: Diagnosis) -> bool:
    return plant.mistake.at(plant.place) in found.names


@pytest.mark.parametrize("mistake", Mistake)
def test_every_mistake_is_named_where_it_is_planted(mistake: Mistake) -> None:
    mine = [(plant, found) for plant, found in judged(0, each=False) if plant.mistake is mistake]
    assert mine, "a name without a plant: add one to plants.py"
    first = [plant for plant, found in mine if plant.mistake.at(plant.place) == found.name]
    texts = [found.describe() for _, found in mine]
    assert first, "\n".join(["it is nowhere the first name:", *texts])


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param((0,), id="one"),
        pytest.param(tuple(SEEDS), id="all", marks=pytest.mark.full),
    ],
)
def test_few_plants_have_no_name_and_next_to_none_a_wrong_one(seeds: tuple[int, ...]) -> None:
    each = len(seeds) > 1
    pairs = [pair for seed in seeds for pair in judged(seed, each=each)]
    unnamed = [pair for pair in pairs if not named(*pair)]
    wrongly = [pair for pair in unnamed if pair[1].name is not None]
    text = "\n".join(
        f"{plant.mistake.at(plant.place)}: {found.describe()}" for plant, found in unnamed
    )
    counts = Counter(plant.mistake.printed for plant, _ in pairs)
    assert len(counts) == len(Mistake)
    assert len(wrongly) <= WRONGLY_NAMED * len(pairs), text
    assert len(unnamed) <= (1 - NAMED) * len(pairs), text
    assert all(not found.failed and not found.cut_off for _, found in pairs)


@pytest.mark.parametrize("p", [1, 2, P])
@pytest.mark.parametrize(
    ("make", "count"),
    [
        (generated, 10),
        pytest.param(generated, 40, marks=pytest.mark.full),
        pytest.param(partial(generated, rule=ADAMW), 40, marks=pytest.mark.full),
        pytest.param(plants_of_solves.implicit_problem, 40, marks=pytest.mark.full),
    ],
)
def test_errors_of_no_kind_are_given_no_name(
    make: Callable[[int], Problem], count: int, p: int
) -> None:
    """Random errors of all sizes; the chance that one of 40 is named is below 4 %, by the bound."""
    problem = first_entries(make(5), p)
    subject = problem.subject()
    truth = subject.reference
    noise = float(np.linalg.norm(truth.rounding + truth.error))
    draw = np.random.Generator(np.random.Philox(key=p))
    for _ in range(count):
        size = 10.0 ** draw.uniform(-6, 0.5) * truth.scale
        observed = truth.value + size * draw.standard_normal(p)
        found = diagnose(Setting(subject, observed, accuracy=noise), seconds=60)
        assert found.name is None, found.describe()
        assert found.failed == ()


def first_entries(problem: Problem, p: int) -> Problem:
    """The problem with its first p hyperparameters free, and the others equal to the first."""

    def whole(lam: Tensor) -> Tensor:
        return torch.cat([lam, lam[:1].expand(P - p)])

    return replace(
        problem,
        inner=lambda lam, theta, batch=None: problem.inner(whole(lam), theta, batch),
        outer=lambda lam, theta, batch=None: problem.outer(whole(lam), theta, batch),
        lam=problem.lam[:p],
    )
