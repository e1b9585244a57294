"""A bound on the error of HPO-SGLD's recursion (22), from norms along the chain.

For θ⁰ independent of λ, against forward mode on the same noise, with H^j and C^j the derivatives of ∂_θ L_T
at θ^j by θ and by λ:

    ‖h − h_exact‖ ≤ (1/M) Σ_{m>B} γ Σ_{k≤m} ‖C^{k−1}‖ (‖f_θ^m‖ G_{k,m} + ‖f_θ^m − f_θ^k‖),
    G_{k,m} = Π_{k≤j<m} (1 + γ‖H^j‖) − 1  (at most 2 where every ‖I − γH^j‖ ≤ 1),

Claims: text-assumption-2.
"""

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

from refblo.chain import Schedule

Array = np.ndarray


def recursion_bound(
    gamma: float,
    schedule: Schedule,
    slopes: Float[Tensor, "t n"],
    hessians: Float64[Array, " t"],
    mixeds: Float64[Array, " t"],
    contractive: bool,
) -> float:
    """The bound of this file's head on HPO-SGLD's error, from norms along the chain.

    Args:
        gamma: γ.
        schedule: B and M.
        slopes: f_θ at θ⁰ … θ^T, shape (T + 1, n).
        hessians: ‖H‖ at θ⁰ … θ^T.
        mixeds: ‖C‖ at θ⁰ … θ^T.
        contractive: whether every ‖I − γH‖ ≤ 1.

    Returns:
        The bound.
    """
    total = 0.0
    growth = np.log1p(gamma * hessians)
    reach = np.concatenate([[0.0], np.cumsum(growth)])
    for m in range(schedule.burn_in + 1, schedule.steps + 1):
        k = np.arange(1, m + 1)
        grown = np.expm1(reach[m] - reach[k])
        if contractive:
            grown = np.minimum(grown, 2.0)
        size = float(slopes[m].norm())
        moved = (slopes[m] - slopes[1 : m + 1]).norm(dim=1).cpu().numpy()
        total += gamma * float(np.sum(mixeds[:m] * (size * grown + moved)))
    return total / schedule.samples
