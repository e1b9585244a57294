"""`refblo doctor` names what is missing, and says how to get it: 1 s of processor time."""

import pytest
from packaging.requirements import Requirement

from refblo.cli import main
from refblo.commands import doctor


def test_a_complete_environment_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "nothing that refblo needs is missing" in printed
    for part in ("torch", "Python", "CPU", "extra test: pip install refblo[test]", "hypothesis"):
        assert part in printed


def test_a_missing_package_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "sympy" else there(name))
    assert main(["doctor"]) == 1
    assert 'sympy: pip install "sympy>=' in capsys.readouterr().out


def test_a_missing_package_of_an_extra_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "jax" else there(name))
    assert main(["doctor"]) == 0
    assert "not installed" in capsys.readouterr().out


def test_an_old_package_is_named_with_the_version_it_must_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda _: "1.0")
    found = doctor.requirement("numpy>=2.0", "")
    assert found.found == "1.0"
    assert "it must be >=2.0" in found.remedy


@pytest.mark.parametrize(
    ("text", "extra"),
    [
        ("numpy>=2.0", ""),
        ('jax>=0.4.38; extra == "jax"', "jax"),
        ('sybil>=9; python_version > "3.10" and extra == "test"', "test"),
    ],
)
def test_the_extra_of_a_requirement_is_read(text: str, extra: str) -> None:
    assert doctor._extra(Requirement(text)) == extra
