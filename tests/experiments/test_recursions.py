"""The recursions written out are the package's estimators, step by step."""

import numpy as np
import pytest

from refblo.estimators import NeumannScaling
from refblo.experiments.methods import (
    NEUMANN_SCALE,
    NEUMANN_TERMS,
    Competitor,
    amigo,
    conjugate_gradient,
    evolution,
    hpo_sgld,
    neumann,
    unrolled,
)
from refblo.experiments.outer_loop import (
    Descent,
    Runs,
    final_state,
    largest_difference,
    many_seeds,
    with_estimator,
)
from refblo.experiments.recursions import RecursionRun, Seeds

STEPS, OUTER = 6, 3

COMPETITORS = (
    hpo_sgld("HPO-SGLD", burn_in=STEPS // 2, samples=STEPS // 2, temperature=1e-2),
    neumann("unscaled", NeumannScaling.UNSCALED, STEPS),
    neumann("scaled", NeumannScaling.SCALED, STEPS),
    conjugate_gradient("CG", STEPS),
    unrolled("RMD", "RMD", STEPS),
    unrolled("RMD-FO", "RMD-FO", STEPS),
    unrolled("FMD", "FMD", STEPS),
    amigo("AmIGO-CG", None, STEPS),
    amigo("AmIGO-SGD", 0.1, STEPS),
    evolution("ES", steps=STEPS),
    evolution("ES, pairs", paired=True, steps=STEPS),
)


def rounding(competitor: Competitor) -> float:
    """A bound on the gap: every operation rounds numbers below 10 by 1.1e-16 relative.

    A transition takes below 20 operations on either side, and the hypergradient's recursion as many
    again; the maps are non-expansive here (0 ≤ γH ≤ 1) except for the Neumann series, whose terms grow by
    |1 − αH| ≤ 1 + 0.99 · 2 · 1.9 · 1.4 < 6.3 at worst, but θ ≤ 0.8 along these runs: < 3.
    """
    growth = 3.0**NEUMANN_TERMS * NEUMANN_SCALE if "scaled" in competitor.label else 1.0
    return 40 * STEPS * OUTER * 10 * 1.1e-16 * growth


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("competitor", COMPETITORS, ids=lambda c: c.label)
def test_recursion_and_estimator_agree_to_rounding(competitor: Competitor, noisy: bool) -> None:
    assert competitor.estimator is not None
    gap = largest_difference(
        competitor.written_out,
        competitor.estimator,
        competitor.dynamics,
        Descent(outer_steps=OUTER, start=0.5, noisy=noisy),
        (3, 4),
        OUTER,
    )
    assert gap <= rounding(competitor)


def test_a_reset_chain_is_told_from_a_warm_one() -> None:
    competitor = unrolled("RMD-FO", "RMD-FO", STEPS)
    assert competitor.estimator is not None
    ends = {}
    for warm in (True, False):
        descent = Descent(outer_steps=OUTER, warm=warm)
        ends[warm] = final_state(with_estimator(competitor.estimator, descent, 0))
        by_hand = final_state(
            many_seeds(competitor.written_out, competitor.dynamics, descent, 1, 0)
        )
        np.testing.assert_allclose(
            by_hand.theta, ends[warm].theta, rtol=0, atol=rounding(competitor)
        )
    assert abs(ends[True].theta - ends[False].theta) > 0.01


def test_a_planted_mistake_is_seen() -> None:
    """The comparison would catch ε for ε/2: the misread recursion is far from the estimator."""
    right = hpo_sgld("HPO-SGLD", burn_in=6, samples=6)
    wrong = hpo_sgld("HPO-SGLD", burn_in=6, samples=6, half=1.0)
    assert right.estimator is not None
    assert wrong.estimator is None
    gap = largest_difference(
        wrong.written_out, right.estimator, right.dynamics, Descent(outer_steps=2), (0,), 2
    )
    assert gap > 1e3 * rounding(right)


def test_seeds_differ_and_repeat() -> None:
    competitor = hpo_sgld("HPO-SGLD", burn_in=2, samples=2, temperature=1e-2)
    descent = Descent(outer_steps=3, noisy=True)

    def run(seed: int) -> Runs:
        return final_state(
            many_seeds(competitor.written_out, competitor.dynamics, descent, 50, seed)
        )

    first, again, other = run(0), run(0), run(1)
    np.testing.assert_array_equal(first.lam, again.lam)
    assert np.unique(first.lam).size == 50
    assert not np.any(first.lam == other.lam)


def test_a_run_that_diverges_is_marked() -> None:
    def explosive(lam: Seeds, theta: Seeds, run: RecursionRun) -> tuple[Seeds, Seeds]:
        return np.where(np.arange(lam.size) == 1, np.inf, 0.0), theta

    competitor = hpo_sgld("any")
    ended = final_state(many_seeds(explosive, competitor.dynamics, Descent(outer_steps=2), 3, 0))
    assert ended.finite.tolist() == [True, False, True]


def test_a_loop_without_steps_is_refused() -> None:
    competitor = hpo_sgld("any")
    with pytest.raises(ValueError, match="at least one outer step"):
        final_state(
            many_seeds(competitor.written_out, competitor.dynamics, Descent(outer_steps=0), 1, 0)
        )
