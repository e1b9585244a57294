"""Small problems chosen for the bugs that they expose; each names its traits."""

from refblo.conformance.catalogue.entries import entries
from refblo.conformance.catalogue.entry import Entry

__all__ = ["Entry", "entries"]
