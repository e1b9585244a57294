"""Ordinary JAX code: losses of optax × networks, right and wrong, in both precisions, beside torch.

    make ordinary-jax ARGS="[--every N] [--outcomes FILE.jsonl]"

Right code must be right and wrong code wrong; a mistake must be named if it is named on the twin in torch.
Runs every N-th network of each loss (10: one network for each loss, right code in one precision and wrong
code in the other; 5: two networks and all four), prints what is not as expected, and writes results.json and
docs/ordinary-jax.md. With --outcomes, outcomes are added to a file, and the cells that it has already are
not run again. Most of the time of a cell is spent compiling.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import jax
import numpy as np
import torch
from torch import Tensor

from refblo.conformance import Verdict, hypergradient_report
from refblo.conformance.report import Report
from refblo.errors import RefbloError
from tests.conformance.ordinary_jax.every_network import NETWORKS
from tests.conformance.ordinary_jax.losses import LOSSES
from tests.conformance.ordinary_jax.mistakes import MISTAKES, Answer, JAXMistake
from tests.conformance.ordinary_jax.page import PAGE, RESULTS, Record, render, summarised
from tests.conformance.ordinary_jax.problems import (
    SETUPS,
    STEPS,
    Functions,
    JAXProblem,
    Training,
    Tree,
)

PRECISIONS = ("float64", "float32")
VISIBLE = 1e-2
"""The relative error of a planted mistake, at least: a smaller one gives way to the next."""

SECONDS = 120.0
"""What a diagnosis may take."""


@final
@dataclass(frozen=True)
class JAXCell:
    """A place in the matrix.

    Attributes:
        index: its place, which the trainings and the mistakes rotate by, and the seed of its draws.
        loss: by name.
        network: by name.
        precision: "float64" with x64 on, "float32" with x64 off.
        wrong: whether a mistake is planted.
    """

    index: int
    loss: str
    network: str
    precision: str
    wrong: bool

    @property
    def expected(self) -> str:
        """The right outcome."""
        return "wrong" if self.wrong else "right"


@final
@dataclass(frozen=True)
class JAXOutcome:
    """What came of a cell.

    Attributes:
        loss: by name.
        network: by name.
        precision: of all arrays.
        expected: the right outcome.
        outcome: the verdict, "refused: ..." or "crash: ...".
        setup: the training.
        mistake: the planted one.
        named: what the diagnosis called it.
        also: the names that it says are the same here.
        twin: the verdict on the same answer for the same problem in torch; empty without a twin.
        twin_named: what the diagnosis called it there.
        seconds: of processor time of the check in JAX.
    """

    loss: str
    network: str
    precision: str
    expected: str
    outcome: str
    setup: str
    mistake: str = ""
    named: str = ""
    also: tuple[str, ...] = ()
    twin: str = ""
    twin_named: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether it is as expected, and named if its twin is."""
        by_its_name = not self.twin_named or self.twin_named in (self.named, *self.also)
        return self.outcome == self.expected and self.twin in ("", self.expected) and by_its_name


def cells() -> list[JAXCell]:
    """All cells, in a fixed order: right code in one precision and wrong code in the other."""
    places = [
        (loss, network, PRECISIONS[(i + j // 5 + wrong) % 2], wrong)
        for i, loss in enumerate(LOSSES)
        for j, network in enumerate(NETWORKS)
        for wrong in (False, True)
    ]
    return [JAXCell(index, *place) for index, place in enumerate(places)]


def every(count: int) -> list[JAXCell]:
    """The cells of every N-th network of each loss, from a network that moves on with the loss."""
    losses, networks = list(LOSSES), list(NETWORKS)
    return [
        cell
        for cell in cells()
        if (losses.index(cell.loss) + networks.index(cell.network)) % count == 0
    ]


def judged(cell: JAXCell) -> JAXOutcome:
    """Check the cell's code, and if it is wrong, the same answer on the problem's twin in torch."""
    # One number for the two cells of a loss and a network: what follows rotates by it.
    place = cell.index // 2
    with jax.enable_x64(cell.precision == "float64"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not cell.wrong:
            setup = SETUPS[place % len(SETUPS)]
            problem = JAXProblem(cell.network, cell.loss, setup, cell.precision, place)
            return _outcome(cell, problem, Training(problem).hypergradient, "")
        case, problem, code = _visible_mistake(cell, place)
        make = (lambda: case.make(problem)) if case.remembers else (lambda: code)
        return _outcome(cell, problem, make, case.mistake.printed)


def _visible_mistake(cell: JAXCell, place: int) -> tuple[JAXMistake, JAXProblem, Answer]:
    """The next mistake of the rotation that shows in this cell, and its code."""
    for turn in range(len(MISTAKES)):
        case = MISTAKES[(place + turn) % len(MISTAKES)]
        if case.double and cell.precision == "float32":
            continue
        problem = JAXProblem(cell.network, cell.loss, case.setup, cell.precision, place)
        code = case.make(problem)
        if case.double or case.remembers or _shows(code, problem):
            return case, problem, code
    raise AssertionError("some mistake shows")


def _shows(code: Answer, problem: JAXProblem) -> bool:
    lam = problem.in_jax().tree(problem.lam)
    wrong = _flat(code(lam))
    right = _flat(Training(problem).hypergradient()(lam))
    size = float(np.linalg.norm(right))
    return bool(np.isfinite(wrong).all()) and float(np.linalg.norm(wrong - right)) > VISIBLE * size


def _flat(tree: Tree) -> np.ndarray:
    return np.concatenate([np.asarray(part, np.float64).ravel() for part in tree.values()])


def _outcome(
    cell: JAXCell, problem: JAXProblem, make: Callable[[], Answer], mistake: str
) -> JAXOutcome:
    began = time.process_time()
    outcome, report = _judge(problem, problem.in_jax(), make())
    seconds = time.process_time() - began
    diagnosis = None if report is None else report.diagnosis
    twin, twin_named = "", ""
    if mistake and not isinstance(problem.parts[1].in_torch, str):
        twin, of_twin = _judge(problem, problem.in_torch(), _in_torch(problem, make()))
        if of_twin is not None and of_twin.diagnosis is not None:
            twin_named = of_twin.diagnosis.name or ""
    return JAXOutcome(
        loss=cell.loss,
        network=cell.network,
        precision=cell.precision,
        expected=cell.expected,
        outcome=outcome,
        setup=problem.setup.name,
        mistake=mistake,
        named="" if diagnosis is None else diagnosis.name or "",
        also=() if diagnosis is None else diagnosis.also,
        twin=twin,
        twin_named=twin_named,
        seconds=round(seconds, 3),
    )


def _in_torch(problem: JAXProblem, answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Code in JAX as a function of tensors."""
    array = problem.in_jax().array

    def found(lam: dict[str, Tensor]) -> dict[str, Tensor]:
        given = {name: array(value.detach().numpy()) for name, value in lam.items()}
        return {
            name: torch.from_numpy(np.array(value)).to(lam[name])
            for name, value in answer(given).items()
        }

    return found


def _judge(
    problem: JAXProblem, functions: Functions, answer: Callable[[Any], Any]
) -> tuple[str, Report | None]:
    """The verdict, or why there is none."""
    setup, lam = problem.setup, functions.tree(problem.lam)
    options: dict[str, Any] = {"steps": STEPS, "rule": setup.rule, "diagnosis_seconds": SECONDS}
    if setup.batches:
        options["inner_batches"] = [functions.array(x) for x in problem.draws()["batches"]]
    theta0 = functions.start if setup.moving else functions.start(lam)
    try:
        report = hypergradient_report(
            functions.inner, functions.outer, lam, theta0, answer, **options
        )
    except RefbloError as error:
        return f"refused: {str(error).partition(chr(10))[0]}", None
    except Exception as error:
        return f"crash: {type(error).__name__}: {str(error)[:200]}", None
    if report.verdict is Verdict.UNDECIDED:
        return f"refused: {report.reason}", report
    return report.verdict.value, report


def run(chosen: Iterable[JAXCell]) -> Iterator[tuple[JAXCell, JAXOutcome]]:
    """Some cells and their outcomes."""
    for cell in chosen:
        yield cell, judged(cell)


def main(arguments: list[str]) -> int:
    """Run, print what is not as expected, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--outcomes", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    chosen = every(given.every)
    done = _read(given.outcomes)
    for cell, outcome in run(cell for cell in chosen if cell.index not in done):
        record = done[cell.index] = asdict(outcome) | {"good": outcome.good}
        if given.outcomes is not None:
            with given.outcomes.open("a", encoding="utf-8") as file:
                print(json.dumps({"index": cell.index} | record), file=file)
        if not outcome.good:
            print(json.dumps(record), flush=True)
    records = [done[cell.index] for cell in chosen]
    bad = sum(not record["good"] for record in records)
    print(
        f"{len(records)} cells, {bad} not as expected, {sum(r['seconds'] for r in records):.0f} s"
    )
    found = summarised(records)
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(render(found), encoding="utf-8")
    return int(bad > 0)


def _read(path: Path | None) -> dict[int, Record]:
    if path is None or not path.exists():
        return {}
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {record.pop("index"): record for record in records}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
