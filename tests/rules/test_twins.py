"""Every rule steps as its twins in torch.optim and in optax do, to rounding, over random runs. 3 s.

The rules are those of `refblo.testing.rules`. The quick run takes 3 runs of each rule and torch alone; the
full one 1,000 of each, and optax where it is installed (`make rules` installs it and writes docs/rules.md).
"""

from dataclasses import replace
from importlib.util import find_spec

import pytest

from refblo.rules import formulas
from refblo.rules.formulas import Formula
from refblo.testing.rule_runs import ALLOWED, RandomRuns
from refblo.testing.rules import RULE_VARIANTS, RuleVariant

IN_TORCH = [each for each in RULE_VARIANTS if not isinstance(each.in_torch, str)]
IN_OPTAX = [each for each in RULE_VARIANTS if not isinstance(each.in_optax, str)]
NAMES = {each.name: each for each in RULE_VARIANTS}
RUNS = 1000


@pytest.mark.parametrize("variant", IN_TORCH, ids=lambda each: each.name)
@pytest.mark.parametrize("count", [3, pytest.param(RUNS, marks=pytest.mark.full)])
def test_a_rule_steps_as_torch_does(variant: RuleVariant, count: int) -> None:
    runs = RandomRuns.of(variant, count)
    assert runs.units(runs.by_rule(variant), runs.by_torch(variant)) <= ALLOWED


@pytest.mark.full
@pytest.mark.skipif(find_spec("optax") is None, reason="optax is not installed: make rules does")
@pytest.mark.parametrize("variant", IN_OPTAX, ids=lambda each: each.name)
def test_a_rule_steps_as_optax_does(variant: RuleVariant) -> None:
    runs = RandomRuns.of(variant, RUNS)
    assert runs.units(runs.by_rule(variant), runs.by_optax(variant)) <= ALLOWED


def test_names_are_unique_and_every_formula_is_tried() -> None:
    assert len(NAMES) == len(RULE_VARIANTS)
    tried = {each.middle(1e-3).formula for each in RULE_VARIANTS}
    there = {value for value in vars(formulas).values() if isinstance(value, Formula)}
    assert tried == there


def test_runs_have_gradients_that_are_exactly_zero_and_a_v_of_zero() -> None:
    runs = RandomRuns.of(NAMES["Adam"], 50)
    zero = runs.gradients == 0
    assert 0.2 < zero[:, :, 1:].mean() < 0.5
    assert zero[:, 0, 0].mean() > 0.8
    assert not zero.all(axis=1).all()


@pytest.mark.parametrize("name", ["gradient descent", "Adam", "RMSprop", "AdamW"])
def test_a_step_size_that_is_off_by_a_billionth_is_seen(name: str) -> None:
    variant = NAMES[name]
    runs = RandomRuns.of(variant, 3)
    off = runs.numbers.copy()
    off[:, 0] *= 1 + 1e-9
    assert runs.units(replace(runs, numbers=off).by_rule(variant), runs.by_torch(variant)) > ALLOWED


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("heavy ball", "Nesterov"),
        ("Adam, weight decay", "AdamW"),
        ("clipping by norm, torch's 10⁻⁶", "clipping by norm"),
        ("cosine schedule", "exponential schedule"),
    ],
)
def test_another_rule_is_seen(name: str, other: str) -> None:
    runs = RandomRuns.of(NAMES[name], 10)
    assert runs.units(runs.by_rule(NAMES[other]), runs.by_torch(NAMES[name])) > ALLOWED


def test_a_rule_without_a_twin_says_why() -> None:
    runs = RandomRuns.of(NAMES["Adam, eps_root"], 1)
    with pytest.raises(LookupError, match="no ε under the root"):
        runs.by_torch(NAMES["Adam, eps_root"])
