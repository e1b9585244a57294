"""The run as a black box: a hypergradient checked by differences of one function λ ↦ outer loss."""

from refblo.conformance.black_box.check import black_box_report

__all__ = ["black_box_report"]
