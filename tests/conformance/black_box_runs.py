"""Thirty trainings as black boxes: `python -m tests.conformance.black_box_runs` judges them, writes a page.

Each is a training of a linear model with its gradient by hand, so that one text runs in torch, JAX and
NumPy: in float64 and float32, with plain steps, momentum, Adam, a frozen dropout mask, and a stop at a fixed
step. λ is the log of a weight decay for each parameter, and the log of the learning rate. Right
hypergradients are reverse mode in torch and JAX, and complex steps in NumPy: none is a difference.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np
import torch

from refblo import hypergradient_report
from refblo.errors import OracleError

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "black_box_runs.json"
PAGE = ROOT / "docs" / "black-box-runs.md"

FRAMEWORKS = ("torch", "jax", "numpy")
TRAININGS = ("plain", "momentum", "adam", "dropout", "stopped early")
DTYPES = ("float64", "float32")
STEPS, STOP = 12, 7

DRAW = np.random.default_rng(11)
X, U = DRAW.normal(size=(20, 4)), DRAW.normal(size=(15, 4))
Y, V = X.sum(1) + 0.5 * DRAW.normal(size=20), U.sum(1) + 0.5 * DRAW.normal(size=15)
MASKS = (DRAW.random((STEPS, 4)) > 0.25) / 0.75
DECAY, RATE = np.array([-1.0, -0.5, 0.0, 0.3]), np.array([-2.3])

Tree = dict[str, Any]


@final
@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        framework: "torch", "jax" or "numpy".
        training: which of `TRAININGS`.
        dtype: "float64" or "float32".
    """

    framework: str
    training: str
    dtype: str

    @property
    def module(self) -> ModuleType:
        """The framework's functions."""
        if self.framework == "jax":
            import jax

            return jax.numpy
        return {"torch": torch, "numpy": np}[self.framework]

    def array(self, numbers: Any) -> Any:
        """Numbers as an array of the framework, in the dtype."""
        cast = np.asarray(numbers, self.dtype)
        if self.framework == "numpy":
            return cast
        return torch.from_numpy(cast) if self.framework == "torch" else self.module.asarray(cast)

    @property
    def lam(self) -> Tree:
        """λ."""
        return {"decay": self.array(DECAY), "rate": self.array(RATE)}

    def objective(self, lam: Tree) -> Any:
        """The outer loss after the training."""
        xp, given = self.module, {"X": X, "Y": Y, "U": U, "V": V}
        data = {name: self.array(numbers) for name, numbers in given.items()}
        decay, rate = xp.exp(lam["decay"]), xp.exp(lam["rate"])
        theta = 0 * decay
        v, w = 0 * decay, 0 * decay
        for t in range(STOP if self.training == "stopped early" else STEPS):
            mask = self.array(MASKS[t]) if self.training == "dropout" else 1
            fit = data["X"] @ (mask * theta) - data["Y"]
            g = 2 * mask * (data["X"].T @ fit) / 20 + 2 * decay * theta
            if self.training == "momentum":
                v = 0.8 * v + g
                g = v
            if self.training == "adam":
                v, w = 0.9 * v + 0.1 * g, 0.99 * w + 0.01 * g * g
                g = (v / (1 - 0.9 ** (t + 1))) / (xp.sqrt(w / (1 - 0.99 ** (t + 1)) + 1e-8))
            theta = theta - rate * g
        residual = data["U"] @ theta - data["V"]
        return (residual * residual).mean() + 0.01 * (lam["decay"] * lam["decay"]).sum()

    def right(self) -> Tree:
        """The hypergradient at λ, not by differences."""
        if self.framework == "torch":
            lam = {name: part.clone().requires_grad_() for name, part in self.lam.items()}
            found = torch.autograd.grad(self.objective(lam), list(lam.values()))
            return dict(zip(lam, found, strict=True))
        if self.framework == "jax":
            import jax

            gradient: Tree = jax.grad(self.objective)(self.lam)
            return gradient
        double = Run("numpy", self.training, "float64")
        return {
            name: np.array([double._slope(name, i) for i in range(part.size)], self.dtype)
            for name, part in self.lam.items()
        }

    def _slope(self, name: str, entry: int) -> float:
        lam = {key: part.astype(complex) for key, part in self.lam.items()}
        lam[name][entry] += 1e-30j
        return float(np.imag(self.objective(lam)) / 1e-30)

    def planted(self, right: Tree, share: float) -> Tree:
        """The right one, off in every entry by a share of it, with signs in turn."""
        return {
            name: part * (1 + share * self.array([1, -1, 1, -1][: len(part)]))
            for name, part in right.items()
        }


RUNS = [Run(*names) for names in (
    (framework, training, dtype)
    for framework in FRAMEWORKS for training in TRAININGS for dtype in DTYPES
)]  # fmt: skip


@final
@dataclass(frozen=True)
class BlackBoxRow:
    """What was said of one run.

    Attributes:
        framework: of the run.
        training: of the run.
        dtype: of the run.
        right: the verdict on the right hypergradient.
        floor: the relative error that is seen.
        half: the verdict on half the floor.
        double: the verdict on twice the floor.
        sign: the name that a wrong sign was given.
        kink: what was said with a kink at λ.
        random: what was said with hidden randomness.
    """

    framework: str
    training: str
    dtype: str
    right: str
    floor: float
    half: str
    double: str
    sign: str
    kink: str
    random: str

    @property
    def expected(self) -> bool:
        """Whether all is as it should be."""
        said = (self.right, self.half, self.double, self.sign, self.kink, self.random)
        return said == ("right", "right", "wrong", "wrong sign", "kink", "hidden randomness")


def judged(run: Run) -> BlackBoxRow:
    """Judge one run: right, wrong by half and twice the floor, a wrong sign, a kink, hidden randomness."""
    right = run.right()
    ask: Callable[..., Any] = partial(
        hypergradient_report, objective=run.objective, lam=run.lam, diagnosis_seconds=20
    )
    report = ask(hypergradient=right)
    # A tensor of λ may be known to more digits than the whole: half of the smallest floor is right.
    smallest = min([report.floor, *(block.margin.floor for block in report.blocks)])
    verdicts = [
        ask(hypergradient=run.planted(right, size)).verdict.value
        for size in (0.5 * smallest, 2.0 * report.floor)
    ]
    named = ask(hypergradient={name: -part for name, part in right.items()}).diagnosis
    draw = np.random.default_rng(0)

    def kinked(lam: Tree) -> Any:
        # |·| of what is 0 at λ, in the framework's own arithmetic.
        return run.objective(lam) + abs(lam["rate"] - run.array(RATE)).sum()

    def random(lam: Tree) -> Any:
        return run.objective(lam) + run.array(draw.normal())

    refused = [_refusal(run, objective, right) for objective in (kinked, random)]
    name = "no name" if named is None or named.name is None else named.name
    return BlackBoxRow(
        *(run.framework, run.training, run.dtype, report.verdict.value, report.floor),
        *(verdicts[0], verdicts[1], name, refused[0], refused[1]),
    )


def _refusal(run: Run, objective: Callable[[Tree], Any], right: Tree) -> str:
    try:
        report = hypergradient_report(
            objective=objective, lam=run.lam, hypergradient=right, diagnosis_seconds=0
        )
    except OracleError as error:
        found = [word for word in ("kink", "hidden randomness") if word in str(error)]
        return found[0] if found else str(error)
    return report.verdict.value


def page(rows: list[BlackBoxRow]) -> str:
    """The results as a page."""
    good = sum(row.expected for row in rows)
    lines = [
        "# Trainings as one function",
        "",
        "<!-- Written by `python -m tests.conformance.black_box_runs`. Do not edit. -->",
        "",
        "What [`hypergradcheck(objective=…)`](howto/any-framework.md) says of thirty trainings, in three",
        "frameworks and two precisions. The right hypergradients are reverse mode, or complex steps in",
        "NumPy. Each is judged as it is, off by half and by twice the floor of its report, with the wrong",
        "sign, with a kink at λ, and with hidden randomness in the training.",
        "",
        f"**{good} of {len(rows)} are as expected.**",
        "",
        "| framework | training | dtype | right | floor | half of it | twice | wrong sign | kink | random |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [
            f"{cell:.0e}" if isinstance(cell, float) else cell for cell in asdict(row).values()
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def read() -> list[BlackBoxRow]:
    """The committed results."""
    return [BlackBoxRow(**row) for row in json.loads(RESULTS.read_text(encoding="utf-8"))]


def main() -> None:
    """Judge all runs, and write the results and the page."""
    import jax

    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]  # JAX's own
    rows = []
    for run in RUNS:
        rows.append(judged(run))
        print(rows[-1], flush=True)
    text = json.dumps([asdict(row) for row in rows], indent=1)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
