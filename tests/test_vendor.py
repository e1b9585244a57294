"""asv's pages are made to work without a network."""

import importlib.util
from pathlib import Path

import pytest

from asv_bench.vendor import FILES, VendorError, point_at_copies, vendor


def test_addresses_become_local_and_lose_their_guards() -> None:
    page = (
        '<script src="https://cdn.example.org/a/md5.min.js" integrity="x" crossorigin="a"></script>'
    )
    assert point_at_copies(page) == '<script src="vendor/md5.min.js"></script>'


def test_links_to_pages_stay() -> None:
    page = '<a href="https://github.com/airspeed-velocity/asv/">asv</a>'
    assert point_at_copies(page) == page


def test_an_unknown_library_is_named() -> None:
    with pytest.raises(VendorError, match=r"new\.min\.js"):
        point_at_copies('<script src="https://cdn.example.org/new.min.js"></script>')


def test_a_missing_site_is_said(tmp_path: Path) -> None:
    with pytest.raises(VendorError, match="there is no site"):
        vendor(tmp_path)


def test_every_library_of_the_installed_asv_is_known() -> None:
    found = importlib.util.find_spec("asv")
    if found is None or found.origin is None:
        pytest.skip("asv is not installed")
    page = (Path(found.origin).parent / "www" / "index.html").read_text(encoding="utf-8")
    local = point_at_copies(page)
    assert all(f"vendor/{name}" in local for name in FILES)
    assert 'src="http' not in local
    assert "integrity" not in local


def test_npm_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.html").write_text("", encoding="utf-8")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VendorError, match="npm must be installed"):
        vendor(tmp_path)
