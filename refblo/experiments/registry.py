"""Every experiment by its name."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from refblo.errors import ArgumentError
from refblo.experiments.figure_1 import Figure1
from refblo.experiments.figure_2 import Figure2
from refblo.experiments.figure_3 import Figure3
from refblo.experiments.report import Experiment
from refblo.experiments.table_2 import Table2
from refblo.experiments.table_3 import Table3
from refblo.experiments.table_4 import Table4
from refblo.experiments.table_4_textures import Table4Textures
from refblo.experiments.table_5 import Table5
from refblo.experiments.table_6 import Table6
from refblo.experiments.table_8 import Table8
from refblo.experiments.table_9 import Table9
from refblo.experiments.table_13 import Table13
from refblo.experiments.table_14 import Table14
from refblo.experiments.table_15 import Table15
from refblo.experiments.table_16 import Table16

_ALL: tuple[Experiment, ...] = (
    Figure1(),
    Table2(),
    Figure2(),
    Figure3(),
    Table3(),
    Table4(),
    Table4Textures(),
    Table5(),
    Table6(),
    Table6(shot=5),
    Table8(),
    Table9(),
    Table13(),
    Table14(),
    Table15(),
    Table16(),
)

APART = ("table-4-textures",)
"""Experiments that `all` leaves out: they need packages at every scale."""


def registry() -> Mapping[str, Experiment]:
    """Name → experiment, in the paper's order.

    Example:
        >>> list(registry())[:5]
        ['figure-1', 'table-2', 'figure-2', 'figure-3', 'table-3']
    """
    return MappingProxyType({experiment.name: experiment for experiment in _ALL})


def everything() -> list[Experiment]:
    """What `all` stands for."""
    return [experiment for experiment in _ALL if experiment.name not in APART]


def find(name: str) -> Experiment:
    """One experiment.

    Raises:
        ArgumentError: for a name that is not in the registry; it lists the known ones.
    """
    known = registry()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "choose one of these"
    raise ArgumentError(f"name must be one of {', '.join(known)}, got {name!r}; {hint}")
