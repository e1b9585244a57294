"""What a checkpoint is refused for: damage, other versions, other functions, another number of threads.

About 4 s of processor time.
"""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, SimpleNamespace

import numpy as np
import pytest
import torch

from refblo import noise
from refblo.chain import Langevin, Schedule
from refblo.errors import ResumeError
from refblo.estimators import RMD
from refblo.outer import checkpoint
from refblo.outer.identity import identity
from refblo.outer.loop import OuterLoop
from refblo.problem import BilevelProblem, FixedInitial

ROOT = Path(__file__).resolve().parent.parent
ZERO = torch.zeros(2, dtype=torch.float64)


def problem(scale: Callable[[], float] = lambda: 1.0) -> BilevelProblem:
    return BilevelProblem(
        inner=lambda lam, theta, _: scale() * (theta - lam).square().sum() / 2,
        outer=lambda _, theta, __: (theta - 1).square().sum() / 2,
        initial=FixedInitial(torch.zeros(2, dtype=torch.float64)),
    )


def a_loop(file: Path, steps: int = 2) -> OuterLoop:
    return OuterLoop(
        problem(),
        RMD(Langevin(0.5), Schedule.last(4)),
        lambda parameters: torch.optim.Adam(parameters, lr=0.1),
        steps=steps,
        scheduler=lambda optimiser: torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.9),
        checkpoint=file,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    a_loop(path).run(ZERO)
    return path


def test_a_flipped_bit_is_refused_wherever_it_is(file: Path) -> None:
    """One bit of every 53rd byte of the state, and of every fifth of the digest behind it."""
    good = file.read_bytes()
    for place in (*range(0, len(good) - 90, 53), *range(len(good) - 90, len(good), 5)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        file.write_bytes(bad)
        with pytest.raises(ResumeError, match="delete state to start again"):
            checkpoint.load(file)
    file.write_bytes(good)
    assert checkpoint.load(file)["step"] == 2


def test_a_flipped_bit_of_lam_says_that_the_file_was_changed(file: Path) -> None:
    good = file.read_bytes()
    place = good.index(checkpoint.load(file)["lam"].numpy().tobytes())
    bad = bytearray(good)
    bad[place + 6] ^= 0x10
    file.write_bytes(bad)
    with pytest.raises(ResumeError, match="digest does not match"):
        a_loop(file, 4).run(ZERO, resume=True)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda state: state.pop("q"), "hold the entry 'q', got none"),
        (lambda state: state.update(step="2"), "usable entry 'step', got a str"),
        (lambda state: state.update(step=True), "usable entry 'step', got a bool"),
        (lambda state: state.update(step=-1), "count steps and threads, got -1"),
        (lambda state: state.update(lam=[0.0]), "usable entry 'lam', got a list"),
        (lambda state: state.update(lam=torch.zeros(3)), "lam is of shape"),
        (lambda state: state.update(theta=torch.zeros(2)), "theta is of shape"),
        (lambda state: state.update(memory={"m": 1}), "hold tensors in 'memory'"),
        (lambda state: state["cost"].pop("inner_gradients"), "in 'cost'"),
        (lambda state: state["optimiser"].pop("state"), "fit the optimiser"),
        (lambda state: state["optimiser"].update(param_groups=[]), "fit the optimiser"),
        (lambda state: state.update(run={}), "come from the same version of refblo"),
        (lambda state: state.update(format=3), "have format 2, got 3"),
        (lambda state: state.update(refblo="0.0.1"), "same version of refblo"),
        (lambda state: state.update({"seed contract": 1}), "be drawn under seed contract"),
    ],
)
def test_a_missing_or_malformed_entry_is_refused_by_its_name(
    file: Path, change: Callable[[checkpoint.State], object], text: str
) -> None:
    state = checkpoint.load(file)
    change(state)
    rewrite(file, state)
    with pytest.raises(ResumeError, match=text):
        a_loop(file, 4).run(ZERO, resume=True)


def rewrite(file: Path, state: checkpoint.State) -> None:
    """A state with a good digest."""
    head = {name: state[name] for name in ("format", "refblo", "seed contract")}
    rest = {name: value for name, value in state.items() if name not in head}
    checkpoint.save(file, {**rest, **head})


def test_an_old_state_without_a_digest_is_refused_by_name(file: Path) -> None:
    state = checkpoint.load(file)
    torch.save({**state, "format": 1}, file)
    with pytest.raises(ResumeError, match=r"have format 2, got 1 \(one without a digest\)"):
        a_loop(file, 4).run(ZERO, resume=True)
    torch.save(state, file)
    with pytest.raises(ResumeError, match="end in a digest, got none"):
        a_loop(file, 4).run(ZERO, resume=True)


def test_another_seed_contract_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SEED_CONTRACT", noise.SEED_CONTRACT + 1)
    with pytest.raises(ResumeError, match="be drawn under seed contract"):
        a_loop(file, 4).run(ZERO, resume=True)


@pytest.fixture
def _threads_as_they_were() -> "object":
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads_as_they_were")
def test_another_number_of_threads_is_refused_only_where_it_changes_bits(file: Path) -> None:
    torch.set_num_threads(1)
    same = a_loop(file)
    # A stand-in for a sum that is split among threads.
    other = replace(same, problem=problem(lambda: 1.0 + 1e-9 * torch.get_num_threads()))
    for settings in (same, other):
        settings.run(ZERO)
        whole = replace(settings, steps=4, checkpoint=None).run(ZERO)
        torch.set_num_threads(2)
        if settings is same:
            assert torch.equal(replace(settings, steps=4).run(ZERO, resume=True).lam, whole.lam)
        else:
            with pytest.raises(ResumeError, match=r"call torch.set_num_threads\(1\) first"):
                replace(settings, steps=4).run(ZERO, resume=True)
            assert torch.get_num_threads() == 2
        torch.set_num_threads(1)


BOUND = 0.5


def by_default(lam: torch.Tensor, bound: float = 0.5) -> torch.Tensor:
    return lam.clamp(-bound, bound)


def by_keyword(lam: torch.Tensor, *, bound: float = 0.5) -> torch.Tensor:
    return lam.clamp(-bound, bound)


def by_global(lam: torch.Tensor) -> torch.Tensor:
    return lam.clamp(-BOUND, BOUND)


def through_another(lam: torch.Tensor) -> torch.Tensor:
    return by_global(lam) * 2


def closing_over(bound: float | torch.Tensor | np.ndarray) -> Callable[[torch.Tensor], object]:
    return lambda lam: bound * lam


@dataclass(frozen=True)
class Box:
    bound: float

    def project(self, lam: torch.Tensor) -> torch.Tensor:
        return lam.clamp(-self.bound, self.bound)

    __call__ = project


class Loose:
    def __init__(self, bound: float) -> None:
        self.bound = bound

    def __call__(self, lam: torch.Tensor) -> torch.Tensor:
        return lam.clamp(-self.bound, self.bound)


def copied(
    original: Callable[..., object],
    defaults: tuple[object, ...] | None = None,
    **names: object,
) -> FunctionType:
    """The same function with other defaults, or other values of names of its module."""
    assert isinstance(original, FunctionType)
    function: FunctionType = original
    around = {**function.__globals__, **names}
    made = FunctionType(function.__code__, around, function.__name__, defaults)
    made.__kwdefaults__ = function.__kwdefaults__
    made.__module__ = function.__module__
    return made


def with_keyword(bound: float) -> FunctionType:
    made = copied(by_keyword)
    made.__kwdefaults__ = {"bound": bound}
    return made


PAIRS = {
    "code": (lambda lam: lam + 1, lambda lam: lam + 2),
    "nested code": (lambda lam: [x + 1 for x in lam], lambda lam: [x + 2 for x in lam]),
    "closure": (closing_over(0.5), closing_over(0.7)),
    "closed-over tensor": (closing_over(torch.tensor(0.5)), closing_over(torch.tensor(0.7))),
    "closed-over array": (closing_over(np.array([1.0])), closing_over(np.array([1.5]))),
    "default": (by_default, copied(by_default, (0.7,))),
    "keyword default": (by_keyword, with_keyword(0.7)),
    "global": (by_global, copied(by_global, BOUND=0.7)),
    "global of a function called": (
        through_another,
        copied(through_another, by_global=copied(by_global, BOUND=0.7)),
    ),
    "bound partial": (
        functools.partial(by_default, bound=0.5),
        functools.partial(by_default, bound=0.7),
    ),
    "bound method": (Box(0.5).project, Box(0.7).project),
    "callable dataclass": (Box(0.5), Box(0.7)),
    "callable object": (Loose(0.5), Loose(0.7)),
    "module": (torch.nn.Hardtanh(-0.5, 0.5), torch.nn.Hardtanh(-0.7, 0.7)),
    "built-in": (torch.relu, torch.sigmoid),
}


@pytest.mark.parametrize("what", PAIRS)
def test_functions_are_told_apart_by_what_they_compute(what: str) -> None:
    one, other = PAIRS[what]
    assert identity(one) == identity(one)
    assert identity(one) != identity(other)


def test_equal_functions_made_twice_are_the_same() -> None:
    assert identity(closing_over(0.5)) == identity(closing_over(0.5))
    assert identity(Loose(0.5)) == identity(Loose(0.5))
    recursive = SimpleNamespace(bound=0.5)
    recursive.itself = recursive
    assert "levels up" in identity(recursive)


TELL = """
import tests.test_checkpoint as here
print([here.identity(pair) for pair in here.PAIRS.values()])
"""


def test_identities_are_the_same_in_another_process() -> None:
    told = [
        subprocess.run(
            [sys.executable, "-c", TELL],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert " at 0x" not in told[0]
