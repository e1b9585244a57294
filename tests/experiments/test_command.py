"""`refblo reproduce` as a user types it."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from refblo.commands.reproduce import reproduce
from refblo.experiments.registry import registry


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(reproduce, arguments, env={"COLUMNS": "200"})


def test_the_list_names_every_experiment() -> None:
    result = typed("--list")
    assert result.exit_code == 0
    assert all(name in result.output for name in registry())


def test_an_unknown_name_is_a_usage_error_that_lists_the_known_ones() -> None:
    result = typed("tabel-2")
    assert result.exit_code == 2
    assert all(name in result.output for name in registry())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "NAME must be given"),
        (("figure-1", "--scale", "huge"), "'huge' is not one of"),
        (("figure-1", "--seed", "-1"), "seed must lie in"),
        (("figure-1", "--seed", "x"), "not a valid integer"),
    ],
)
def test_bad_input_is_a_usage_error(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = typed(*arguments, *(("--output", str(tmp_path)) if arguments else ()))
    assert result.exit_code == 2
    assert message in result.output


def test_an_output_below_a_file_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "taken"
    file.write_text("", encoding="utf-8")
    result = typed("figure-1", "--output", str(file / "below"))
    assert result.exit_code == 2
    assert "output must be a folder" in result.output


def test_a_run_prints_both_figures_and_every_setting(tmp_path: Path) -> None:
    result = typed("figure-1", "--scale", "smoke", "--output", str(tmp_path), "--seed", "4")
    assert result.exit_code == 0, result.output
    for part in (
        "0.0083",
        "0.008301",
        "reproduced",
        "Settings",
        "seed 4",
        "Findings",
        "report.json",
    ):
        assert part in result.output
