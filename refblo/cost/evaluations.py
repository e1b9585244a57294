"""What a hypergradient costs, counted in evaluations of the problem's derivatives.

Counting is exact and costs nothing measurable: each function of `refblo.derivatives` adds one to the
counter that is active in the current context, if there is one.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import final

from refblo.cost.pause import paused


@final
@dataclass
class Evaluations:
    """Numbers of derivative evaluations, filled in while `counting()` is active.

    Attributes:
        inner_gradients: evaluations of ∂_θ L_T.
        outer_gradients: evaluations of ∂_θ f (and of ∂_λ f where it is taken along).
        hessian_products: products with ∂²L_T/∂θ² or ∂²f/∂θ².
        mixed_products: products with ∂²L_T/∂λ∂θ, in either direction.
    """

    inner_gradients: int = 0
    outer_gradients: int = 0
    hessian_products: int = 0
    mixed_products: int = 0

    @property
    def total(self) -> int:
        """Sum over the kinds, each weighing one gradient."""
        return sum(getattr(self, field.name) for field in fields(self))


_active: ContextVar[Evaluations | None] = ContextVar("refblo_evaluations", default=None)


@contextmanager
def counting() -> Iterator[Evaluations]:
    """Count the derivative evaluations made inside the block; an outer block counts them too."""
    counted = Evaluations()
    enclosing = _active.get()
    token = _active.set(counted)
    try:
        yield counted
    finally:
        _active.reset(token)
        if enclosing is not None:
            for field in fields(counted):
                name = field.name
                setattr(enclosing, name, getattr(enclosing, name) + getattr(counted, name))


def count(kind: str, number: int = 1) -> None:
    """Add to one kind of the active counter; for `refblo.derivatives` only."""
    active = _active.get()
    if active is not None and not paused():
        setattr(active, kind, getattr(active, kind) + number)


def count_all(evaluations: Mapping[str, int]) -> None:
    """Add to several kinds at once."""
    active = _active.get()
    if active is not None and not paused():
        for kind, number in evaluations.items():
            setattr(active, kind, getattr(active, kind) + number)
