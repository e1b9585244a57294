"""The ordinary-code matrix: every loss × every layer × estimand × precision × right and wrong code.

    python -m tests.conformance.ordinary.matrix [--shard I/N] [--sample N] [--write]

Right code must be right, wrong code wrong. Prints what is not as expected; with --write, and without a shard
or a sample, writes matrix.json and docs/ordinary-code.md.
"""

import argparse
import json
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from refblo.conformance import Verdict, hypergradient_report
from refblo.conformance.diagnosis import Diagnosis
from refblo.conformance.report import Report
from refblo.errors import RefbloError
from refblo.types import Estimand
from tests.conformance.ordinary.layers import LAYERS
from tests.conformance.ordinary.losses import LOSSES
from tests.conformance.ordinary.minimisers import at_minimum, polished
from tests.conformance.ordinary.mistakes import (
    IMPLICIT,
    PLAIN,
    SETUPS,
    UNROLLED,
    MistakeCase,
    derivatives,
)
from tests.conformance.ordinary.problems import OrdinaryProblem, Trained, ordinary
from tests.conformance.plants import Problem, unrolled

RESULTS = Path(__file__).parent / "matrix.json"
ONCE_DIFFERENTIABLE = frozenset({"multi_margin_loss", "multilabel_margin_loss", "ctc_loss"})
"""Losses that torch differentiates once: their hypergradient can be had by differences alone, in float64."""

SINGULAR = "refused: singular inner Hessian"
VISIBLE = 1e-2
"""The relative error of a planted mistake, at least: a smaller one gives way to the next."""

_DIFFERENCE = 1e-5
_DECLARED = 1e-6
"""The step of the differences of right code that cannot do better, and the tolerance it declares."""

_DTYPES = {"float64": torch.float64, "float32": torch.float32}


@final
class Side(Enum):
    """What code is judged."""

    RIGHT = "right"
    WRONG = "wrong"
    SINGULAR = "singular"
    """Right code where the minimiser is not isolated: no verdict is possible."""


@final
@dataclass(frozen=True)
class Cell:
    """A place in the matrix.

    Attributes:
        index: its place, which the mistakes and the kinds of run rotate by.
        layer: index of the layer.
        loss: index of the loss.
        estimand: "unrolled" or "implicit".
        dtype: of λ, θ and all data.
        side: what code is judged.
    """

    index: int
    layer: int
    loss: int
    estimand: str
    dtype: str
    side: Side

    @property
    def expected(self) -> str:
        """The right outcome."""
        return SINGULAR if self.side is Side.SINGULAR else self.side.value


@final
@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        layer: by name.
        loss: by name.
        estimand: of the cell.
        dtype: of the cell.
        expected: the right outcome.
        outcome: the verdict, "refused: ..." or "crash: ...".
        run: the kind of inner run.
        mistake: the planted one.
        named: what the diagnosis called it.
        also: the names that it says are the same here.
        seconds: of processor time of the check.
        truth: how the truth was found.
        failed: families of the diagnosis that could not be evaluated or were cut off.
    """

    layer: str
    loss: str
    estimand: str
    dtype: str
    expected: str
    outcome: str
    run: str = ""
    mistake: str = ""
    named: str = ""
    also: tuple[str, ...] = ()
    seconds: float = 0.0
    truth: str = ""
    failed: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether it is as expected."""
        return self.outcome == self.expected


def cells() -> list[Cell]:
    """All cells, in a fixed order."""
    found: list[Cell] = []

    def add(layer: int, loss: int, estimand: str, dtype: str, side: Side) -> None:
        found.append(Cell(len(found), layer, loss, estimand, dtype, side))

    for loss, case in enumerate(LOSSES):
        once = case.name in ONCE_DIFFERENTIABLE
        for layer in range(len(LAYERS)):
            for estimand in ("unrolled",) if once else ("unrolled", "implicit"):
                for dtype in ("float64",) if once else _DTYPES:
                    add(layer, loss, estimand, dtype, Side.RIGHT)
                    add(layer, loss, estimand, dtype, Side.WRONG)
            if not once:
                add(layer, loss, "implicit", "float64", Side.SINGULAR)
    return found


def judged(cell: Cell) -> Outcome | None:
    """Check the cell's code; None where the cell does not apply."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), _quiet():
        return _implicit(cell) if cell.estimand == "implicit" else _unrolled(cell)


class _quiet(warnings.catch_warnings):  # noqa: N801  (a context manager)
    """torch warns of operations that it is slow or approximate in."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        return entered


def _unrolled(cell: Cell) -> Outcome:
    layer, loss = LAYERS[cell.layer], LOSSES[cell.loss]
    problem = ordinary(layer, loss, _DTYPES[cell.dtype], seed=cell.index)
    number = cell.index // 2
    if loss.name in ONCE_DIFFERENTIABLE:
        flat = PLAIN.on(problem, cell.index)
        right = _by_differences(flat)
        factor = 1.0 if cell.side is Side.RIGHT else 1.3
        return _check(
            cell, problem, flat, factor * right, PLAIN.name, "scaled", tolerance=_DECLARED
        )
    if cell.side is Side.RIGHT:
        setup = SETUPS[number % len(SETUPS)]
        flat = setup.on(problem, cell.index)
        return _check(cell, problem, flat, _code(flat, unrolled), setup.name, "")
    case = _visible_mistake(cell, problem, number)
    flat = case.setup.on(problem, cell.index)
    call = case.function(flat)
    return _check(cell, problem, flat, call, case.setup.name, case.mistake.printed)


def _visible_mistake(cell: Cell, problem: OrdinaryProblem, number: int) -> MistakeCase:
    """The next mistake of the rotation that shows in this cell."""
    for turn in range(len(UNROLLED)):
        case = UNROLLED[(number + turn) % len(UNROLLED)]
        if case.double:
            if cell.dtype == "float64":
                return case
            continue
        if case.remembers:
            return case
        flat = case.setup.on(problem, cell.index)
        if _shows(case.make(flat), unrolled(flat)):
            return case
    raise AssertionError("some mistake shows")


def _shows(wrong: np.ndarray, right: np.ndarray) -> bool:
    size = float(np.linalg.norm(right))
    return bool(np.isfinite(wrong).all()) and float(np.linalg.norm(wrong - right)) > VISIBLE * size


def _implicit(cell: Cell) -> Outcome | None:
    doubled = cell.side is Side.SINGULAR
    trained = Trained.DOUBLED_HEAD if doubled else Trained.HEAD
    made = at_minimum(cell.layer, cell.loss, _DTYPES[cell.dtype], 0, trained)
    if made is None:
        return None
    problem, flat, theta = made
    if doubled:
        # It does not matter what is judged: there is no truth.
        ones = torch.ones_like(problem.lam).numpy()
        return _check(cell, problem, flat, ones, trained.value, "")
    if cell.side is Side.RIGHT:
        return _check(cell, problem, flat, _solving(flat, theta), trained.value, "")
    at = derivatives(flat, theta)
    right = at.solved()
    for turn in range(len(IMPLICIT)):
        case = IMPLICIT[(cell.index // 5 * 2 + (cell.dtype == "float32") + turn) % len(IMPLICIT)]
        wrong = case.make(at, flat)
        if _shows(wrong, right):
            break
    return _check(cell, problem, flat, wrong, trained.value, case.mistake.printed)


def _solving(flat: Problem, theta: Tensor) -> Callable[[Tensor], np.ndarray]:
    """Right code: Newton's method from the minimiser at the first λ, and a dense solve."""

    def code(lam: Tensor) -> np.ndarray:
        problem = replace(flat, lam=lam)
        return derivatives(problem, polished(problem, theta)).solved()

    return code


def _code(flat: Problem, make: Callable[..., np.ndarray]) -> Callable[[Tensor], np.ndarray]:
    return lambda lam: make(flat, lam=lam)


def _by_differences(flat: Problem) -> np.ndarray:
    """The hypergradient by central differences of the run."""

    def objective(lam: Tensor) -> float:
        state = flat.theta0
        for t in range(flat.schedule.steps):
            at = state.clone().requires_grad_()
            (g,) = torch.autograd.grad(flat.inner(lam, at), at)
            state = flat.rule.advance(state, g, t, None)
        return float(flat.outer(lam, state))

    moves = _DIFFERENCE * torch.eye(flat.lam.numel(), dtype=flat.lam.dtype)
    pairs = [(objective(flat.lam + move), objective(flat.lam - move)) for move in moves]
    return np.array([(up - down) / (2 * _DIFFERENCE) for up, down in pairs])


def _check(
    cell: Cell,
    problem: OrdinaryProblem,
    flat: Problem,
    code: Callable[[Tensor], np.ndarray] | np.ndarray,
    run: str,
    mistake: str,
    **options: Any,
) -> Outcome:
    """Judge code on the user's own losses; θ is a dict of tensors there."""
    given: dict[str, Any] = {
        "steps": flat.schedule.steps,
        "burn_in": flat.schedule.burn_in,
        "rule": flat.rule,
        "estimand": flat.estimand,
        "noise": flat.noise,
        "inner_batches": flat.batches,
        "outer_batches": flat.outer_batches,
        **options,
    }
    if flat.estimand is not Estimand.PATHWISE:
        del given["burn_in"]
    theta0: Any = problem.theta0
    if flat.start is not None:
        theta0 = lambda lam: problem.tree(flat.initial(lam))  # noqa: E731

    def answer(lam: Tensor) -> Tensor:
        return torch.as_tensor(code(lam) if callable(code) else code).to(lam)

    judged_code: Any = answer if callable(code) else answer(problem.lam)
    began = time.process_time()
    report: Report | None = None
    try:
        report = hypergradient_report(
            problem.inner,
            problem.outer,
            problem.lam,
            theta0,
            judged_code,
            **given,
        )
        outcome = report.verdict.value
        if report.verdict is Verdict.UNDECIDED:
            outcome = f"refused: {report.reason}"
    except RefbloError as error:
        first = str(error).partition("\n")[0]
        outcome = SINGULAR if "singular inner Hessian" in first else f"refused: {first}"
    except Exception as error:
        outcome = f"crash: {type(error).__name__}: {str(error)[:200]}"
    seconds = time.process_time() - began
    diagnosis = None if report is None else report.diagnosis
    return Outcome(
        layer=LAYERS[cell.layer].name,
        loss=LOSSES[cell.loss].name,
        estimand=cell.estimand,
        dtype=cell.dtype,
        expected=cell.expected,
        outcome=outcome,
        run=run,
        mistake=mistake,
        named="" if diagnosis is None else diagnosis.name or "",
        also=() if diagnosis is None else diagnosis.also,
        seconds=round(seconds, 3),
        truth="" if report is None else report.truth,
        failed=() if diagnosis is None else _families(diagnosis),
    )


def _families(diagnosis: Diagnosis) -> tuple[str, ...]:
    """The families that could not be evaluated or were cut off, without the reasons."""
    return (*(told.partition(" (")[0] for told in diagnosis.failed), *diagnosis.cut_off)


def shard(text: str) -> list[Cell]:
    """The cells of a shard "I/N", I from 0; a loss on a layer stays together."""
    number, count = (int(part) for part in text.split("/"))
    groups = {(cell.layer, cell.loss): None for cell in cells()}
    mine = {group for place, group in enumerate(groups) if place % count == number}
    return [cell for cell in cells() if (cell.layer, cell.loss) in mine]


def sample(size: int, seed: int = 0) -> list[Cell]:
    """Cells drawn at random, a function of the seed."""
    return random.Random(seed).sample(cells(), size)


def run(chosen: Iterable[Cell]) -> Iterator[Outcome]:
    """The outcomes of the cells that apply."""
    for cell in chosen:
        outcome = judged(cell)
        if outcome is not None:
            yield outcome


def main(arguments: list[str]) -> int:
    """Run, print what is not as expected, write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args(arguments)
    chosen = shard(given.shard) if given.sample is None else sample(given.sample, given.seed)
    torch.set_num_threads(1)
    outcomes: list[Outcome] = []
    for outcome in run(chosen):
        outcomes.append(outcome)
        if not outcome.good:
            print(json.dumps(asdict(outcome)), flush=True)
    bad = sum(not outcome.good for outcome in outcomes)
    print(f"{len(outcomes)} cells, {bad} not as expected, {sum(o.seconds for o in outcomes):.0f} s")
    if given.write is not None:
        given.write.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=0))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
