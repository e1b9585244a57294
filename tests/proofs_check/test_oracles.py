"""What the evidence is computed with, against something else."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from proofs_check.tools.counting import counted, degree
from proofs_check.tools.hand import solve
from proofs_check.tools.world import Dual, same, world
from refblo.experiments.methods import amigo, conjugate_gradient, hpo_sgld, neumann, unrolled
from refblo.experiments.outer_loop import Descent, as_drawn, final_state

RATIONALS = st.fractions(min_value=-3, max_value=3, max_denominator=20)


@given(u=RATIONALS, v=RATIONALS, w=RATIONALS)
def test_duals_differentiate_polynomials_exactly(u: Fraction, v: Fraction, w: Fraction) -> None:
    x = Dual(u, (Fraction(1), Fraction(0)))
    y = Dual(v, (Fraction(0), Fraction(1)))
    found = 2 * x**3 * y - (w - x) * y**2 + 5
    assert found.value == 2 * u**3 * v - (w - u) * v**2 + 5
    assert found.slope == (6 * u**2 * v + v**2, 2 * u**3 - 2 * (w - u) * v)


def test_the_worlds_tangents_are_the_limits_of_its_differences() -> None:
    # The tangent recursion (50), written down here again, against dual numbers through the program.
    run = world()
    eye = np.array([[Fraction(int(i == j)) for j in range(3)] for i in range(3)], dtype=object)
    half = run.epsilon / 2
    for m in range(1, 5):
        step = (eye + half * run.A(m - 1)) @ run.tangents[m - 1] + half * run.B(m - 1)
        assert same(step, run.tangents[m])
    assert run.n != run.p


@given(coefficients=st.lists(st.integers(-9, 9), min_size=1, max_size=4))
def test_the_degree_of_a_polynomial_is_found(coefficients: list[int]) -> None:
    values = [sum(c * k**i for i, c in enumerate(coefficients)) for k in range(1, 9)]
    nonzero = [i for i, c in enumerate(coefficients) if c]
    assert degree(values) == (max(nonzero) if nonzero else -1)


def test_a_sequence_that_is_no_polynomial_of_low_degree_has_none() -> None:
    assert degree([2**k for k in range(8)]) == -1


def test_operations_and_bytes_are_counted() -> None:
    def run() -> torch.Tensor:
        x = torch.zeros(100, dtype=torch.float64)
        y = x + 1
        del x
        return (y * y).sum()

    counts = counted(run)
    assert counts.operations == 100 + 100 + 100
    # y, y·y and the sum; x is gone by then.
    assert counts.peak == 2 * 800 + 8
    assert counts.live == 0


@pytest.mark.parametrize(
    ("label", "competitor"),
    [
        ("IFT-Neumann", neumann("IFT-Neumann")),
        ("IFT-CG", conjugate_gradient("IFT-CG")),
        ("RMD", unrolled("RMD", "RMD", 100)),
        ("RMD-FO", unrolled("RMD-FO", "RMD-FO", 100)),
        ("FMD", unrolled("FMD", "FMD", 100)),
        ("HPO-SGLD", hpo_sgld("HPO-SGLD", noise_scale=0.0)),
        ("AmIGO-SGD", amigo("AmIGO-SGD", 0.005)),
        ("AmIGO-CG", amigo("AmIGO-CG", None)),
    ],
)
def test_the_runs_by_hand_are_those_of_the_experiments(label: str, competitor: object) -> None:
    from refblo.experiments.methods import Competitor

    assert isinstance(competitor, Competitor)
    steps = 20
    other = final_state(
        as_drawn(competitor.written_out, competitor.dynamics, Descent(outer_steps=steps), (0,))
    )
    lam, theta = solve(label, False, 1, steps)
    # The noise of HPO-SGLD at τ = 1e-6 moves λ by less than its standard deviation times a few.
    tolerance = 1e-4 if label == "HPO-SGLD" else 1e-12
    assert abs(lam[0] - other.lam[0]) <= tolerance
    if label != "HPO-SGLD":
        assert abs(theta[0] - other.theta[0]) <= tolerance
