"""What contracts ask of a case before they apply, and small conversions they share."""

import numpy as np
import torch
from jaxtyping import Float64

from refblo.problem import FullBatch
from refblo.problems.case import Case

SMALL = 64
"""The most parameters for which dense second derivatives are formed in a check."""


def full_batch(case: Case) -> bool:
    """Whether neither loss samples batches."""
    problem = case.problem
    return isinstance(problem.inner_batches, FullBatch) and isinstance(
        problem.outer_batches, FullBatch
    )


def is_small(case: Case) -> bool:
    """Whether dense second derivatives of a full-batch problem can be formed."""
    sizes = (case.lam.numel(), case.problem.initial(case.lam).numel())
    return max(sizes) <= SMALL and full_batch(case)


def resolves_orders(case: Case) -> bool:
    """Whether rounding leaves room for a sweep over decades: in float64, not in float32."""
    return case.lam.dtype == torch.float64


def array(vector: torch.Tensor) -> Float64[np.ndarray, " p"]:
    """A vector in NumPy, float64."""
    return vector.detach().cpu().to(torch.float64).numpy()
