"""The command line as a whole: quick to start, and one meaning for each exit status."""

import subprocess
import sys

import click
import pytest

import refblo
from refblo import cli
from refblo.errors import ArgumentError, OracleError


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


def test_help_is_shown_without_waiting_for_torch() -> None:
    run = python(
        "import sys; from refblo.cli import main; status = main(['--help']);"
        "slow = {'torch', 'numpy', 'rich', 'matplotlib', 'sympy', 'scipy'};"
        "assert not slow & set(sys.modules); sys.exit(status)"
    )
    assert run.returncode == 0, run.stderr
    for name, entry in cli.COMMANDS.items():
        assert name in run.stdout
        assert entry.summary in run.stdout


def test_the_list_is_shown_without_waiting_for_torch() -> None:
    run = python(
        "import sys; from refblo.cli import main; status = main(['list']);"
        "slow = {'torch', 'numpy', 'matplotlib', 'sympy', 'scipy', 'sklearn'} & set(sys.modules);"
        "print(sorted(slow), file=sys.stderr); sys.exit(status)"
    )
    assert (run.returncode, run.stderr.strip()) == (0, "[]")
    assert "softmax_digits" in run.stdout


def test_a_verdict_on_a_run_does_not_wait_for_what_judges_a_black_box() -> None:
    run = python(
        "import sys; from refblo import hypergradcheck;"
        "print(sorted({'sympy', 'scipy', 'flint', 'refblo.oracles'} & set(sys.modules)))"
    )
    assert run.stdout.strip() == "[]", run.stderr


def test_the_package_is_a_program() -> None:
    command = [sys.executable, "-m", "refblo", "--version"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.startswith("refblo, version ")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_where_the_table_says(name: str) -> None:
    assert cli.main([name, "--help"]) == 0
    command = cli.commands.get_command(click.Context(cli.commands), name)
    assert command is not None
    assert command.name == name


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"]])
def test_an_unknown_word_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_a_misspelt_command_is_told_the_nearest(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([name[:-1] + "x"]) == 2
    assert f"did you mean {name!r}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (KeyboardInterrupt(), 130),
        (ArgumentError("lam must be a vector"), 2),
        (OracleError("no truth"), 1),
        (click.UsageError("not so"), 2),
        (click.exceptions.Exit(7), 7),
        (None, 0),
    ],
)
def test_exit_statuses(
    raised: BaseException | None,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command("probe")
    def probe() -> None:
        if raised is not None:
            raise raised

    monkeypatch.setattr(cli._Commands, "get_command", lambda *_: probe)
    assert cli.main(["probe"]) == status
    error = capsys.readouterr().err
    assert "Traceback" not in error
    if isinstance(raised, ArgumentError | OracleError):
        assert str(raised) in error


def test_every_public_name_can_be_had() -> None:
    for name in refblo.__all__:
        assert getattr(refblo, name).__name__ == name
    assert set(refblo.__all__) <= set(dir(refblo))
    with pytest.raises(AttributeError, match="nonsense"):
        refblo.nonsense  # type: ignore[attr-defined]  # that is the point  # noqa: B018


@pytest.mark.parametrize(
    "words",
    [
        ["mine.py"],
        ["mine.py:f", "--framework", "tensorflow"],
        ["mine.py:f", "--expected-failures", "no-such-file.toml"],
        ["mine.py:f", "--json", "one-file", "--html", "one-file"],
    ],
    ids=["target", "framework", "expected failures", "one file"],
)
def test_a_wrong_command_line_of_check_does_not_wait_for_torch(words: list[str]) -> None:
    run = python(
        f"import sys; from refblo.cli import main; status = main({['check', *words]!r});"
        "slow = {'torch', 'numpy', 'sympy', 'scipy'} & set(sys.modules);"
        "print(sorted(slow)); sys.exit(status)"
    )
    assert (run.returncode, run.stdout.strip()) == (cli.USAGE, "[]"), run.stderr


def test_check_takes_the_frameworks_of_the_suite() -> None:
    from refblo.commands import check
    from refblo.conformance.suite import view

    assert check.FRAMEWORKS == view.FRAMEWORKS
