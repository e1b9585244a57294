"""Host synchronisations and transfers, counted on a device that is not there: 15 s of processor time.

One process for the file has the device; a second one, for the cases that the quick suite leaves out. This
process keeps to torch's own devices.
"""

import json
import os
import re
import subprocess
import sys
from functools import cache
from linecache import getline
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.backend_registration

from refblo.cost import HostTraffic, PretendDeviceError, decide, measure, number, pretend_device
from refblo.cost.pretend import _MAKER
from refblo.estimators import IFTConjugateGradient
from refblo.testing.cases import SMALL_CASES
from tests.cost.pretend_cases import STOPS, cases, class_of, is_quick, stops

ROOT = Path(__file__).resolve().parents[2]
Found = dict[str, Any]


@cache
def counted(*parts: str) -> dict[str, Found]:
    """What the process of the device counted."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.cost.pretend_child", *parts],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "without it" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    found: dict[str, Found] = json.loads(done.stdout)
    return found


def quick(part: str) -> Found:
    return counted("quick", "faults", "others")[part]


QUICK = [name for name in cases() if is_quick(name)]
REST = [name for name in cases() if not is_quick(name)]


def look_at(name: str, found: Found) -> None:
    """Nothing is transferred, and nothing is looked at but by the lines that stop."""
    assert "error" not in found, found
    assert found["transfers"] == 0, found["places"]
    allowed = stops(name)
    if not allowed:
        assert found["synchronisations"] == 0, found["places"]
    else:
        # A class that no longer stops is to be taken off the list.
        assert found["synchronisations"] > 0
    for place in found["places"]:
        file, _, number_and_rest = place.partition(":")
        line = getline(str(ROOT / file), int(number_and_rest.split(" ", maxsplit=1)[0]))
        assert any(stop.file == file and stop.line in line for stop in allowed), (place, line)
    assert found.get("kept", True), "the result has another dtype or device than lam"


@pytest.mark.parametrize("name", QUICK)
def test_an_estimator_waits_for_nothing_and_moves_nothing(name: str) -> None:
    look_at(name, quick("quick")[name])


@pytest.mark.full
@pytest.mark.parametrize("name", REST)
def test_nor_does_it_with_any_of_its_options(name: str) -> None:
    look_at(name, counted("rest")["rest"][name])


def test_the_answer_is_looked_at_when_it_is_read() -> None:
    for name, found in quick("quick").items():
        if "read" in found and class_of(name) != "AdaptiveImplicit":
            assert 1 <= found["read"]["synchronisations"] <= 2, name
            assert found["read"]["transfers"] == 0, name


def test_every_line_that_stops_is_there() -> None:
    for stop in {stop for each in STOPS.values() for stop in each}:
        assert stop.line in (ROOT / stop.file).read_text(encoding="utf-8"), stop


STEPS = 2
RAISED = {
    "reads": "must not read a tensor's numbers, got _local_scalar_dense",
    "draws_in_double": "one floating-point dtype, got add_ of torch.float32 and torch.float64",
    "lies_elsewhere": "all tensors on one device, got add of tensors on cpu and pretend:0",
    "masks": "must not read a tensor's numbers, got index_put_",
    "solves": "must not read a tensor's numbers, got _linalg_check_errors",
    "goes_through_numpy": "must not read a tensor's numbers, got numpy",
    "lam elsewhere": "must have the dtype and device of lam",
}


@pytest.mark.parametrize("fault", RAISED)
def test_a_planted_fault_raises_and_says_where(fault: str) -> None:
    found = quick("faults")[fault]
    assert found["error"] in {"PretendDeviceError", "ArgumentTypeError"}
    assert RAISED[fault] in found["message"]
    if found["error"] == "PretendDeviceError":
        assert found["message"].startswith("tests/cost/pretend_child.py:")
        assert f"in {fault} must" in found["message"]


COUNTED = {
    "none": (0, 0),
    "looks": (STEPS, 0),
    "draws_on_the_cpu": (0, STEPS),
    "makes_from_numbers": (0, STEPS),
    "fetches": (0, 2 * STEPS),
}


@pytest.mark.parametrize("fault", COUNTED)
def test_a_planted_fault_is_counted_once_a_step(fault: str) -> None:
    found = quick("faults")[fault]
    assert (found["synchronisations"], found["transfers"]) == COUNTED[fault]
    assert all(f"in {fault}: " in place for place in found["places"])


def test_every_planted_fault_is_expected() -> None:
    assert set(quick("faults")) == set(RAISED) | set(COUNTED)


def test_batches_are_drawn_where_the_data_are() -> None:
    others = quick("others")
    assert others["batches on cpu"]["transfers"] == STEPS
    assert others["batches on pretend"]["transfers"] == 0
    assert others["batches on pretend"]["synchronisations"] == 0


def test_a_derivative_that_is_a_number_is_looked_at_beside_its_direction() -> None:
    places = quick("others")["directional"]["places"]
    assert [place.split(" in ")[1] for place in places] == [
        "_check_finite: decide",
        "derivative: number",
    ]


def test_a_tensor_with_numbers_is_refused_unless_it_is_taken_over() -> None:
    assert "made inside the block" in quick("others")["not taken over"]["message"]


def test_the_cost_of_a_run_has_the_same_counts() -> None:
    # Two iterations of CG look twice each.
    assert quick("others")["measured"] == {"synchronisations": 4, "transfers": 0}


@pytest.mark.full
def test_the_script_of_the_docs_prints_what_they_say(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / "cost.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(# count_mine\.py\n.*?)```", page, re.DOTALL)
    path = tmp_path / "count_mine.py"
    path.write_text(script, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(path)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "0\n0\n"), done.stderr


# ---------------------------------------------------------------- on the CPU, in this process

X = torch.arange(3.0)

READS = {
    "item": lambda: X.sum().item(),
    "bool": lambda: bool((X > 0).all()),
    "float": lambda: float(X.sum()),
    "tolist": X.tolist,
    "tolist of one": lambda: X.sum().tolist(),
    "numpy": X.numpy,
    "asarray": lambda: np.asarray(X),
    "repr": lambda: repr(X),
    "nonzero": X.nonzero,
    "mask": lambda: X[X > 0],
    "equal": lambda: torch.equal(X, X),
    "allclose": lambda: torch.allclose(X, X),
    "unique": lambda: torch.unique(X),
    "checked solve": lambda: torch.linalg.solve(torch.eye(3), X),
    "decide": lambda: decide(X.sum() > 0, without_numbers=True),
    "number": lambda: number(X.sum()),
}
QUIET = {
    "arithmetic": lambda: torch.where(X > 0, X, -X).sum(),
    "index": lambda: X[torch.tensor([0, 2])],
    "a solve without a check": lambda: torch.linalg.solve_ex(torch.eye(3), X),
    "a tensor of numbers": lambda: torch.tensor([1.0, 2.0]),
    "another dtype": lambda: X.to(torch.float64),
}


@pytest.mark.parametrize("name", READS)
def test_a_read_is_one_host_synchronisation(name: str) -> None:
    cost = measure(READS[name])  # type: ignore[arg-type]  # functions of all kinds
    assert (cost.host_synchronisations, cost.transfers) == (1, 0)
    assert cost.places[0].startswith("tests/cost/test_pretend_device.py:") or "numpy" in name


@pytest.mark.parametrize("name", QUIET)
def test_what_reads_nothing_counts_nothing(name: str) -> None:
    cost = measure(QUIET[name])
    assert (cost.host_synchronisations, cost.transfers, cost.places) == (0, 0, ())


def test_the_cpu_counts_what_the_device_does() -> None:
    case = SMALL_CASES[0](torch.float64)
    method = IFTConjugateGradient(case.dynamics, 1, 2)
    cost = measure(lambda: method.estimate(case.problem, case.lam))
    assert cost.host_synchronisations == quick("others")["measured"]["synchronisations"]


def test_an_outer_block_sees_what_an_inner_one_does_not_hide() -> None:
    with HostTraffic() as traffic:
        X.sum().item()
    X.sum().item()
    assert traffic.synchronisations == 1


def test_a_torch_without_the_private_function_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.utils.backend_registration, _MAKER, raising=False)
    with (
        pytest.raises(PretendDeviceError, match=rf"{_MAKER}.*got torch .* without it; install"),
        pretend_device(),
    ):
        pass


def test_another_device_of_the_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_get_privateuse1_backend_name", lambda: "npu")
    with pytest.raises(PretendDeviceError, match="got 'npu'; start another"), pretend_device():
        pass


def test_this_process_has_no_such_device() -> None:
    assert torch._C._get_privateuse1_backend_name() == "privateuseone"
