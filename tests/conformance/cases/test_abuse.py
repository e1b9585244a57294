"""No bad argument of hypergradcheck raises anything but refblo's own errors, each naming the argument.

Every eleventh call in the quick profile, all of them in the full one. About 4 s.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import abuse

ROOT = Path(__file__).resolve().parents[3]
HARMLESS = 50
"""More calls of one form than this that raise nothing would mean that the values are not bad enough."""


def made(every: int, *forms: str) -> list[dict[str, str]]:
    """What the calls raise in a process without the tests' own type checks."""
    module = ["-W", "ignore", "-m", "tests.conformance.abuse"]
    command = [sys.executable, *module, str(every), *forms]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("every", "forms"),
    [
        (11, ("torch", "numpy", "objective")),
        *(pytest.param(1, (form,), marks=pytest.mark.full) for form in abuse.FORMS),
    ],
)
def test_a_bad_argument_is_named_by_an_error_of_ours(every: int, forms: tuple[str, ...]) -> None:
    if "jax" in forms:
        pytest.importorskip("jax")
    found = made(every, *forms)
    assert len(found) * every >= 300 * len(forms)
    foreign = [one for one in found if not one["own"]]
    assert not foreign
    unnamed = [one for one in found if one["text"] and one["argument"] not in one["text"]]
    assert not unnamed
    assert sum(not one["text"] for one in found) * every <= HARMLESS * len(forms)


def test_every_argument_meets_every_bad_value() -> None:
    pairs = {(argument, name) for _, argument, name, _ in abuse.calls(["torch"])}
    wanted = {(a, v) for a in (*abuse.POSITIONAL, *abuse.OPTIONS) for v in abuse.BAD}
    assert wanted <= pairs
    assert len(pairs) >= 500
