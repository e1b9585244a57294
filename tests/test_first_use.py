"""What torch imports late is imported without garbage collection, which is then as it was: 1 s."""

import gc
import sys
from collections.abc import Iterator

import pytest

from refblo.derivatives import import_what_is_late


@pytest.fixture
def kept() -> Iterator[None]:
    collects = gc.isenabled()
    yield
    (gc.enable if collects else gc.disable)()


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("collects", [True, False])
def test_garbage_collection_is_as_it_was(collects: bool) -> None:
    (gc.enable if collects else gc.disable)()
    import_what_is_late.cache_clear()
    import_what_is_late()
    assert gc.isenabled() is collects
    assert {"torch._dynamo", "torch._decomp.decompositions_for_jvp"} <= set(sys.modules)
