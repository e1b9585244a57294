"""What `refblo list` prints, read from a file: the registries themselves import torch, which takes seconds.

`python -m refblo.testing.listing` writes the file from the registries; a test fails when it is not theirs.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

LISTING = Path(__file__).parent / "listing.json"
"""The file."""


@final
@dataclass(frozen=True)
class ListedCase:
    """A problem of the catalogue.

    Attributes:
        name: the problem's name.
        p: entries of λ.
        n: entries of θ.
        steps: T, the inner steps of its schedule.
        tags: what it is, in alphabetical order.
    """

    name: str
    p: int
    n: int
    steps: int
    tags: tuple[str, ...]


@final
@dataclass(frozen=True)
class ListedContract:
    """What a contract says: the texts of a `Contract`, without what checks it."""

    name: str
    estimator: str
    relation: str
    claim: str


@final
@dataclass(frozen=True)
class Listing:
    """The catalogue's cases and all contracts, in the order of their registries."""

    cases: tuple[ListedCase, ...]
    contracts: tuple[ListedContract, ...]

    def text(self) -> str:
        """As it stands in the file."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"


def read(path: Path = LISTING) -> Listing:
    """The listing in a file."""
    document = json.loads(path.read_text(encoding="utf-8"))
    cases = (ListedCase(**{**case, "tags": tuple(case["tags"])}) for case in document["cases"])
    return Listing(
        tuple(cases), tuple(ListedContract(**contract) for contract in document["contracts"])
    )
