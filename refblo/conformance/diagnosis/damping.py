"""A damped solve, (H + δI) q = f_θ, whose damping stays in the answer."""

from collections.abc import Iterator

import numpy as np

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Setting, Subject
from refblo.conformance.diagnosis.trace import numpy_of

_SMALLEST, _LARGEST = -14.0, 3.0  # of log10 δ, relative to the largest eigenvalue

_USUAL = 8  # powers of ten that are tried as they are


def usual(subject: Subject) -> Iterator[Candidate]:
    """The δ that people write, 1, 0.1, …, of either form: nothing is fitted."""
    root = subject.root if subject.implicit else None
    if root is None:
        return
    hessian, mixed, slope = numpy_of(root.hessian), numpy_of(root.mixed), numpy_of(root.slope)
    for text, added in (
        ("H + δI", np.eye(len(slope))),
        ("H + δ diag H", np.diag(np.diag(hessian))),
    ):
        for power in range(_USUAL + 1):
            shifted = hessian + 10.0**-power * added
            vector = subject.direct - np.linalg.solve(shifted.T, slope) @ mixed
            yield Candidate(
                Mistake.DAMPING, vector, f"the solve is with {text}, δ = {10.0**-power:g}"
            )


def candidates(setting: Setting) -> Iterator[Candidate]:
    """The δ that fits best, of either form: H + δI and H + δ diag H."""
    from scipy import optimize  # not needed where nothing is diagnosed, and slow to import

    subject = setting.subject
    root = subject.root if subject.implicit else None
    if root is None or setting.seen.size < 2:
        return
    hessian, mixed = numpy_of(root.hessian), numpy_of(root.mixed)
    slope, direct = numpy_of(root.slope), subject.direct
    seen = setting.seen
    size = float(np.linalg.norm(hessian, 2))
    shapes = (
        ("H + δI", np.eye(len(slope))),
        ("H + δ diag H", np.diag(np.diag(hessian)) / size),
    )
    for text, added in shapes:

        def answer(power: float, sign: float = 1.0, added: np.ndarray = added) -> np.ndarray:
            shifted = hessian + sign * size * 10.0**power * added
            solved: np.ndarray = direct - np.linalg.solve(shifted.T, slope) @ mixed
            return solved

        def miss(power: float, added: np.ndarray = added) -> float:
            return float(np.linalg.norm(setting.along(answer(power, added=added)) - seen))

        grid = np.linspace(_SMALLEST, _LARGEST, 69)
        misses = [miss(power) for power in grid]
        best = int(np.argmin(misses))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
        # Fitted through the logarithm of the miss, which has a cusp at the answer that golden section likes.
        found = optimize.minimize_scalar(
            miss, bounds=(low, high), method="bounded", options={"xatol": 1e-13, "maxiter": 200}
        )
        power = float(found.x) if found.fun <= misses[best] else float(grid[best])
        value = size * 10.0**power * (1.0 if added is shapes[0][1] else 1 / size)
        yield Candidate(
            Mistake.DAMPING,
            answer(power, added=added),
            f"the solve is with {text}, δ = {value:.6g}",
            fitted=1,
        )
