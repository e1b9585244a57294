"""Test vectors: their numbers are right, their wrong ones are those of the bug, and changes are refused."""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

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
from refblo.errors import ArgumentError
from refblo.noise import Draws
from refblo.problems.namespace import Statement
from refblo.rules import Rule
from refblo.types import Estimand
from refblo.vectors.document import canonical, checksum, identifier
from refblo.vectors.flags import FLAGS
from refblo.vectors.problems import Posed, problems
from refblo.vectors.read import Vector, results_of, shipped, vectors_of
from refblo.vectors.verify import verify

Json = Any
DATA = resources.files("refblo.vectors") / "data"
READERS = Path(__file__).resolve().parents[2] / "docs" / "vectors"
POSED = {posed.name: posed for posed in problems()}
ESTIMANDS = {
    "unrolled": Estimand.UNROLLED,
    "pathwise": Estimand.PATHWISE,
    "implicit": Estimand.IMPLICIT,
}


def committed(name: str) -> str:
    return (DATA / f"{name}.json").read_text(encoding="utf-8")


def body(name: str) -> dict[str, Json]:
    found: dict[str, Json] = json.loads(committed(name))
    return found


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


def floats(numbers: tuple[object, ...]) -> np.ndarray:
    return np.array([float(number) for number in numbers])  # type: ignore[arg-type]  # Fractions


def by_problem() -> dict[str, list[Vector]]:
    found: dict[str, list[Vector]] = {}
    for vector in shipped().values():
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


class TestTheFormat:
    def test_ids_follow_from_the_content(self) -> None:
        told = body("quadratic")
        vector = told["vectors"][0]
        assert vector["id"] == identifier(told, vector)
        answer = vector["answers"][0]
        changed = {**vector, "answers": [{**answer, "value": [*answer["value"][:-1], "1"]}]}
        assert identifier(told, changed) != vector["id"]
        moved = {**told, "lambda": ["1", "2", "3"]}
        assert identifier(moved, vector) != vector["id"]

    def test_all_ids_differ(self) -> None:
        assert len(shipped()) == sum(len(body(name)["vectors"]) for name in POSED)

    def test_every_flag_is_described_and_used(self) -> None:
        used = {flag for v in shipped().values() for a in v.answers for flag in a.flags}
        assert used == set(FLAGS)

    def test_each_kind_of_answer_is_there(self) -> None:
        results = {a.result for v in shipped().values() for a in v.answers}
        assert results == {"valid", "acceptable", "invalid"}

    def test_a_wrong_answer_is_no_valid_one(self) -> None:
        for vector in shipped().values():
            right = floats(vector.answers[0].value)
            for answer in vector.answers[1:]:
                gap = np.abs(floats(answer.value) - right).max()
                assert gap > 0.9e-6 * np.abs(right).max(), vector.id

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            (lambda told: told["lambda"].__setitem__(0, "0.5"), "checksum"),
            (
                lambda told: told["vectors"][0]["answers"][0]["value"].__setitem__(0, "1"),
                "checksum",
            ),
            (lambda told: told["vectors"][0]["answers"][0].update(result="fine"), r"\$\.vectors"),
            (lambda told: told["vectors"][0]["answers"][0]["value"].__setitem__(0, 0.1), "schema"),
            (lambda told: told["settings"].update(step_size="1e999999999"), "step_size"),
            (lambda told: told.update(extra=1), "extra"),
            (lambda told: told.pop("flags"), "flags"),
            (lambda told: told["problem"]["srepr"].update(inner="__import__['os']"), "srepr"),
        ],
    )
    def test_a_changed_file_is_refused(self, change: Any, text: str) -> None:
        told = body("quadratic")
        change(told)
        with pytest.raises(ArgumentError, match=text):
            vectors_of("changed.json", json.dumps(told).encode())

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            # The checksum made to fit again: the id still tells.
            (lambda told: told["lambda"].__setitem__(0, "0.5"), "new id"),
            (lambda told: told["flags"].pop("wrong sign"), "description of each flag"),
        ],
    )
    def test_a_change_with_a_new_checksum_is_refused_too(self, change: Any, text: str) -> None:
        told = body("quadratic")
        change(told)
        told["checksum"] = checksum(told)
        with pytest.raises(ArgumentError, match=text):
            vectors_of("changed.json", json.dumps(told).encode())

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x80\x04K\x01.",  # a pickle
            b"[]",
            b'{"schema_version": NaN}',
            b'{"a": 1, "a": 1}',
            b"[" * 100_000,
            b"\xff\xfe",
            b" " * (2**24 + 1),
        ],
    )
    def test_what_is_no_vector_file_is_refused(self, content: bytes) -> None:
        with pytest.raises(ArgumentError, match=r"bad\.json must (be|follow)"):
            vectors_of("bad.json", content)

    def test_equal_values_have_one_text(self) -> None:
        assert canonical({"b": [1, "é"], "a": None}) == b'{"a":null,"b":[1,"\\u00e9"]}'


class TestVerify:
    vectors = shipped()

    def answered(self, result: str) -> dict[str, tuple[str, ...]]:
        """The last answer of that kind to each vector that has one, as doubles."""
        return {
            key: tuple(repr(float(entry)) for entry in answer.value)
            for key, vector in self.vectors.items()
            for answer in vector.answers
            if answer.result == result
        }

    @pytest.mark.parametrize("result", ["valid", "acceptable", "invalid"])
    def test_known_answers_are_recognised(self, result: str) -> None:
        given = self.answered(result)
        verdicts = verify(given, self.vectors)
        assert len(verdicts) == len(given)
        assert {verdict.result for verdict in verdicts} == {result}
        assert all(verdict.digits > 15 for verdict in verdicts) == (result == "valid")
        assert all(bool(verdict.flags) == (result != "valid") for verdict in verdicts)

    def test_the_floor_is_what_passes(self) -> None:
        (key, numbers), *_ = self.answered("valid").items()
        largest = max(range(len(numbers)), key=lambda i: abs(float(numbers[i])))

        def off_by(relative: float) -> str:
            moved = list(numbers)
            moved[largest] = repr(float(numbers[largest]) * (1 + relative))
            (verdict,) = verify({key: moved}, self.vectors)
            return verdict.result

        assert [off_by(0.9e-9), off_by(1.1e-9)] == ["valid", "unknown"]

    def test_with_exact_arithmetic_no_rounding_passes(self) -> None:
        key = next(iter(self.vectors))
        exact = [
            f"{n.numerator}e-30" for n in (v * 10**30 for v in self.vectors[key].answers[0].value)
        ]
        assert verify({key: exact}, self.vectors, floor=0)[0].result == "valid"
        rounded = self.answered("valid")[key]
        assert verify({key: rounded}, self.vectors, floor=0)[0].result == "unknown"

    @pytest.mark.parametrize("number", ["nan", "Infinity", "-inf"])
    def test_what_is_not_finite_is_wrong(self, number: str) -> None:
        (key, numbers), *_ = self.answered("valid").items()
        (verdict,) = verify({key: (number, *numbers[1:])}, self.vectors)
        assert (verdict.result, verdict.digits, verdict.passed) == ("unknown", 0.0, False)

    def test_another_length_or_id_is_refused(self) -> None:
        (key, numbers), *_ = self.answered("valid").items()
        with pytest.raises(ArgumentError, match="entries"):
            verify({key: numbers[:-1]}, self.vectors)
        with pytest.raises(ArgumentError, match="new id"):
            verify({"unrolled-0123456789abcdef": numbers}, self.vectors)

    @pytest.mark.parametrize(
        "content", [b"[]", b'{"x": [1.0]}', b'{"x": ["1e9999"]}', b'{"x": []}', b'{"x": ["0x1"]}']
    )
    def test_malformed_results_are_refused(self, content: bytes) -> None:
        with pytest.raises(ArgumentError, match=r"results\.json must (be|follow)"):
            results_of("results.json", content)

    def test_the_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "results.json"

        def status(results: dict[str, tuple[str, ...]], *words: str) -> int:
            path.write_text(json.dumps(results), encoding="utf-8")
            return main(["vectors", "verify", str(path), *words])

        valid, invalid = self.answered("valid"), self.answered("invalid")
        assert status({**valid, **self.answered("acceptable")}) == 0
        one = next(iter(invalid))
        assert status({**valid, one: invalid[one]}) == 1
        assert "1 of them wrong" in capsys.readouterr().out
        assert status({}) == 2
        assert status({"nothing": ("1",)}) == 2
        path.write_bytes(b"{")
        assert main(["vectors", "verify", str(path)]) == 2
        assert main(["vectors", "verify", str(tmp_path / "none.json")]) == 2
        other = tmp_path / "other"
        other.mkdir()
        assert status(valid, "--vectors", str(other)) == 2
        (other / "quadratic.json").write_text(
            committed("quadratic").replace('"lambda": ["-0.625"', '"lambda": ["0.625"'),
            encoding="utf-8",
        )
        assert status(valid, "--vectors", str(other)) == 2
        assert "checksum" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, str(READERS / "reader.py")],
        pytest.param(
            ["node", str(READERS / "reader.js")],
            marks=pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
        ),
    ],
    ids=["NumPy", "JavaScript"],
)
def test_a_reader_of_fifty_lines_computes_them(command: list[str]) -> None:
    assert len(Path(command[1]).read_text(encoding="utf-8").splitlines()) <= 50
    done = subprocess.run([*command, str(DATA)], capture_output=True, check=True, timeout=60)
    verdicts = verify(results_of("stdout", done.stdout), shipped())
    assert len(verdicts) == 12
    assert all(verdict.result == "valid" and verdict.digits > 15 for verdict in verdicts)


def test_nothing_here_unpickles_or_evaluates() -> None:
    readers = [f"refblo.vectors.{name}" for name in ("read", "verify", "document")]
    for module in (*readers, "refblo.commands.vectors"):
        found = importlib.util.find_spec(module)
        assert found is not None
        assert found.origin is not None
        names = {
            node.id
            for node in ast.walk(ast.parse(Path(found.origin).read_text(encoding="utf-8")))
            if isinstance(node, ast.Name)
        }
        assert not names & {"eval", "exec", "pickle", "sympify", "literal_eval", "__import__"}


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
