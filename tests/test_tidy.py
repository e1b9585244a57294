"""Result files lose this machine's paths and keep what was measured."""

import json
from pathlib import Path

from asv_bench.tidy import tidy

LONG = "abcdef12-existing-py_home_me_.venv_bin_python.json"


def write(path: Path, results: dict[str, list[int]]) -> None:
    python = "/home/me/.venv/bin/python"
    document = {
        "env_name": "existing-py_home_me_.venv_bin_python",
        "params": {"python": python},
        "python": python,
        "results": results,
        "durations": {},
    }
    path.write_text(json.dumps(document), encoding="utf-8")


def test_paths_go_and_results_stay(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    machine.mkdir()
    write(machine / LONG, {"first": [1]})
    assert tidy(tmp_path) == 1
    write(machine / LONG, {"second": [2]})
    assert tidy(tmp_path) == 1
    (file,) = machine.iterdir()
    assert file.name == "abcdef12-existing.json"
    text = file.read_text(encoding="utf-8")
    assert "home" not in text
    assert json.loads(text)["results"] == {"first": [1], "second": [2]}


def test_nothing_to_do_is_fine(tmp_path: Path) -> None:
    assert tidy(tmp_path) == 0
