"""The ladder of oracles: ordinary code gets the right verdict by the first way that works on it.

The whole table of losses × layers is marked full, the quick sample takes some of each (15 s of processor
time). No test here is statistical: roundings are functions of a seed.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from refblo import FMD, BilevelProblem, FixedInitial, Langevin, Schedule, check_assumptions
from refblo.conformance import Verdict, hypergradient_report
from refblo.conformance.report import Report
from refblo.conformance.truth.ladder import Rung
from refblo.errors import OracleError
from tests.conformance.ordinary.layers import LAYERS, LayerCase
from tests.conformance.ordinary.losses import LOSSES, LossCase
from tests.conformance.ordinary.problems import STEP_SIZE, STEPS, OrdinaryProblem, ordinary

ONCE_DIFFERENTIABLE = frozenset({"multi_margin_loss", "multilabel_margin_loss", "ctc_loss"})
"""Losses that torch cannot differentiate twice, so that nobody's reverse mode gives an answer."""

TWICE = tuple(loss for loss in LOSSES if loss.name not in ONCE_DIFFERENTIABLE)
SAMPLE = (
    *((LAYERS[(5 * i) % len(LAYERS)], loss) for i, loss in enumerate(TWICE) if i % 4 == 3),
    *((layer, LOSSES[i]) for i, layer in enumerate(LAYERS) if i % 4 == 1),
)
ALL = tuple((layer, loss) for layer in LAYERS for loss in TWICE)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _name(value: object) -> str:
    return value.name if isinstance(value, LayerCase | LossCase) else str(value)


def report(problem: OrdinaryProblem, answer: Any, **options: Any) -> Report:
    """The report on an answer, or on a function that gives one."""
    run: dict[str, Any] = {
        "steps": STEPS,
        "step_size": STEP_SIZE,
        "diagnosis_seconds": 0,
        **options,
    }
    return hypergradient_report(
        problem.inner, problem.outer, problem.lam, problem.theta0, answer, **run
    )


def check_right(layer: LayerCase, loss: LossCase, dtype: torch.dtype) -> OrdinaryProblem:
    """Right code is right, and an error of three tenths would be seen."""
    problem = ordinary(layer, loss, dtype)
    right = report(problem, problem.hypergradient)
    assert right.verdict is Verdict.RIGHT, right.describe()
    assert right.floor < 0.3, right.describe()
    return problem


def check_both(layer: LayerCase, loss: LossCase, dtype: torch.dtype) -> None:
    """Right code is right, and 1.3 times its answer is wrong."""
    problem = check_right(layer, loss, dtype)
    scaled = report(problem, 1.3 * problem.hypergradient(problem.lam))
    assert scaled.verdict is Verdict.WRONG, scaled.describe()


@pytest.mark.parametrize(("layer", "loss"), SAMPLE, ids=_name)
def test_ordinary_code_gets_the_right_verdict(layer: LayerCase, loss: LossCase) -> None:
    check_right(layer, loss, torch.float64)


@pytest.mark.full
@pytest.mark.parametrize(("layer", "loss"), ALL, ids=_name)
def test_all_ordinary_code_gets_the_right_verdict(layer: LayerCase, loss: LossCase) -> None:
    check_both(layer, loss, torch.float64)


X, Y, XV, YV = _normal(8, 3), _normal(8, seed=1), _normal(7, 3, seed=2), _normal(7, seed=3)
LAM, THETA = torch.tensor([-1.0, 0.2], dtype=torch.float64), _normal(3, seed=4)

Loss = Callable[[Tensor, Tensor], Tensor]


def penalised(loss: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """A loss of residuals' arguments with two hyperparameters in it."""
    return lambda lam, theta: (
        lam[1].exp() * loss(X @ theta, Y) + lam[0].exp() * theta.square().sum()
    )


def by_reverse_mode(inner: Loss, outer: Loss, steps: int = 3) -> Callable[[Tensor], Tensor]:
    """The unrolled hypergradient with torch.autograd alone."""

    def hypergradient(lam: Tensor) -> Tensor:
        lam, theta = lam.detach().clone().requires_grad_(), THETA.clone().requires_grad_()
        for _ in range(steps):
            (slope,) = torch.autograd.grad(inner(lam, theta), theta, create_graph=True)
            theta = theta - 0.1 * slope
        (gradient,) = torch.autograd.grad(outer(lam, theta), lam)
        return gradient

    return hypergradient


def judged(inner: Loss, outer: Loss, factor: float = 1.0, **options: Any) -> Report:
    """The report on `by_reverse_mode`, times a factor."""
    mine = by_reverse_mode(inner, outer)
    answer = mine(LAM) * factor
    run: dict[str, Any] = {"steps": 3, "step_size": 0.1, "diagnosis_seconds": 0, **options}
    return hypergradient_report(inner, outer, LAM, THETA, answer, **run)


class Cube(torch.autograd.Function):
    """t³ as torch's documentation tells to write it, without forward mode."""

    @staticmethod
    def forward(t: Tensor) -> Tensor:
        """t³."""
        return t**3

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        """Keep t."""
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> Tensor:
        """3t² times the weight."""
        slope: Tensor = 3 * ctx.saved_tensors[0] ** 2 * weight
        return slope


class OldCube(torch.autograd.Function):
    """t³ in the style that torch.func refuses."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        """t³."""
        ctx.save_for_backward(t)
        return t**3

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> Tensor:
        """3t² times the weight."""
        slope: Tensor = 3 * ctx.saved_tensors[0] ** 2 * weight
        return slope


def outer(lam: Tensor, theta: Tensor) -> Tensor:  # the weight of the penalty is in inner alone
    return (XV @ theta - YV).square().mean() + 0.1 * lam.square().sum()


def with_function(function: Any) -> Loss:
    # Of a smaller z, as the sixth power of z itself diverges in three steps.
    return penalised(lambda z, y: (function(0.3 * z) - y).square().mean())


def with_gradient_penalty(lam: Tensor, theta: Tensor) -> Tensor:
    """A loss that calls autograd itself."""
    inputs = X.clone().requires_grad_()
    value = torch.tanh(inputs @ theta).sum()
    (slope,) = torch.autograd.grad(value, inputs, create_graph=True)
    return (
        (X @ theta - Y).square().mean()
        + lam[0].exp() * slope.square().mean()
        + lam[1] * theta.sum()
    )


def with_writes(lam: Tensor, theta: Tensor) -> Tensor:
    """A loss that writes in place."""
    rows = torch.zeros(8, dtype=torch.float64)
    for i in range(8):
        rows[i] = (X[i] @ theta - Y[i]) ** 2
    rows.mul_(lam[1].exp())
    return rows.mean() + lam[0].exp() * theta.square().sum()


HARD: dict[str, tuple[Loss, Rung]] = {
    "mse_loss": (penalised(F.mse_loss), Rung.DOUBLE_REVERSE),
    "function without jvp": (with_function(Cube.apply), Rung.DOUBLE_REVERSE),
    "old-style function": (with_function(OldCube.apply), Rung.DOUBLE_REVERSE),
    "gradient penalty": (with_gradient_penalty, Rung.FORWARD),
    "in-place steps": (with_writes, Rung.FORWARD),
}


@pytest.mark.parametrize("name", HARD)
def test_code_that_torch_func_refuses_gets_a_verdict(name: str) -> None:
    inner, rung = HARD[name]
    right = judged(inner, outer)
    assert right.verdict is Verdict.RIGHT, right.describe()
    assert right.floor < 1e-8
    assert right.truth == rung.sentence


@pytest.mark.parametrize("name", sorted(ONCE_DIFFERENTIABLE))
def test_differences_alone_judge_what_torch_differentiates_once(name: str) -> None:
    loss = next(loss for loss in LOSSES if loss.name == name)
    problem = ordinary(LAYERS[0], loss, torch.float64)

    def run(lam: Tensor) -> Tensor:
        theta = dict(problem.theta0)
        for _ in range(STEPS):
            leaves = {key: value.clone().requires_grad_() for key, value in theta.items()}
            slopes = torch.autograd.grad(problem.inner(lam, leaves), list(leaves.values()))
            pairs = zip(theta.items(), slopes, strict=True)
            theta = {key: value - STEP_SIZE * slope for (key, value), slope in pairs}
        return problem.outer(lam, theta).detach()

    steps = 1e-5 * torch.eye(len(problem.lam), dtype=torch.float64)
    lam = problem.lam
    answer = torch.stack([(run(lam + step) - run(lam - step)) / 2e-5 for step in steps])
    right = report(problem, answer, tolerance=1e-7)
    assert right.verdict is Verdict.RIGHT, right.describe()
    assert right.truth == Rung.DIFFERENCES.sentence
    assert report(problem, 1.3 * answer).verdict is Verdict.WRONG


class Mistaken(torch.autograd.Function):
    """t² with a forward mode that is wrong, and no error."""

    generate_vmap_rule = True

    @staticmethod
    def forward(t: Tensor) -> Tensor:
        """t²."""
        return t**2

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        """Keep t."""
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> Tensor:
        """2t."""
        slope: Tensor = 2 * ctx.saved_tensors[0] * weight
        return slope

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:  # noqa: ARG004
        """Not 2t."""
        return 5 * tangent


def _scripted_inner() -> Loss:
    @torch.jit.script
    def scripted(lam: Tensor, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        fit = (torch.tanh(x @ theta) - y).square().mean()
        return lam[1].exp() * fit + lam[0].exp() * theta.square().sum()

    return lambda lam, theta: scripted(lam, theta, X, Y)


def _mistaken_outer(lam: Tensor, theta: Tensor) -> Tensor:
    value: Tensor = Mistaken.apply(XV @ theta - YV).mean()  # type: ignore[no-untyped-call]  # torch's own
    return value


WRONG_FORWARD: dict[str, Callable[[], tuple[Loss, Loss]]] = {
    # TorchScript drops the tangents of forward mode from its second call on.
    "a scripted inner": lambda: (_scripted_inner(), outer),
    "a wrong jvp in outer": lambda: (
        penalised(lambda z, y: (z - y).square().mean()),
        _mistaken_outer,
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "factor",
    [
        1.0,
        0.0,
        pytest.param(-1.0, marks=pytest.mark.full),
        pytest.param(0.9, marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("name", WRONG_FORWARD)
def test_losses_whose_forward_mode_is_wrong_are_judged_by_reverse_mode(
    name: str, factor: float
) -> None:
    """The answer is a function, so that the truth is also asked for at other λ, without differences."""
    inner, measured = WRONG_FORWARD[name]()
    mine = by_reverse_mode(inner, measured)
    found = hypergradient_report(
        inner,
        measured,
        LAM,
        THETA,
        lambda lam: factor * mine(lam),
        steps=3,
        step_size=0.1,
        diagnosis_seconds=0,
    )
    assert found.verdict is (Verdict.RIGHT if factor == 1 else Verdict.WRONG), found.describe()
    assert found.truth in (Rung.DOUBLE_REVERSE.sentence, Rung.REVERSE.sentence)


@pytest.mark.full
def test_a_compiled_loss_is_judged_as_it_is_written() -> None:
    graphs: list[object] = []

    def backend(graph: Any, _: object) -> Any:
        graphs.append(graph)
        return graph.forward

    plain = penalised(lambda z, y: (torch.tanh(z) - y).square().mean())
    compiled = torch.compile(plain, backend=backend)
    mine = by_reverse_mode(plain, outer)
    for factor, verdict in ((1.0, Verdict.RIGHT), (0.9, Verdict.WRONG)):
        found = hypergradient_report(
            compiled, outer, LAM, THETA, lambda lam, c=factor: c * mine(lam), steps=3, step_size=0.1
        )
        assert found.verdict is verdict
    assert not graphs
    assert torch.equal(compiled(LAM, THETA), plain(LAM, THETA))
    assert graphs


def test_a_kink_is_named_with_both_slopes() -> None:
    def measured(lam: Tensor, theta: Tensor) -> Tensor:
        return theta.square().sum() + (lam[0] + 1.0).abs()

    inner = penalised(lambda z, y: (z - y).square().mean())
    with pytest.raises(OracleError, match="a kink at this lam: one-sided slopes"):
        judged(inner, measured)


@pytest.mark.parametrize(
    "root", [lambda t: t.square().sum().sqrt(), lambda t: t.square().sqrt().sum()]
)
def test_a_root_at_zero_is_named(root: Callable[[Tensor], Tensor]) -> None:
    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        return (X @ theta - Y).square().mean() + lam[0].exp() * root(theta)

    zero = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(OracleError, match=r"∂_θ inner is not finite at step 0 although theta"):
        hypergradient_report(
            inner, outer, LAM, zero, torch.zeros(2).double(), steps=3, step_size=0.1
        )


def test_a_singular_hessian_is_named() -> None:
    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        return (lam.sum() - theta.sum()).square()

    with pytest.raises(OracleError, match="singular inner Hessian"):
        hypergradient_report(
            inner, outer, LAM, THETA, LAM, steps=3, step_size=0.1, estimand="implicit"
        )


def test_eight_threads_give_what_one_gives() -> None:
    inner = penalised(lambda z, y: (torch.tanh(z) - y).square().mean())
    problem = BilevelProblem(
        lambda lam, theta, _: inner(lam, theta),
        lambda lam, theta, _: outer(lam, theta),
        FixedInitial(THETA),
    )
    dynamics, schedule = Langevin(0.1), Schedule.last(3)

    def figures(_: int) -> list[float]:
        seen = judged(inner, outer)
        forward = FMD(dynamics, schedule).estimate(problem, LAM).value
        measured = check_assumptions(problem, LAM, dynamics, schedule, pairs=1)
        return [
            seen.error,
            seen.bound,
            seen.confirmed,
            *forward.tolist(),
            measured.error_found,
            *(finding.value for finding in measured if finding.value == finding.value),
        ]

    alone = figures(0)
    with ThreadPoolExecutor(8) as pool:
        assert all(together == alone for together in pool.map(figures, range(8)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_truth_that_cancels_to_zero_is_compared_with_rounding(dtype: torch.dtype) -> None:
    mirrored = torch.cat([X, -X]).to(dtype)

    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        return (mirrored @ theta).square().mean()

    def measured(lam: Tensor, theta: Tensor) -> Tensor:
        return (mirrored @ theta * lam.exp().sum()).sum()

    def verdict(answer: float) -> Verdict:
        returned = torch.full((2,), answer, dtype=dtype)
        run: dict[str, Any] = {"steps": 3, "step_size": 0.1, "diagnosis_seconds": 0}
        return hypergradient_report(
            inner, measured, LAM.to(dtype), THETA.to(dtype), returned, **run
        ).verdict

    assert verdict(torch.finfo(dtype).eps / 10) is Verdict.RIGHT
    assert verdict(1e-2) is Verdict.WRONG
