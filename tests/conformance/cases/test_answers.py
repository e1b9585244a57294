"""What a caller's function returns is matched with λ by key and shape, and every call of it is judged.

About 5 s.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from refblo import HPOSGLD, BilevelProblem, FixedInitial, Langevin, Schedule
from refblo.conformance import Report, Verdict, hypergradient_report
from refblo.errors import ArgumentError, ArgumentTypeError

T, GAMMA = 3, 0.1
DRAW = torch.Generator().manual_seed(3)
X = torch.randn(8, 3, dtype=torch.float64, generator=DRAW)
Y = torch.randn(8, dtype=torch.float64, generator=DRAW)
THETA = torch.randn(3, dtype=torch.float64, generator=DRAW)
LAM = torch.randn(3, 2, dtype=torch.float64, generator=DRAW)
TREE = {"weights": LAM[:, 0].exp(), "decay": LAM[0, :1]}


def inner(lam: Tensor, theta: Tensor) -> Tensor:
    return (X @ theta - Y).square().mean() + (lam * torch.stack([theta, theta**2], 1)).sum() / 5


def outer(lam: Tensor, theta: Tensor) -> Tensor:
    return (X @ theta + Y).square().mean() + 0.1 * lam.square().sum()


RESULT = HPOSGLD(Langevin(0.05), Schedule(2, 2)).estimate(
    BilevelProblem(
        lambda lam, theta, _: inner(lam.reshape(3, 2), theta),
        lambda lam, theta, _: outer(lam.reshape(3, 2), theta),
        FixedInitial(THETA),
    ),
    LAM.flatten(),
)


def inner_of_tree(lam: dict[str, Tensor], theta: Tensor) -> Tensor:
    decay = lam["decay"].exp().sum()
    return (X @ theta - Y).square().mean() + lam["weights"] @ theta + decay * theta @ theta


def outer_of_tree(lam: dict[str, Tensor], theta: Tensor) -> Tensor:
    return (X @ theta + Y).square().mean() + 0.1 * lam["weights"].square().sum()


def unrolled(lam: Any, losses: tuple[Callable[..., Tensor], ...], start: Tensor = THETA) -> Any:
    """Reverse mode through the run, and the θ at which it ends."""
    leaves: Any
    if isinstance(lam, dict):
        leaves = {name: value.clone().requires_grad_() for name, value in lam.items()}
    else:
        leaves = lam.clone().requires_grad_()
    theta = start.clone().requires_grad_()
    for _ in range(T):
        (slope,) = torch.autograd.grad(losses[0](leaves, theta), theta, create_graph=True)
        theta = theta - GAMMA * slope
    value = losses[1](leaves, theta)
    if isinstance(lam, Tensor):
        return torch.autograd.grad(value, leaves)[0], theta.detach()
    found = torch.autograd.grad(value, list(leaves.values()))
    return dict(zip(leaves, found, strict=True)), theta.detach()


def right(lam: Any) -> Any:
    losses = (inner, outer) if isinstance(lam, Tensor) else (inner_of_tree, outer_of_tree)
    return unrolled(lam, losses)[0]


def report(hypergradient: Any, lam: Any = LAM, **options: Any) -> Report:
    train, test = (inner, outer) if isinstance(lam, Tensor) else (inner_of_tree, outer_of_tree)
    options = {"steps": T, "step_size": GAMMA, "diagnosis_seconds": 0.0} | options
    return hypergradient_report(train, test, lam, THETA, hypergradient, **options)


RIGHT_FORMS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "its own shape": (LAM, right),
    "flat": (LAM, lambda lam: right(lam).reshape(-1)),
    "the tuple of one that autograd returns": (LAM, lambda lam: (right(lam),)),
    "keys in the same order": (TREE, right),
    "keys in another order": (TREE, lambda lam: dict(reversed(right(lam).items()))),
    "an ordered dict": (TREE, lambda lam: OrderedDict(right(lam))),
}


@pytest.mark.parametrize("form", RIGHT_FORMS)
def test_a_right_answer_in_any_of_these_forms_is_right(form: str) -> None:
    lam, function = RIGHT_FORMS[form]
    assert report(function, lam).right


REFUSED_FORMS: dict[str, tuple[Any, Callable[[Any], Any], str]] = {
    "transposed": (LAM, lambda lam: right(lam).T, r"\(3, 2\), got \(2, 3\); it looks transposed"),
    "another shape": (LAM, lambda lam: right(lam)[None], r"\(3, 2\), got \(1, 3, 2\)"),
    "too few entries": (LAM, lambda lam: right(lam)[:2], r"\(3, 2\), got \(2, 2\)"),
    "other names": (
        TREE,
        lambda lam: {"a": right(lam)["weights"], "b": right(lam)["decay"]},
        r'structure of lam \(\["weights"\], \["decay"\]\), got \["a"\], \["b"\] '
        r'but no \["weights"\], \["decay"\];',
    ),
    "a name missing": (
        TREE,
        lambda lam: {"decay": right(lam)["decay"]},
        r'got no \["weights"\];',
    ),
    "a tuple for a dict": (
        TREE,
        lambda lam: tuple(right(lam).values()),
        r"got \[0\], \[1\] but no",
    ),
    "shapes swapped": (
        TREE,
        lambda lam: {"weights": right(lam)["decay"], "decay": right(lam)["weights"]},
        r'hypergradient\["weights"\] must have the shape of lam\["weights"\], \(3,\), got \(1,\)',
    ),
    "an estimator's result": (LAM, lambda _: RESULT, r"got Hypergradient; give its \.value"),
    "an estimator": (
        LAM,
        lambda _: HPOSGLD(Langevin(0.05), Schedule(2, 2)),
        r"got HPOSGLD; .*lambda lam: estimator\.estimate\(problem, lam\)\.value",
    ),
    "None": (LAM, lambda _: None, "hypergradient must be a tensor, got None: .* no path from lam"),
    "None in a tuple": (
        LAM,
        lambda _: (None,),
        r"hypergradient\[0\] must be a tensor, got None: .* no path",
    ),
    "None in a dict": (
        TREE,
        lambda lam: right(lam) | {"decay": None},
        r'hypergradient\["decay"\] must be a tensor, got None: .* no path',
    ),
    "complex": (
        LAM,
        lambda lam: right(lam) + 1000j,
        "hypergradient must be real, got torch.complex128",
    ),
    "sparse": (LAM, lambda lam: right(lam).to_sparse(), r"must be dense.*\.to_dense\(\)"),
    "meta": (LAM, lambda lam: right(lam).to("meta"), "got a tensor on the device meta"),
    "integers": (LAM, lambda lam: right(lam).long(), "floating-point dtype, got torch.int64"),
    "NumPy": (
        LAM,
        lambda lam: right(lam).numpy(),
        r"got ndarray; convert it with torch\.as_tensor",
    ),
    "a number": (LAM, lambda _: 0.0, r"got float; make it torch\.tensor"),
    "a module": (LAM, lambda _: nn.Linear(1, 1), "got the module Linear"),
}


@pytest.mark.parametrize("form", REFUSED_FORMS)
def test_an_answer_in_another_form_is_refused_with_both_forms(form: str) -> None:
    lam, function, message = REFUSED_FORMS[form]
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        report(function, lam)


MODULE = nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1)).double()
REFUSED_STARTS: dict[str, tuple[Any, str]] = {
    "a module": (
        MODULE,
        r"theta0 must be a tensor.*got the module.*dict\(module\.named_parameters\(\)\)",
    ),
    "a state dict": (
        MODULE.state_dict(),
        r'theta0\["1\.num_batches_tracked"\] must have a floating',
    ),
    "an iterator": ([MODULE.parameters()], "got generator; it can be read only once"),
    "NumPy": ({"w": X.numpy()}, r'theta0\["w"\] must be a tensor.*got ndarray'),
    "mixed dtypes": ([THETA, THETA.float()], r"theta0\[1\]; convert all of them"),
    "NaN": (THETA * float("nan"), "theta0 must be finite"),
}


@pytest.mark.parametrize("start", REFUSED_STARTS)
def test_a_start_that_is_no_tree_of_parameters_is_refused(start: str) -> None:
    theta0, message = REFUSED_STARTS[start]
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        hypergradient_report(inner, outer, LAM, theta0, right, steps=T, step_size=GAMMA)


def test_arrays_of_jax_beside_tensors_are_refused() -> None:
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(ArgumentTypeError, match=r"^theta0 must be a JAX array as the others are"):
        hypergradient_report(inner, outer, [jnp.ones(3)], THETA, right, steps=T, step_size=GAMMA)


def test_a_state_with_its_keys_in_another_order_is_matched_by_key() -> None:
    def step(lam: Tensor, state: dict[str, Tensor], _: int) -> dict[str, Tensor]:
        slope = torch.func.grad(lambda theta: inner(lam, theta))(state["theta"])
        velocity = 0.9 * state["velocity"] + slope
        return {"velocity": velocity, "theta": state["theta"] - GAMMA * velocity}

    def mine(lam: Tensor) -> Tensor:
        def objective(at: Tensor) -> Tensor:
            state = {"theta": THETA, "velocity": torch.zeros(3).double()}
            for t in range(T):
                state = step(at, state, t)
            return outer(at, state["theta"])

        gradient: Tensor = torch.func.grad(objective)(lam)
        return gradient

    found = hypergradient_report(
        None,
        outer,
        LAM,
        {"theta": THETA, "velocity": torch.zeros(3).double()},
        mine,
        steps=T,
        step=step,
        read=lambda state: state["theta"],
    )
    assert found.right


class TestCalls:
    """Each of the three calls is judged, whatever the estimand."""

    def test_a_gibbs_hypergradient_that_changes_lam_and_then_itself_is_wrong(self) -> None:
        seen = 0

        def drifting(lam: Tensor) -> Tensor:
            nonlocal seen
            seen += 1
            value = 6 * lam if seen == 1 else 30 * lam
            lam.zero_()
            return value

        # L = (θ − λ)²: d/dλ E[3θ²] = 6λ.
        found = hypergradient_report(
            lambda lam, theta: (theta - lam).square().sum(),
            lambda _, theta: 3 * theta.square().sum(),
            torch.tensor([0.7], dtype=torch.float64),
            torch.zeros(1, dtype=torch.float64),
            drifting,
            estimand="gibbs",
            diagnosis_seconds=0.0,
        )
        assert found.verdict is Verdict.WRONG
        assert any("in place" in text for text in found.findings)
        assert any("two calls at the same lam" in text for text in found.findings)

    def test_a_number_in_a_function_is_judged_as_a_number(self) -> None:
        value = right(LAM)
        found = report(lambda _: value)
        assert found.right
        assert "judged as computed before" in found.describe().splitlines()[0]
        assert report(lambda _: value.clone()).verdict is Verdict.WRONG

    def test_an_answer_that_is_not_finite_is_wrong_in_the_first_line(self) -> None:
        found = report(lambda lam: right(lam) * float("nan"))
        assert found.verdict is Verdict.WRONG
        assert found.describe().splitlines()[0].endswith("it is not finite")
        assert any("6 of 6" in text for text in found.findings)

    def test_a_call_that_raises_is_named_by_its_place(self) -> None:
        calls = 0

        def once(lam: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise RuntimeError("backward through the graph a second time")
            found: Tensor = right(lam)
            return found

        with pytest.raises(ArgumentError, match=r"a second time in the second call \(near lam\)"):
            report(once)

    def test_tensors_that_the_function_trains_do_not_change_the_truth(self) -> None:
        start = THETA.clone()

        def training(lam: Tensor) -> Tensor:
            found: Tensor = right(lam)
            start.mul_(2)
            return found

        options: dict[str, Any] = {"steps": T, "step_size": GAMMA}
        assert hypergradient_report(inner, outer, LAM, start, training, **options).right


class TestWarmStarts:
    """A method that starts from the θ of its last call is judged from there."""

    @staticmethod
    def method(error: float = 0.0) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        kept = [THETA]

        def hypergradient(lam: Tensor) -> tuple[Tensor, Tensor]:
            value, ended = unrolled(lam, (inner, outer), kept[-1])
            kept.append(ended)
            return value * (1 + error * (len(kept) > 2)), ended

        return hypergradient

    def test_a_right_one_is_right_at_every_call(self) -> None:
        assert report(self.method(), stateful=True).right
        undeclared = self.method()
        assert report(lambda lam: undeclared(lam)[0]).verdict is Verdict.WRONG

    def test_one_that_is_wrong_from_its_second_call_is_wrong(self) -> None:
        assert report(self.method(1e-3), stateful=True).verdict is Verdict.WRONG

    @pytest.mark.parametrize("returned", [True, False])
    def test_it_may_be_told_where_to_start(self, returned: bool) -> None:
        def told(lam: Tensor, theta: Tensor) -> Any:
            pair = unrolled(lam, (inner, outer), theta)
            return pair if returned else pair[0]

        assert report(told, stateful=True).right

    def test_one_that_does_not_say_where_it_ended_is_refused(self) -> None:
        with pytest.raises(ArgumentError, match=r"must return \(hypergradient, theta\)"):
            report(right, stateful=True)


def test_a_cache_that_returns_one_tensor_is_stale_and_a_number_in_a_function_is_not() -> None:
    """`lambda lam: value` is a hypergradient that was computed before; a function that looks it up is not."""
    lam, theta = torch.tensor([0.3, -0.2]).double(), torch.tensor([1.0, 2.0, 0.5]).double()

    def inner(lam: Tensor, theta: Tensor) -> Tensor:
        return ((theta - lam.sum()).square() * theta.cos()).sum()

    def outer(lam: Tensor, theta: Tensor) -> Tensor:
        return theta.sin().sum() * lam.exp().sum()

    def right(lam: Tensor) -> Tensor:
        lam, at = lam.clone().requires_grad_(), theta.clone().requires_grad_()
        for _ in range(3):
            at = at - 0.1 * torch.autograd.grad(inner(lam, at), at, create_graph=True)[0]
        return torch.autograd.grad(outer(lam, at), lam)[0]

    kept: dict[str, Tensor] = {}

    def cached(lam: Tensor) -> Tensor:
        if "value" not in kept:
            kept["value"] = right(lam)
        return kept["value"]

    value = right(lam)
    for hypergradient, verdict in ((cached, Verdict.WRONG), (lambda lam: value, Verdict.RIGHT)):
        report = hypergradient_report(
            inner, outer, lam, theta, hypergradient, steps=3, step_size=0.1
        )
        assert report.verdict is verdict
