"""Every kind of mutant is made, is Python, and is put where it belongs. About 2 s."""

import json
from pathlib import Path

import pytest

from tests.mutation.run import Outcome, Verdict
from tests.mutation.selection import as_pytest
from tests.mutation.sites import Kind, sites

ROOT = Path(__file__).resolve().parents[2]

SOURCE = '''
def f(x, y, k=2):
    """½ x − 1: no site."""
    if x < 0:
        raise ValueError(f"x must be positive, got {x + 1}")
    z = -x.detach() * y + k / 0.5
    return g(z, y) if x > 1 and y is None else z
'''


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_is_made(kind: Kind) -> None:
    assert any(site.kind is kind for site in sites("f.py", SOURCE))


def test_a_mutant_differs_in_its_place_alone() -> None:
    found = sites("f.py", SOURCE)
    assert len({site.applied(SOURCE) for site in found}) == len(found)
    for site in found:
        changed = site.applied(SOURCE)
        compile(changed, "f.py", "exec")
        data = SOURCE.encode()
        assert data[site.start : site.end].decode() == site.old
        assert changed.encode().startswith(data[: site.start])
        assert changed.encode().endswith(data[site.end :])


def test_words_are_no_sites() -> None:
    assert not [site for site in sites("f.py", SOURCE) if site.line in (3, 5)]


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (Kind.GUARD, "x < 0", "(False)"),
        (Kind.BOUNDARY, "x < 0", "(x <= 0)"),
        (Kind.COMPARISON, "x < 0", "(x >= 0)"),
        (Kind.SIGN, "-x.detach()", "(x.detach())"),
        (Kind.DETACH, "x.detach()", "(x)"),
        (Kind.ARITHMETIC, "k / 0.5", "(k * 0.5)"),
        (Kind.DROPPED, "-x.detach() * y + k / 0.5", "(k / 0.5)"),
        (Kind.CONSTANT, "0.5", "(0.505)"),
        (Kind.SWAPPED, "g(z, y)", "(g(y, z))"),
    ],
)
def test_what_is_done(kind: Kind, old: str, new: str) -> None:
    assert any(
        (site.kind, site.old, site.new) == (kind, old, new) for site in sites("f.py", SOURCE)
    )


def test_every_mutant_of_a_file_is_python() -> None:
    source = (ROOT / "refblo" / "chain.py").read_text(encoding="utf-8")
    for site in sites("refblo/chain.py", source):
        compile(site.applied(source), site.path, "exec")


def test_what_was_written_is_read_again() -> None:
    for site in sites("f.py", SOURCE):
        verdict = Verdict(site, Outcome.SURVIVED, 3, 1.5)
        assert Verdict.of(json.loads(json.dumps(verdict.plain()))) == verdict


def test_a_context_of_coverage_is_a_test_of_pytest() -> None:
    context = "tests.mutation.test_sites.test_words_are_no_sites"
    assert as_pytest(context, ROOT) == "tests/mutation/test_sites.py::test_words_are_no_sites"
    assert as_pytest("refblo.chain.Chain", ROOT) is None
