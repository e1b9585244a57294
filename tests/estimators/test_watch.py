"""What losses read besides their arguments may change between two estimates: no traced answer is stale.

Every place in which a loss can find a number (`changing.py`) is changed under every estimator that can be
traced. The quick part takes about 4 s; the whole walk is in the full suite.
"""

import gc
import warnings
import weakref

import pytest
import torch
from torch import Tensor

from refblo.chain import Langevin, Schedule
from refblo.estimators import HPOSGLD, RMD, IFTConjugateGradient, IFTNeumann
from refblo.estimators._kept import MOST_STATES, kept_for
from refblo.estimators.compiled import Compiled, Method, PlainWayWarning
from refblo.noise import Draws
from refblo.problem import BilevelProblem, FixedInitial
from tests.estimators.changing import PLACES
from tests.estimators.changing.loss import STEADY, Loss, value
from tests.estimators.changing.unwatched import UNWATCHED

RULE = Langevin(0.3, noise_scale=0.1)
METHODS: dict[str, Method] = {
    "RMD": RMD(RULE, Schedule(1, 2)),
    "HPO-SGLD": HPOSGLD(RULE, Schedule(1, 2)),
    "IFT-Neumann": IFTNeumann(RULE, 3, 0.4, 4),
    "IFT-CG": IFTConjugateGradient(RULE, 3, 3),
}
ROUNDING = 1e-13
"""Some hundred operations on numbers near 1; what a change moves is above 1e-3."""
LAM = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)


def problem_of(inner: Loss, outer: Loss | None = None) -> BilevelProblem:
    def fixed(lam: Tensor, theta: Tensor, _: object) -> Tensor:
        return (STEADY * (theta - 0.1).square()).sum() + 0.1 * (lam * theta).sum()

    return BilevelProblem(inner, outer or fixed, FixedInitial(0.4 * STEADY))


def follow(
    name: str, method: Method, side: str = "inner", numbers: tuple[float, ...] = (1.2, 0.9)
) -> int:
    """Change what the loss reads, and compare with the plain way each time; how many changes were made."""
    loss, change = PLACES[name]()
    problem = problem_of(loss) if side == "inner" else problem_of(steady, loss)
    fast, made, before = Compiled(method, fused=2, backend="eager"), 0, LAM
    for number in (None, *numbers):
        if number is not None:
            change(number)
            made += 1
        plain = method.estimate(problem, LAM, Draws(1)).value
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it must have been traced
            found = fast.estimate(problem, LAM, Draws(1)).value
        assert torch.allclose(found, plain, rtol=ROUNDING, atol=0), f"{name}: stale, change {made}"
        if made == 1:
            assert float((plain - before).norm()) > 1e-3, f"{name}: nothing changed"
        before = plain
    return made


def steady(lam: Tensor, theta: Tensor, _: object) -> Tensor:
    return 0.5 * (STEADY * (theta - lam).square()).sum()


@pytest.mark.parametrize("name", sorted(PLACES)[::9])
def test_a_change_is_seen(name: str) -> None:
    methods = list(METHODS.values())
    assert follow(name, methods[sorted(PLACES).index(name) % len(methods)], numbers=(1.2,)) == 1


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_no_answer_is_stale_after_any_of_some_hundred_changes() -> None:
    changes = sum(follow(name, method) for name in PLACES for method in METHODS.values())
    changes += sum(follow(name, METHODS["RMD"], "outer", (1.2,)) for name in PLACES)
    assert changes >= 200


@pytest.mark.parametrize("name", sorted(UNWATCHED))
def test_what_cannot_be_watched_runs_as_it_is(name: str) -> None:
    methods = list(METHODS.values())
    runs_as_it_is(name, methods[sorted(UNWATCHED).index(name) % len(methods)])


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(UNWATCHED))
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_by_every_estimator(name: str, method: Method) -> None:
    runs_as_it_is(name, method)


def runs_as_it_is(name: str, method: Method) -> None:
    fast = Compiled(method, fused=2, backend="eager")
    problem, own = problem_of(UNWATCHED[name]()), problem_of(UNWATCHED[name]())
    for _ in range(3):
        with pytest.warns(PlainWayWarning, match="runs as it is"):
            found = fast.estimate(problem, LAM, Draws(1)).value
        # The losses are called as often as without, so that one that counts gives the same.
        assert torch.equal(found, method.estimate(own, LAM, Draws(1)).value)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_an_if_on_a_tensor_is_not_recorded(method: Method) -> None:
    def inner(lam: Tensor, theta: Tensor, _: object) -> Tensor:
        return value(1.0 if theta[0] > 0.35 else 1.4, lam, theta)

    problem = problem_of(inner)
    with pytest.warns(PlainWayWarning, match="depends on numbers|takes numbers"):
        found = Compiled(method, fused=2, backend="eager").estimate(problem, LAM)
    assert torch.equal(found.value, method.estimate(problem, LAM).value)


def test_a_state_that_comes_again_finds_its_kernels() -> None:
    loss, change = PLACES["closure"]()
    problem, fast = problem_of(loss), Compiled(METHODS["RMD"], fused=2, backend="eager")
    kernels = []
    for number in (1.0, 1.2, 1.0):
        change(number)
        fast.estimate(problem, LAM)
        kernels.append(kept_for(problem).kernels)
    assert kernels[0] is kernels[2]
    assert kernels[0] is not kernels[1]


def test_few_states_are_kept() -> None:
    loss, change = PLACES["closure"]()
    problem = problem_of(loss)
    first = kept_for(problem)
    for number in range(2, 2 + MOST_STATES):
        change(float(number))
        kept_for(problem)
    change(1.0)
    assert kept_for(problem) is not first


def test_a_problem_goes_with_its_kernels() -> None:
    held: list[BilevelProblem] = []
    # The loss reads the list that holds the problem.
    held.append(problem_of(lambda lam, theta, _: value(float(len(held)), lam, theta)))
    Compiled(METHODS["IFT-CG"], fused=2, backend="eager").estimate(held[0], LAM)
    gone = weakref.ref(held.pop())
    gc.collect()
    assert gone() is None
