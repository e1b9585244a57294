"""Compiled estimators give the numbers of the ones they are compiled from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from asv_bench.benchmarks.problems import separable
from refblo.chain import Chain, Langevin, Schedule
from refblo.contracts.rounding import rounding_error
from refblo.cost import measure, shapes_only
from refblo.errors import ArgumentError
from refblo.estimators import HPOSGLD, RMD, IFTConjugateGradient, IFTNeumann, _kernels
from refblo.estimators.compiled import Compiled, Method, PlainWayWarning
from refblo.kernel import trace
from refblo.noise import Draws
from refblo.problem import BilevelProblem, FixedInitial
from refblo.problems import build, catalogue
from refblo.problems.case import Case
from refblo.types import DIVERGED, Status

RULE = Langevin(0.05, temperature=0.5, noise_scale=0.3)
METHODS: tuple[Method, ...] = (
    RMD(RULE, Schedule(2, 3)),
    RMD(RULE, Schedule.last(5)),
    HPOSGLD(RULE, Schedule(2, 3)),
    IFTNeumann(RULE, 7, 0.05, 6),
    IFTConjugateGradient(RULE, 7, 4),
)


def agree(method: Method, case: Case, fast: Compiled, seed: int = 1) -> None:
    draws = Draws(seed)
    plain = method.estimate(case.problem, case.lam, draws)
    for _ in range(2):  # the second call runs what the first one made
        compiled = fast.estimate(case.problem, case.lam, draws)
        assert compiled.status is plain.status
        assert compiled.estimand is plain.estimand
        assert compiled.diverged_at == plain.diverged_at
        if plain.status in DIVERGED:
            continue
        if fast.backend == "eager":  # the same operations in the same order
            assert torch.equal(compiled.value, plain.value)
            assert torch.equal(compiled.theta, plain.theta)
            continue
        allowed = rounding_error(method, case.problem, case.lam, draws, plain.value, 20)
        assert float((compiled.value - plain.value).norm()) <= allowed
        assert float((compiled.theta - plain.theta).norm()) <= 1e-12 * float(plain.theta.norm())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("name", ["quadratic", "maml_quadratic", "softmax_digits_minibatch"])
def test_the_numbers_are_the_estimators_own(method: Method, name: str) -> None:
    agree(method, build(name), Compiled(method, fused=2, backend="eager"))


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(catalogue()))
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_problem_can_be_traced(method: Method, name: str) -> None:
    case = build(name)
    slow = replace(method, dynamics=Langevin(case.dynamics.step_size, noise_scale=0.1))
    agree(slow, case, Compiled(slow, fused=3, backend="eager"))


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_compiler_gives_them_too(method: Method) -> None:
    agree(method, build("quadratic"), Compiled(method, fused=4))


def test_other_draws_are_inputs_and_not_constants() -> None:
    case, method = build("softmax_digits_minibatch"), METHODS[0]
    fast = Compiled(method, fused=4, backend="eager")
    for seed in (1, 2):
        agree(method, case, fast, seed)


def test_the_counts_are_those_of_what_runs() -> None:
    case, rule = build("quadratic"), Langevin(0.05)
    method = HPOSGLD(rule, Schedule(1, 2))
    plain = method.estimate(case.problem, case.lam).cost
    fast = Compiled(method, fused=5, backend="eager")
    assert fast.estimate(case.problem, case.lam).cost == plain
    assert fast.estimate(case.problem, case.lam).cost == plain


def test_warm_starts_run_the_kernels_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Mock(side_effect=trace)
    monkeypatch.setattr(_kernels, "trace", watched)
    case, method = build("quadratic"), METHODS[1]
    fast = Compiled(method, fused=5, backend="eager")
    problem = case.problem
    theta = fast.estimate(problem, case.lam).theta
    kernels = watched.call_count
    for _ in range(2):
        problem = problem.starting_at(theta)
        theta = fast.estimate(problem, case.lam).theta
    assert watched.call_count == kernels > 0
    plain = method.estimate(problem, case.lam)
    assert torch.allclose(fast.estimate(problem, case.lam).value, plain.value, rtol=1e-12)


def test_a_start_that_depends_on_lam_is_no_warm_start() -> None:
    case, method = build("maml_quadratic"), METHODS[2]
    fast = Compiled(method, fused=5, backend="eager")
    for problem in (case.problem, case.problem.starting_at(case.problem.initial(case.lam))):
        found, expected = (each.estimate(problem, case.lam).value for each in (fast, method))
        assert torch.allclose(found, expected, rtol=1e-12)


def test_a_run_can_be_counted_on_shapes_alone() -> None:
    method = RMD(Langevin(0.05), Schedule.last(4))
    fast = Compiled(method, fused=2, backend="eager")
    setting = separable(40)
    with_numbers = measure(lambda: fast.estimate(setting.problem, setting.lam))
    with shapes_only():
        setting = separable(40)
        on_shapes = measure(lambda: fast.estimate(setting.problem, setting.lam))
    assert on_shapes == with_numbers
    assert on_shapes.evaluations.hessian_products == 4


@pytest.mark.full
def test_what_was_compiled_is_found_on_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    found = counters["inductor"]["fxgraph_cache_hit"]
    x = torch.arange(3.0)
    for _ in range(2):
        assert torch.equal(trace(lambda a: (a.exp(),), (x,), "inductor")(x)[0], x.exp())
        torch._dynamo.reset()
    assert counters["inductor"]["fxgraph_cache_hit"] == found + 1


@pytest.mark.full
@pytest.mark.parametrize("grad", [False, True])
def test_compiled_code_reads_tensors_that_require_a_gradient(grad: bool) -> None:
    weights = torch.linspace(-1, 1, 9).reshape(3, 3).requires_grad_()
    x = torch.arange(3.0)
    kernel = trace(lambda a: (weights.detach() @ a, (weights.detach() @ a).sin()), (x,), "inductor")
    with torch.set_grad_enabled(grad):
        product, sine = kernel(2 * x)
        assert torch.is_grad_enabled() == grad
    assert torch.allclose(product, weights.detach() @ (2 * x))
    assert torch.allclose(sine, product.sin())
    assert not product.requires_grad
    assert not sine.requires_grad


@pytest.mark.full
def test_what_compiled_code_returns_shares_no_memory_with_what_it_is_given() -> None:
    x, y = torch.arange(3.0), torch.ones(3)
    for function in (lambda a, b: (a, a + b), lambda a, b: (a + b, (a + b)[1:]), lambda a, b: (b,)):
        kernel = trace(function, (x, y), "inductor")
        for _ in range(2):
            found, expected = kernel(x, y), function(x, y)
            assert len(found) == len(expected)
            assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
            found[0].mul_(1)  # may be written to
        assert torch.equal(y, torch.ones(3))


def test_a_tensor_given_twice_is_two_inputs() -> None:
    x, y = torch.ones(2), torch.full((2,), 3.0)
    kernel = trace(lambda a, b: (a - b,), (x, x), "eager")
    assert torch.equal(kernel(x, y)[0], x - y)


def test_conjugate_gradients_stop_where_the_plain_ones_do() -> None:
    case = build("quadratic")
    for method in (
        IFTConjugateGradient(Langevin(0.05), 4, 40),  # more iterations than unknowns
        IFTConjugateGradient(Langevin(0.05), 4, 40, tolerance=1e-3),
        IFTConjugateGradient(Langevin(0.05), 4, 2, tolerance=1e-12),
    ):
        plain = method.estimate(case.problem, case.lam)
        fast = Compiled(method, fused=3, backend="eager").estimate(case.problem, case.lam)
        assert fast.status is plain.status
        allowed = rounding_error(method, case.problem, case.lam, Draws(0), plain.value, 20)
        assert float((fast.value - plain.value).norm()) <= allowed


@pytest.mark.parametrize("scale", [10.0, 1e200])
def test_a_series_that_grows_is_reported_where_it_does(scale: float) -> None:
    case, method = build("quadratic"), IFTNeumann(Langevin(0.05), 3, scale, 6)
    plain = method.estimate(case.problem, case.lam)
    fast = Compiled(method, fused=2, backend="eager").estimate(case.problem, case.lam)
    assert plain.status is Status.SERIES_DIVERGED
    assert fast.status is plain.status
    assert fast.diverged_at == plain.diverged_at


@pytest.mark.parametrize("fused", [1, 2, 7])
def test_a_direction_of_negative_curvature_is_reported_where_it_is_met(fused: int) -> None:
    curvatures = torch.tensor([3.0, 2.0, -1.0, 1.5], dtype=torch.float64)
    target = torch.ones(4, dtype=torch.float64)
    problem = BilevelProblem(
        lambda lam, theta, _: 0.5 * (curvatures * theta.square()).sum() - (lam * theta).sum(),
        lambda _, theta, __: 0.5 * (theta - target).square().sum(),
        FixedInitial(torch.tensor([0.3, 0.1, -0.05, 0.2], dtype=torch.float64)),
    )
    method, lam = IFTConjugateGradient(Langevin(0.1), 2, 6), 0.1 * target
    plain = method.estimate(problem, lam)
    fast = Compiled(method, fused=fused, backend="eager").estimate(problem, lam)
    assert plain.status is Status.SERIES_DIVERGED
    assert fast.status is plain.status
    assert fast.diverged_at == plain.diverged_at


def test_a_divergence_is_reported_with_its_step() -> None:
    case, method = build("quadratic"), RMD(Langevin(1e100), Schedule.last(12))
    plain = method.estimate(case.problem, case.lam)
    fast = Compiled(method, fused=5, backend="eager").estimate(case.problem, case.lam)
    assert fast.status is plain.status is Status.CHAIN_DIVERGED
    assert fast.diverged_at == plain.diverged_at


def test_a_loss_that_looks_at_numbers_runs_as_it_is() -> None:
    def inner(lam: Tensor, theta: Tensor, _: Tensor | None) -> Tensor:
        sign = 1.0 if float(theta.detach().sum()) > 0 else -1.0
        return sign * (theta * lam).sum()

    start = torch.ones(2, dtype=torch.float64)
    problem = BilevelProblem(inner, lambda _, theta, __: theta.sum(), FixedInitial(start))
    plain = RMD(Langevin(0.1), Schedule.last(3))
    with pytest.warns(PlainWayWarning, match="depends on numbers|takes numbers"):
        found = Compiled(plain, backend="eager").estimate(problem, start)
    assert torch.equal(found.value, plain.estimate(problem, start).value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Compiled(METHODS[0], fused=0), "fused must be at least 1"),
        (lambda: Compiled(RMD(RULE, Schedule.last(3), checkpointed=True)), "neither truncated"),
    ],
)
def test_bad_arguments(make: Callable[[], Compiled], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_draws_go_through_unchanged() -> None:
    case = build("softmax_digits_minibatch")
    chain = Chain(case.problem, RULE, Draws(3))
    drawn = chain.draw(range(2, 4), [3], chain.initial(case.lam))
    again = drawn.with_tensors(drawn.tensors())
    assert all(torch.equal(a, b) for a, b in zip(drawn.tensors(), again.tensors(), strict=True))
    given = Chain(case.problem, RULE, Draws(4), again)
    theta = chain.initial(case.lam)
    assert torch.equal(given.step(case.lam, theta, 2), chain.step(case.lam, theta, 2))
