"""Conjugate gradients that stop early, throw the last iterate away, or are put together wrongly."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from jaxtyping import Float64

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import numpy_of

Array = np.ndarray


def candidates(subject: Subject) -> Iterator[Candidate]:
    """−q_k·C for every CG iterate q_k on H q = f_θ."""
    root = subject.root if subject.implicit else None
    if root is None:
        return
    hessian, slope = numpy_of(root.hessian), numpy_of(root.slope)
    yield from _put_together_wrongly(subject)
    normal = conjugate_gradients(hessian.T @ hessian, hessian.T @ slope)
    for count, q in enumerate(normal[1:-1], start=1):
        yield Candidate(
            Mistake.CG_LAST_DROPPED if count == len(normal) - 2 else Mistake.CG_EARLY,
            subject.direct - q @ numpy_of(root.mixed),
            f"the solve ends with CG iterate {count} on the normal equations",
        )
    iterates = conjugate_gradients(hessian, slope)
    mixed, final = numpy_of(root.mixed), len(iterates) - 1
    for count, q in enumerate(iterates[:-1]):
        dropped = count == final - 1 or (subject.terms is not None and count == subject.terms - 1)
        yield Candidate(
            Mistake.CG_LAST_DROPPED if dropped else Mistake.CG_EARLY,
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


def _put_together_wrongly(subject: Subject) -> Iterator[Candidate]:
    """Every iterate of a recursion with an old residual, or with a scale in one place alone."""
    root = subject.root if subject.implicit else None
    if root is None:
        return
    hessian, mixed = numpy_of(root.hessian), numpy_of(root.mixed)
    slope, direct = numpy_of(root.slope), subject.direct
    scales = (1.0,) if subject.step_size is None else (1.0, subject.step_size)
    decay = subject.weight_decay
    matrices = [(hessian, "")]
    if decay > 0:
        lighter = hessian - decay * np.eye(len(hessian))
        matrices.append((lighter, ", on the Hessian without the optimiser's weight decay"))
        for count, q in enumerate(conjugate_gradients(lighter, slope)[1:-1], start=1):
            yield Candidate(
                Mistake.CG_LAST_DROPPED,
                direct - q @ mixed,
                f"the solve ends with CG iterate {count}{matrices[1][1]}",
            )
    for matrix, where in matrices:
        for scale in scales:
            # The first iterate is that of conjugate gradients.
            later = islice(_old_residual(matrix, slope, scale), 1, None)
            for count, q in enumerate(later, start=2):
                text = (
                    f"β multiplies the direction that is added to the residual before last{where}"
                )
                scaled = (
                    f", and the scale {scale:.6g} divides the step but not the residual's update"
                )
                yield Candidate(
                    Mistake.CG_OLD_RESIDUAL,
                    direct - q @ mixed,
                    f"iterate {count}: {text}{scaled if scale != 1 else ''}",
                )


def _old_residual(
    hessian: Float64[Array, "N N"], rhs: Float64[Array, " N"], scale: float
) -> Iterator[Float64[Array, " N"]]:
    """Iterates whose direction is r_k + β p_k for r_{k+1} + β p_k; the solve of αHx = b, times α."""
    x, r, p = np.zeros_like(rhs), rhs, rhs
    for _ in range(2 * rhs.size):
        image = hessian @ p
        square, curvature = float(r @ r), scale * float(image @ p)
        if square == 0 or curvature == 0:
            return
        step = square / curvature
        x, fresh = x + step * p, r - step * image
        p = r + (float(fresh @ fresh) / square) * p
        r = fresh
        yield scale * x
