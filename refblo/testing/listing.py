"""Writes what `refblo list` prints, `refblo/contracts/listing.json`: `python -m refblo.testing.listing`.

Run it after a change of a case's sizes or tags, or of a contract's texts. A test fails when the file that is
there is not the one that this writes.
"""

from refblo.contracts.listing import LISTING, ListedCase, ListedContract, Listing
from refblo.contracts.registry import contracts
from refblo.files import write_atomically
from refblo.problems import catalogue


def of_the_registries() -> Listing:
    """The listing of the code that is imported."""
    cases = []
    for builder in catalogue().values():
        case = builder()
        n = case.problem.initial(case.lam).numel()
        tags = tuple(sorted(case.tags))
        cases.append(ListedCase(case.name, case.lam.numel(), n, case.schedule.steps, tags))
    listed = (
        ListedContract(each.name, each.estimator, each.relation, each.claim) for each in contracts()
    )
    return Listing(tuple(cases), tuple(listed))


if __name__ == "__main__":
    write_atomically(LISTING, of_the_registries().text())
