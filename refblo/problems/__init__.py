"""The catalogue: one problem a file, its closed forms and its sympy statement beside it.

Tags that a case may carry, for contracts to select by:

- "quadratic": both losses are quadratic in θ;
- "quadratic inner loss": the inner loss is, and the outer one is not;
- "strongly convex": the inner loss is, in θ, at the case's λ and everywhere in θ;
- "deterministic losses" or "stochastic losses": whether a loss samples batches;
- "real data";
- "separable", "composed": the declared structure;
- "non-smooth": a derivative jumps somewhere;
- "initial depends on lam": θ⁰ = θ⁰(λ).
"""

from refblo.problems.case import Case, ClosedForms
from refblo.problems.catalogue import build, catalogue
from refblo.problems.namespace import StatedLosses, Statement

__all__ = ["Case", "ClosedForms", "StatedLosses", "Statement", "build", "catalogue"]
