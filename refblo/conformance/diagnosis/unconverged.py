"""An inner solver that had not converged when the implicit formula was applied to its result."""

from collections.abc import Iterator

import numpy as np
import torch

from refblo.conformance.diagnosis.budget import check_time
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import numpy_of
from refblo.conformance.truth.program import Program
from refblo.conformance.truth.stationary import jacobians, outer_gradients, residual_of

_LONGEST = 2000
_CONVERGED = 1e-12  # of the first residual: later iterates give the truth itself
NAME = Mistake.NOT_CONVERGED


def candidates(subject: Subject) -> Iterator[Candidate]:
    """The implicit formula at iterates of the run instead of at its end."""
    if not subject.implicit or subject.root is None:
        return
    first = None
    for step, state in _iterates(subject.program):
        parts = implicit_at(subject.program, state)
        if parts is None:
            continue
        vector, residual = parts
        first = residual if first is None else first
        if residual <= _CONVERGED * first:
            return
        yield Candidate(
            NAME,
            vector,
            f"the formula is right but applied after {step} inner steps, residual {residual:.2e}",
        )


def _iterates(program: Program) -> Iterator[tuple[int, torch.Tensor]]:
    """Iterates at 0, 1, 2, … steps, ever sparser, as far as an implementation may have gone."""
    _, size = residual_of(program)
    timed = program.losses is None or program.losses.frozen.anything
    longest = program.schedule.steps if timed else _LONGEST
    state = program.start(program.lam).detach()
    wanted = {program.schedule.steps - 1, program.schedule.steps, program.schedule.steps + 1}
    for step in range(longest + 1):
        check_time()
        dense = step <= 60 or (step % 10 == 0 and step <= 200) or step % 100 == 0
        if dense or step in wanted:
            yield step, state[:size]
        if step < longest:
            state = program.transition(program.lam, state, step).detach()
            if not bool(torch.isfinite(state).all()):
                return


def implicit_at(program: Program, state: torch.Tensor) -> tuple[np.ndarray, float] | None:
    """(f_λ − f_θ (∂_z r)⁻¹ ∂_λ r at a state, ‖r‖ there); None for a singular Jacobian."""
    residual, _ = residual_of(program)
    value, by_z, by_lam = jacobians(residual, program.lam, state)
    direct, slope = outer_gradients(program, program.lam, state)
    solved, info = torch.linalg.solve_ex(by_z.T, slope)
    if int(info):
        return None
    return numpy_of(direct - solved @ by_lam), float(value.norm())
