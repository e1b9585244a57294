"""A finished part is never computed twice, and never taken for another one."""

from pathlib import Path

import numpy as np
import pytest

from refblo.errors import ArgumentError
from refblo.experiments.report import Scale, silent
from refblo.experiments.store import Store, Values


class Counted:
    """Makes a part's values, and counts how often."""

    def __init__(self, *values: float) -> None:
        self.calls = 0
        self.values = values

    def __call__(self) -> Values:
        self.calls += 1
        return {"lam": np.array(self.values)}


def a_store(folder: Path, seed: int = 0, scale: Scale = Scale.SMOKE) -> Store:
    return Store(folder, "table-2", scale, seed, silent)


def test_a_finished_part_is_taken_from_its_file(tmp_path: Path) -> None:
    compute = Counted(0.1, np.nan, -3.0)
    first = a_store(tmp_path).part("RMD", {"γ": 0.005}, compute)
    again = a_store(tmp_path).part("RMD", {"γ": 0.005}, compute)
    assert compute.calls == 1
    np.testing.assert_array_equal(first["lam"], again["lam"])


@pytest.mark.parametrize("change", ["setting", "seed", "scale", "key"])
def test_what_differs_is_computed_anew(tmp_path: Path, change: str) -> None:
    compute = Counted(1.0)
    a_store(tmp_path).part("RMD", {"γ": 0.005}, compute)
    store = a_store(
        tmp_path,
        seed=int(change == "seed"),
        scale=Scale.SMALL if change == "scale" else Scale.SMOKE,
    )
    store.part(
        "FMD" if change == "key" else "RMD", {"γ": 0.01 if change == "setting" else 0.005}, compute
    )
    assert compute.calls == 2


def test_what_does_not_count_is_named_with_its_pieces_and_not_its_neighbours(
    tmp_path: Path,
) -> None:
    store = a_store(tmp_path)
    for key in ("RMD, seed 1", "RMD, seed 1, to step 3", "RMD, seed 1, to step 12", "RMD, seed 10"):
        store.part(key, {"γ": 0.005}, Counted(1.0))
    assert store.refused("RMD, seed 1", {"γ": 0.005}) == []
    assert store.refused("FMD, seed 1", {"γ": 0.005}) == []
    assert store.refused("RMD, seed 1", {"γ": 0.01}) == [
        f"{name}-smoke.json was computed under another settings"
        for name in ("rmd--seed-1", "rmd--seed-1--to-step-3", "rmd--seed-1--to-step-12")
    ]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": 3}', "null", '{"values": {}}'])
def test_a_damaged_file_is_computed_anew(tmp_path: Path, content: str) -> None:
    compute = Counted(1.0)
    store = a_store(tmp_path)
    store.part("RMD", {}, compute)
    (file,) = store.parts.iterdir()
    file.write_text(content, encoding="utf-8")
    assert store.part("RMD", {}, compute)["lam"][0] == 1.0
    assert compute.calls == 2


def test_an_interruption_leaves_what_is_finished_and_nothing_else(tmp_path: Path) -> None:
    def interrupted() -> Values:
        raise KeyboardInterrupt

    finished = Counted(1.0)
    store = a_store(tmp_path)
    store.part("RMD", {}, finished)
    with pytest.raises(KeyboardInterrupt):
        store.part("FMD", {}, interrupted)
    assert [file.name for file in store.parts.iterdir()] == ["rmd-smoke.json"]
    a_store(tmp_path).part("RMD", {}, finished)
    assert finished.calls == 1


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"seed must lie in \[0, 2\^32\), got -1"):
        a_store(tmp_path, seed=-1)


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "taken"
    file.write_text("", encoding="utf-8")
    for output in (file, file / "below"):
        with pytest.raises(ArgumentError, match="output must be a folder"):
            a_store(output)
