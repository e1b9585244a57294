"""The catalogue that refblo check judges targets on: its traits, sizes and capabilities."""

from refblo.conformance.catalogue import entries
from refblo.conformance.catalogue.entry import CAPABILITIES


def test_every_trait_is_there() -> None:
    traits = set().union(*(entry.traits for entry in entries()))
    assert traits >= {
        "Hessian is c·I",
        "solver converges exactly before its last iteration",
        "several tensors coupled through the Hessian",
        "direct term",
        "step size is not 1",
        "weight decay in the optimiser",
        "momentum",
        "exactly zero gradient under Adam",
        "constant added to the outer loss",
        "one hyperparameter and one parameter",
        "a tensor without dimensions",
        "the step size depends on lam",
        "a batch is a pair of arrays",
        "many inner minimisers",
        "no inner minimiser",
    }


def test_names_are_unique_and_sizes_differ() -> None:
    found = entries()
    assert len({entry.name for entry in found}) == len(found)
    one = "one hyperparameter and one parameter"
    assert all((entry.lam.size != entry.theta0.size) != (one in entry.traits) for entry in found)
    assert all(entry.rule.step_size != 1 for entry in found)


def test_every_capability_is_needed_somewhere() -> None:
    assert set().union(*(entry.needs for entry in entries())) == set(CAPABILITIES)


def test_some_entries_need_nothing() -> None:
    assert sum(not entry.needs for entry in entries()) >= 3
