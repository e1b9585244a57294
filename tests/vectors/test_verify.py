"""refblo vectors verify: which answers pass, what is refused, and the readers of the documentation."""

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refblo.cli import main
from refblo.errors import ArgumentError
from refblo.vectors.read import results_of
from refblo.vectors.verify import verify
from tests.vectors.committed import DATA, committed, vectors

READERS = Path(__file__).resolve().parents[2] / "docs" / "vectors"


def answered(result: str) -> dict[str, tuple[str, ...]]:
    """The last answer of that kind to each vector that has one, as doubles."""
    return {
        key: tuple(repr(float(entry)) for entry in answer.value)
        for key, vector in vectors().items()
        for answer in vector.answers
        if answer.result == result
    }


@pytest.mark.parametrize("result", ["valid", "acceptable", "invalid"])
def test_known_answers_are_recognised(result: str) -> None:
    given = answered(result)
    verdicts = verify(given, vectors())
    assert len(verdicts) == len(given)
    assert {verdict.result for verdict in verdicts} == {result}
    assert all(verdict.digits > 15 for verdict in verdicts) == (result == "valid")
    assert all(bool(verdict.flags) == (result != "valid") for verdict in verdicts)


def test_the_floor_is_what_passes() -> None:
    (key, numbers), *_ = answered("valid").items()
    largest = max(range(len(numbers)), key=lambda i: abs(float(numbers[i])))

    def off_by(relative: float) -> str:
        moved = list(numbers)
        moved[largest] = repr(float(numbers[largest]) * (1 + relative))
        (verdict,) = verify({key: moved}, vectors())
        return verdict.result

    assert [off_by(0.9e-9), off_by(1.1e-9)] == ["valid", "unknown"]


def test_with_exact_arithmetic_no_rounding_passes() -> None:
    key = next(iter(vectors()))
    exact = [f"{n.numerator}e-30" for n in (v * 10**30 for v in vectors()[key].answers[0].value)]
    assert verify({key: exact}, vectors(), floor=0)[0].result == "valid"
    rounded = answered("valid")[key]
    assert verify({key: rounded}, vectors(), floor=0)[0].result == "unknown"


@pytest.mark.parametrize("floor", [-0.1, 1.0, 2.0, float("inf"), float("nan")])
def test_a_floor_at_which_zeros_would_pass_is_refused(floor: float) -> None:
    known = vectors()
    zeros = {key: ["0"] * len(vector.answers[0].value) for key, vector in known.items()}
    with pytest.raises(ArgumentError, match=r"floor must be in \[0, 1\)"):
        verify(zeros, known, floor)
    assert all(verdict.result != "valid" for verdict in verify(zeros, known, 0.99))


@pytest.mark.parametrize("number", ["nan", "Infinity", "-inf"])
def test_what_is_not_finite_is_wrong(number: str) -> None:
    (key, numbers), *_ = answered("valid").items()
    (verdict,) = verify({key: (number, *numbers[1:])}, vectors())
    assert (verdict.result, verdict.digits, verdict.passed) == ("unknown", 0.0, False)


def test_another_length_or_id_is_refused() -> None:
    (key, numbers), *_ = answered("valid").items()
    with pytest.raises(ArgumentError, match="entries"):
        verify({key: numbers[:-1]}, vectors())
    with pytest.raises(ArgumentError, match="new id"):
        verify({"unrolled-0123456789abcdef": numbers}, vectors())


@pytest.mark.parametrize(
    "content", [b"[]", b'{"x": [1.0]}', b'{"x": ["1e9999"]}', b'{"x": []}', b'{"x": ["0x1"]}']
)
def test_malformed_results_are_refused(content: bytes) -> None:
    with pytest.raises(ArgumentError, match=r"results\.json must (be|follow)"):
        results_of("results.json", content)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.json"

    def status(results: dict[str, tuple[str, ...]], *words: str) -> int:
        path.write_text(json.dumps(results), encoding="utf-8")
        return main(["vectors", "verify", str(path), *words])

    valid, invalid = answered("valid"), answered("invalid")
    assert status({**valid, **answered("acceptable")}) == 0
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
    verdicts = verify(results_of("stdout", done.stdout), vectors())
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
