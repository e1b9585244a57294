"""Conjugate gradients that stop early, or throw the last iterate away."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import numpy_of

Array = np.ndarray


def candidates(subject: Subject) -> Iterator[Candidate]:
    """−q_k·C for every CG iterate q_k on H q = f_θ."""
    root = subject.root
    if not subject.implicit or root is None:
        return
    hessian, slope = numpy_of(root.hessian), numpy_of(root.slope)
    iterates = conjugate_gradients(hessian, slope)
    mixed, final = numpy_of(root.mixed), len(iterates) - 1
    for count, q in enumerate(iterates[:-1]):
        dropped = count == final - 1 or (subject.terms is not None and count == subject.terms - 1)
        yield Candidate(
            "dropped last CG iterate" if dropped else "CG stopped early",
            subject.direct - q @ mixed,
            f"the solve ends with CG iterate {count} of the {final} that it takes to converge",
        )


def conjugate_gradients(
    hessian: Float64[Array, "N N"], rhs: Float64[Array, " N"]
) -> list[Float64[Array, " N"]]:
    """The iterates from zero until the residual is at rounding level, or n are made."""
    q = np.zeros_like(rhs)
    residual, direction = rhs.copy(), rhs.copy()
    square = float(residual @ residual)
    floor = (1e-13**2) * square
    iterates = [q]
    for _ in range(2 * rhs.size):
        if square <= floor:
            break
        image = hessian @ direction
        curvature = float(direction @ image)
        if not curvature > 0:
            break
        q = q + (square / curvature) * direction
        residual = residual - (square / curvature) * image
        fresh = float(residual @ residual)
        direction = residual + (fresh / square) * direction
        square = fresh
        iterates.append(q)
    return iterates
