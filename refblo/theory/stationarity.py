"""Whether several runs of a chain tell of one distribution: split-R̂ and effective sample size.

Both as in Vehtari et al. (2021), "Rank-normalization, folding, and localization: an improved R̂",
before rank normalisation.
"""

import numpy as np
from jaxtyping import Float64

from refblo.errors import require

Array = np.ndarray

RHAT_LIMIT = 1.01
"""Above it the halves of the chains disagree (Vehtari et al. 2021)."""
SAMPLES_WANTED = 400.0
"""Effective samples below which R̂ itself is not to be relied on (Vehtari et al. 2021)."""


def _halves(chains: Float64[Array, "c m"]) -> Float64[Array, "d k"]:
    require(
        chains.ndim == 2, "chains", "have shape (c, m)", chains.shape, "give one row for each chain"
    )
    half = chains.shape[1] // 2
    require(
        half >= 2, "chains", "have at least 4 samples each", chains.shape[1], "draw longer chains"
    )
    return np.concatenate([chains[:, :half], chains[:, -half:]])


def split_rhat(chains: Float64[Array, "c m"]) -> float:
    """√((k−1)/k + B/(kW)) over the 2c half-chains of length k; 1 for one distribution.

    B is k times the variance of the half-chains' means, W the mean of their variances.

    Args:
        chains: one scalar along each chain, shape (c, m), m ≥ 4.

    Returns:
        R̂ ≥ √((k−1)/k); infinite when every half-chain is constant and they differ; 1 when all is
        constant and equal.

    Raises:
        ArgumentError: for another shape.
    """
    halves = _halves(chains)
    k = halves.shape[1]
    between = k * float(halves.mean(axis=1).var(ddof=1))
    within = float(halves.var(axis=1, ddof=1).mean())
    if within == 0:
        return 1.0 if between == 0 else float("inf")
    return float(np.sqrt((k - 1) / k + between / (k * within)))


def effective_samples(chains: Float64[Array, "c m"]) -> float:
    """c·m / (1 + 2 Σ ρ_t), the sum cut by Geyer's initial positive sequence.

    ρ_t is the autocorrelation at lag t estimated from all half-chains, with the variance between them
    counted in.

    Args:
        chains: one scalar along each chain, shape (c, m), m ≥ 4.

    Returns:
        The number of independent samples that would estimate the mean as well, at most N·log₁₀N
        for N samples, so that antithetic chains are not credited without end.

    Raises:
        ArgumentError: for another shape.
    """
    halves = _halves(chains)
    d, k = halves.shape
    within = float(halves.var(axis=1, ddof=1).mean())
    if within == 0:
        return float(d)  # a half-chain that never moves is one sample
    between = float(halves.mean(axis=1).var(ddof=1))
    total = within * (k - 1) / k + between
    centred = halves - halves.mean(axis=1, keepdims=True)
    # Autocovariances of every half-chain by one transform, padded so that it does not wrap.
    size = 2 * k
    spectrum = np.fft.rfft(centred, size, axis=1)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, size, axis=1)[:, :k].mean(axis=0) / k
    rho = 1 - (within * (k - 1) / k - covariance) / total
    rho[0] = 1.0
    time = -1.0
    for lag in range(0, k - 1, 2):
        pair = float(rho[lag] + rho[lag + 1])
        if pair <= 0:
            break
        time += 2 * pair
    return float(d * k / max(time, 1 / np.log10(d * k)))
