"""Truncated Neumann series: K "iterations" are K terms to some and K + 1 to others; both are accepted.

A target that declares `solver = "neumann"` is asked for f_λ − q·C at the inner solution with
q = α Σ_{j<K} (I − αH)^j f_θ, α being the inner step size. The sum is taken in closed form over H's
eigenvalues h: Σ_{j<K} α(1 − αh)^j = (1 − (1 − αh)^K)/h.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from refblo.conformance.diagnosis import Subject
from refblo.conformance.diagnosis.trace import numpy_of

Array = np.ndarray
TERMS = 6
"""K, for targets that do not declare their own `terms`."""


@final
@dataclass(frozen=True, eq=False)
class Convention:
    """One meaning of K.

    Attributes:
        text: the convention in words.
        vector: the hypergradient under it, shape (p,).
    """

    text: str
    vector: Float64[Array, " p"]


def conventions(subject: Subject, terms: int) -> tuple[Convention, ...]:
    """Both meanings of K terms; none where there is no inner solution or no step size."""
    root, scale = subject.root, subject.step_size
    if root is None or scale is None:
        return ()
    eigenvalues, basis = np.linalg.eigh(numpy_of(root.hessian))
    slope = basis.T @ numpy_of(root.slope)
    found = []
    for count, text in ((terms, "K terms"), (terms + 1, "K + 1 terms")):
        q = basis @ ((1 - (1 - scale * eigenvalues) ** count) / eigenvalues * slope)
        vector: Array = numpy_of(root.direct) - q @ numpy_of(root.mixed)
        found.append(Convention(f"K = {terms} means {text}", vector))
    return tuple(found)
