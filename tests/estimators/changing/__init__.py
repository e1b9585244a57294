"""Losses that read a number from somewhere, and how to change it there: what a trace must not miss."""

from tests.estimators.changing import containers, functions, modules, objects, tensors
from tests.estimators.changing.loss import Place

PLACES: dict[str, Place] = {
    place.__name__.replace("_", " "): place
    for file in (containers, objects, functions, tensors)
    for place in file.PLACES
}
PLACES |= {"net called with parameters": modules.net_called_with_parameters}
PLACES |= {name: modules.with_net(change) for name, change in modules.NETS.items()}
