"""Prototypical networks (Snell et al. 2017) on the irises: an inner problem whose solution is a class mean.

With z = xΛ and one-hot targets Y, the inner loss is (1/2N) ‖XΛ − Yθ‖², whose minimiser in the row θ_c is the
mean of the embedded support points of class c: the prototype. The outer loss is the mean cross-entropy of the
logits −‖z − θ_c‖² over the query points. λ is the embedding: p = 4·4; θ the prototypes: n = 3·4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64

from refblo.chain import Langevin, Schedule
from refblo.noise import Draws, Stream
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems.case import Case, ClosedForms
from refblo.problems.data import iris
from refblo.problems.likelihoods import cross_entropy
from refblo.problems.namespace import A, ArrayNamespace, StatedLosses, Statement, as_tensor

Array = np.ndarray
Gradient = Float64[Array, " p"]

WIDTH = 4


def losses(xp: ArrayNamespace[A], data: Mapping[str, A]) -> StatedLosses[A]:
    """The scatter of the support points about their prototypes; the query points' cross-entropy."""
    x, y, query, targets = (
        data[key] for key in ("support", "support_targets", "query", "query_targets")
    )
    features, classes = x.shape[1], y.shape[1]
    total, reshape, likelihood = xp.sum, xp.reshape, cross_entropy(xp)

    def inner(lam: A, theta: A, _: A | None) -> A:
        away = x @ reshape(lam, (features, WIDTH)) - y @ reshape(theta, (classes, WIDTH))
        return total(away * away) / (2 * x.shape[0])

    def outer(lam: A, theta: A, _: A | None) -> A:
        embedded = reshape(query @ reshape(lam, (features, WIDTH)), (query.shape[0], 1, WIDTH))
        away = embedded - reshape(theta, (1, classes, WIDTH))
        return likelihood(-total(away * away, axis=2), targets)

    return StatedLosses(inner, outer)


@final
@dataclass(frozen=True, eq=False)
class ClassMeans(ClosedForms):
    """The gradient of a prototypical network, by hand: the prototypes put in, then one chain rule.

    The Gibbs truth has no formula, for the outer loss is not quadratic.

    Attributes:
        data: the case's own, in NumPy.
    """

    data: Mapping[str, Array]

    def implicit(self, lam: Gradient) -> Gradient:
        """With d_qc = (x_q − x̄_c)Λ and w_qc = (p_qc − y_qc)/V: −2 Σ_qc w_qc (x_q − x̄_c)' d_qc.

        x̄_c is the mean input of class c, and p_q the softmax of −‖d_qc‖² over c.
        """
        data = self.data
        y, targets = data["support_targets"], data["query_targets"]
        centres = (y.T @ data["support"]) / y.sum(axis=0)[:, None]
        apart = data["query"][:, None, :] - centres[None, :, :]
        embedded = apart @ lam.reshape(apart.shape[2], -1)
        logits = -np.sum(embedded**2, axis=2)
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        weights = (likely - targets) / len(targets)
        gradient: Array = -2 * np.einsum("qc,qcf,qcw->fw", weights, apart, embedded).ravel()
        return gradient


def prototypes_iris(dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Case:
    """50 support and 90 query flowers, 4 features embedded in 4 dimensions."""
    split, draws = iris(50, 90), Draws(33)
    data = {
        "support": split.train,
        "support_targets": split.train_targets,
        "query": split.validation,
        "query_targets": split.validation_targets,
    }

    def normal(which: int, size: int) -> Array:
        like = torch.empty(size, dtype=torch.float64)
        return draws.normal(Stream.INSTANCE, which, like).numpy()

    features, classes = split.train.shape[1], split.train_targets.shape[1]
    lam = 0.5 * normal(0, features * WIDTH)
    start = as_tensor(0.3 * normal(1, classes * WIDTH), dtype, device)
    # The Hessian is diagonal: the share of each class.
    share = split.train_targets.mean(axis=0)
    stated = Statement(losses, data)
    built = stated.in_torch(dtype, device)
    return Case(
        name="prototypes_iris",
        problem=BilevelProblem(
            built.inner, built.outer, FixedInitial(start), name="prototypes_iris"
        ),
        lam=as_tensor(lam, dtype, device),
        dynamics=Langevin(0.5 / float(share.max()), temperature=1e-3, noise_scale=1.0),
        schedule=Schedule(burn_in=10, samples=10),
        closed_forms=ClassMeans(data),
        statement=stated,
        tags=frozenset(
            {"quadratic inner loss", "strongly convex", "deterministic losses", "real data"}
        ),
    )
