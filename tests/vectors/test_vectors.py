"""Test vectors: their numbers are right, and their wrong ones are those of the bug."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch

from refblo.chain import Schedule
from refblo.cli import main
from refblo.conformance.catalogue import losses
from refblo.conformance.diagnosis import Setting, Subject, diagnose
from refblo.conformance.truth.program import Frozen, Losses, Program, build
from refblo.conformance.truth.reference import reference
from refblo.noise import Draws
from refblo.problems.namespace import Statement
from refblo.rules import Rule
from refblo.types import Estimand
from refblo.vectors.problems import Posed
from refblo.vectors.read import Vector
from tests.vectors.committed import DATA, POSED, Json, body, committed, floats, vectors

ESTIMANDS = {
    "unrolled": Estimand.UNROLLED,
    "pathwise": Estimand.PATHWISE,
    "implicit": Estimand.IMPLICIT,
}


def program(posed: Posed, estimand: Estimand) -> Program:
    """The same problem in torch, from the conformance catalogue's losses."""
    factory = losses.quadratic if posed.kind == "quadratic" else losses.weighted_logistic
    built = Statement(factory, dict(posed.arrays)).in_torch(torch.float64, "cpu")
    theta0, settings = torch.as_tensor(posed.theta0), posed.settings
    jacobian = posed.arrays.get("start_jacobian")

    def initial(lam: torch.Tensor) -> torch.Tensor:
        moved: torch.Tensor = theta0
        if jacobian is not None:
            moved = theta0 + torch.matmul(torch.as_tensor(jacobian), lam)
        return moved

    def rows(batches: np.ndarray | None) -> list[torch.Tensor] | None:
        return None if batches is None else [torch.as_tensor(row) for row in batches]

    frozen = Frozen(
        None if posed.noise is None else torch.as_tensor(posed.noise),
        rows(posed.inner_batches),
        rows(posed.outer_batches),
    )
    schedule = Schedule(settings.burn_in, settings.samples)
    if estimand is not Estimand.PATHWISE:
        schedule = Schedule.last(settings.steps)
    made = Losses(built.inner, built.outer, initial, Rule(settings.step_size), frozen)
    return build(made, torch.as_tensor(posed.lam), schedule)


def subject(posed: Posed, estimand: Estimand) -> Subject:
    at = program(posed, estimand)
    truth = reference(
        at,
        estimand,
        np.eye(posed.lam.size),
        exhaustive=True,
        draws=Draws(0),
        ulp=2.0**-52,
        confirm=0,
    )
    return Subject(at, estimand, truth, posed.settings.terms, whole=True)


def by_problem() -> dict[str, list[Vector]]:
    found: dict[str, list[Vector]] = {}
    for vector in vectors().values():
        found.setdefault(vector.problem, []).append(vector)
    return found


def test_the_committed_files_are_what_the_command_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vectors", "write", str(tmp_path)]) == 0
    capsys.readouterr()
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    shipped_files = {entry.name: entry.read_bytes() for entry in DATA.iterdir()}
    assert written == shipped_files
    assert sum(map(len, written.values())) < 1_000_000


def test_every_problem_has_other_sizes_of_lambda_and_theta() -> None:
    assert all(posed.lam.size != posed.theta0.size for posed in POSED.values())


def test_every_number_is_a_short_decimal_that_a_double_holds() -> None:
    for posed in POSED.values():
        for array in (*posed.arrays.values(), posed.lam, posed.theta0):
            assert np.array_equal(array * 1024, np.round(array * 1024)), posed.name


@pytest.mark.parametrize("name", POSED)
def test_valid_answers_are_those_of_the_oracles_in_torch(name: str) -> None:
    checked = 0
    for vector in by_problem()[name]:
        if vector.estimator != "exact" or vector.estimand not in ESTIMANDS:
            continue
        truth = subject(POSED[name], ESTIMANDS[vector.estimand]).reference
        value, radius = floats(vector.answers[0].value), floats(vector.answers[0].radius)
        off = np.abs(truth.value - value)
        assert np.all(off <= truth.rounding + truth.error + radius), vector.id
        assert np.all(radius <= 1e-22 * np.abs(value)), vector.id
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize(
    "name",
    [
        "langevin",
        *(pytest.param(n, marks=pytest.mark.full) for n in POSED if n != "langevin"),
    ],
)
def test_an_invalid_answer_is_diagnosed_as_what_it_is_flagged(name: str) -> None:
    """The flagged numbers come from ball arithmetic, the diagnosis from torch: they share no code."""
    missed, total = [], 0
    for vector in by_problem()[name]:
        if vector.estimator != "exact" or vector.estimand not in ESTIMANDS:
            continue
        at = subject(POSED[name], ESTIMANDS[vector.estimand])
        for answer in vector.answers[1:]:
            if name == "scaled-identity" and "damping left in" in answer.flags:
                continue  # damping c·I is a factor, and with one factor to fit every series fits
            found = diagnose(Setting(at, floats(answer.value), accuracy=1e-12))
            total += 1
            if not set(answer.flags) & set(found.names):
                missed.append((vector.id, answer.flags, found.names))
    assert total >= 20
    assert missed == []


def test_the_gibbs_answer_is_that_of_quadrature_free_closed_form() -> None:
    """For a curved quadratic: f at the mean plus half the temperature times tr(Q H⁻¹)."""
    posed = POSED["curved"]
    a = {key: torch.as_tensor(array) for key, array in posed.arrays.items()}

    def expected(lam: torch.Tensor) -> torch.Tensor:
        hessian = a["hessian"] + torch.diag(torch.exp(a["weights"] @ lam))
        mean = torch.linalg.solve(hessian, a["coupling"] @ lam + a["shift"])
        spread = torch.trace(a["outer_hessian"] @ torch.linalg.inv(hessian))
        value = 0.5 * mean @ a["outer_hessian"] @ mean + a["outer_slope"] @ mean
        value = value + 0.5 * lam @ a["direct"] @ lam + a["direct_slope"] @ lam
        value = value + mean @ a["outer_mixed"] @ lam
        total: torch.Tensor = value + 0.5 * posed.settings.temperature * spread
        return total

    truth = torch.func.grad(expected)(torch.as_tensor(posed.lam)).numpy()
    (vector,) = [v for v in by_problem()["curved"] if v.estimand == "gibbs"]
    assert np.allclose(floats(vector.answers[0].value), truth, rtol=1e-12, atol=0)


# A reader of srepr that executes nothing: the constructors that it knows, and whole numbers.
_KNOWN = {"Add": sympy.Add, "Mul": sympy.Mul, "Pow": sympy.Pow, "exp": sympy.exp, "log": sympy.log}


def parsed(node: ast.expr) -> sympy.Expr:
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    arguments = [
        parsed(argument) if isinstance(argument, ast.Call) else ast.literal_eval(argument)
        for argument in node.args
    ]
    if node.func.id == "Symbol":
        return sympy.Symbol(arguments[0], real=True)
    if node.func.id in ("Integer", "Rational"):
        return sympy.Rational(*arguments)
    return _KNOWN[node.func.id](*arguments)


@pytest.mark.parametrize("name", POSED)
def test_the_srepr_in_a_file_is_the_loss_in_torch(name: str) -> None:
    posed, told = POSED[name], body(name)
    draw = np.random.Generator(np.random.Philox(key=5))
    lam, theta = draw.standard_normal(posed.lam.size), draw.standard_normal(posed.theta0.size)
    values: dict[str, float] = {}

    def place(prefix: str, entry: Json) -> None:
        if isinstance(entry, list):
            for index, part in enumerate(entry):
                place(f"{prefix}_{index}", part)
        else:
            values[prefix] = float(entry)

    for key, array in told["problem"]["arrays"].items():
        place(key, array)
    place("lambda", lam.tolist())
    place("theta", theta.tolist())
    place("start", told["theta0"])
    built = program(posed, Estimand.UNROLLED).losses
    assert built is not None
    at = torch.as_tensor(lam), torch.as_tensor(theta)
    for which, loss, batch, weights, array in (
        ("inner", built.inner, built.frozen.inner(0), "weight", "features"),
        ("outer", built.outer, built.frozen.outer(1), "outer_weight", "held_features"),
    ):
        if posed.kind != "quadratic":
            assert batch is None or isinstance(batch, torch.Tensor), "its batches are indices"
            count = len(posed.arrays[array])
            chosen = range(count) if batch is None else batch.tolist()
            place(weights, [1 / len(chosen) if i in chosen else 0.0 for i in range(count)])
        expression = parsed(ast.parse(told["problem"]["srepr"][which], mode="eval").body)
        assert {symbol.name for symbol in expression.free_symbols} <= set(values)
        numbers = {symbol: values[symbol.name] for symbol in expression.free_symbols}
        assert float(expression.evalf(subs=numbers)) == pytest.approx(
            float(loss(*at, batch)), rel=1e-12
        )
    symbolic = {sympy.Symbol(key, real=True): number for key, number in values.items()}
    start = [
        float(parsed(ast.parse(text, mode="eval").body).evalf(subs=symbolic))
        for text in told["problem"]["srepr"]["initial"]
    ]
    assert np.allclose(start, built.initial(at[0]).numpy(), rtol=1e-14)


@pytest.mark.full
def test_the_order_of_hashes_does_not_show() -> None:
    """Another process hashes strings otherwise, and writes what is committed all the same."""
    code = "import sys; from refblo.vectors.document import document, text; "
    code += "from refblo.vectors.problems import problems; "
    code += "sys.stdout.write(text(document(problems()[3])))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        timeout=100,
        env={**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.decode() == committed("curved")
