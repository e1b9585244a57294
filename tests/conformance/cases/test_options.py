"""Each option of hypergradcheck does to each estimand what the documentation's table says.

The table is walked: a refused option raises by its name, a used one changes the truth (or the check), one
without effect changes nothing. About 10 s.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from refblo.conformance import Rule, Verdict, hypergradient_report
from refblo.conformance.option_table import TABLE, Use, table_markdown
from refblo.conformance.options import Options, checked
from refblo.errors import ArgumentError, ArgumentTypeError
from refblo.types import Estimand

ROOT = Path(__file__).resolve().parents[3]
QUICK = {("rule", "gibbs"), ("inner_batches", "implicit"), ("burn_in", "pathwise")}
ESTIMANDS = {
    "unrolled": Estimand.UNROLLED,
    "pathwise": Estimand.PATHWISE,
    "implicit": Estimand.IMPLICIT,
    "gibbs": Estimand.GIBBS,
}
CELLS = [
    (option, estimand, TABLE[option][ESTIMANDS[estimand]].use)
    for option in TABLE
    for estimand in ESTIMANDS
]


def cells(wanted: Callable[[str, str, Use], bool]) -> list[Any]:
    """Pairs of option and estimand; those that take a further truth belong to the full profile."""
    return [
        pytest.param(
            option,
            estimand,
            marks=[]
            if use is Use.REFUSED or estimand == "unrolled" or (option, estimand) in QUICK
            else [pytest.mark.full],
        )
        for option, estimand, use in CELLS
        if wanted(option, estimand, use)
    ]


T = 3
X = torch.tensor([[1.0], [2.0], [-0.5]], dtype=torch.float64)
Y = torch.tensor([0.5, 1.5, 1.0], dtype=torch.float64)
LAM = torch.tensor([0.3], dtype=torch.float64)
THETA = torch.tensor([0.4], dtype=torch.float64)
BATCH, OTHER = torch.tensor([0, 1]), torch.tensor([2])


def inner(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
    rows = slice(None) if batch is None else batch
    return (X[rows] @ theta - Y[rows]).square().mean() + lam.exp().sum() * theta.square().sum()


def outer(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
    rows = slice(None) if batch is None else batch
    return (X[rows] @ theta + Y[rows]).square().mean() + 0.1 * lam.square().sum()


def step(lam: Tensor, theta: Tensor, t: int) -> Tensor:
    gradient: Tensor = torch.func.grad(lambda at: inner(lam, at, None))(theta)
    return theta - 0.3 / (1 + 0 * t) * gradient


def zero(lam: Tensor, *_: object) -> Tensor:
    return torch.zeros_like(lam)


def stateful(lam: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(lam), THETA + 1


VALUES: dict[str, Any] = {
    "steps": 5,
    "step_size": 0.05,
    "rule": Rule(0.1, weight_decay=0.7),
    "step": step,
    "read": lambda state: state + 1,
    "temperature": 0.5,
    "noise": torch.full((T, 1), 0.2, dtype=torch.float64),
    "inner_batches": [BATCH] * T,
    "outer_batches": [BATCH] * (T + 1),
    "burn_in": 1,
    "directions": 1,
    "floor": 1e-3,
    "tolerance": 0.2,
    "terms": 4,
    "seed": 5,
    "seeds": 4,
    "stateful": True,
    "diagnosis_seconds": 0.0,
}
"""Another value than the base's for each option."""

THE_CHECK_ALONE = {"directions", "floor", "tolerance", "terms", "seed", "seeds", "stateful"} | {
    "diagnosis_seconds",
    "temperature",
}
"""Options that change what is checked, or the diagnosis, but not the truth of a run."""


def truth(option: str | None, estimand: str) -> tuple[float, ...]:
    """What the check compares with, at a wrong hypergradient: every figure of its truth."""
    options: dict[str, Any] = {"steps": T, "step_size": 0.1, "diagnosis_seconds": 0.0}
    options["estimand"] = estimand
    hypergradient: Callable[..., Any] = zero
    if option is not None:
        options[option] = VALUES[option]
    if option in ("rule", "step", "read"):
        del options["step_size"]
    if option == "read":
        options["step"] = step
    if option == "stateful":
        hypergradient = stateful
    losses = (None if "step" in options else inner), outer
    report = hypergradient_report(*losses, LAM, THETA, hypergradient, **options)
    return (report.true_slope, float(report.direction[0]))


def base(option: str, estimand: str) -> tuple[float, ...]:
    """The same without the option."""
    if option == "read":
        return truth("step", estimand)
    return truth(None, estimand)


def test_every_option_has_a_row_and_every_row_is_an_option() -> None:
    assert set(TABLE) == set(Options.__annotations__) - {"estimand"}
    assert all(set(row) == set(ESTIMANDS.values()) for row in TABLE.values())


def test_the_documentation_prints_the_table() -> None:
    page = (ROOT / "docs" / "hypergradcheck.md").read_text(encoding="utf-8")
    assert table_markdown() in page


@pytest.mark.parametrize(("option", "estimand"), cells(lambda _, __, use: use is Use.REFUSED))
def test_what_cannot_be_obeyed_is_refused_by_name(option: str, estimand: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{option} must"):
        truth(option, estimand)


@pytest.mark.parametrize(
    ("option", "estimand"),
    cells(
        lambda option, estimand, use: (
            use is Use.USED
            and option not in THE_CHECK_ALONE
            and (option, estimand) != ("steps", "implicit")
        )
    ),
)
def test_what_is_used_changes_the_truth(option: str, estimand: str) -> None:
    leads_only = estimand == "implicit" and option in ("step_size", "step")
    without, with_it = base(option, estimand), truth(option, estimand)
    if leads_only:
        assert with_it == pytest.approx(without, rel=1e-9)
    else:
        assert with_it[0] != pytest.approx(without[0], rel=1e-6)


@pytest.mark.parametrize(
    ("option", "estimand"),
    cells(
        lambda option, estimand, use: (
            use is Use.WITHOUT_EFFECT or (option, estimand) == ("steps", "implicit")
        )
    ),
)
def test_what_has_no_effect_changes_nothing(option: str, estimand: str) -> None:
    assert truth(option, estimand) == pytest.approx(base(option, estimand), rel=1e-9)


@pytest.mark.parametrize(
    ("option", "estimand"),
    cells(lambda option, _, use: use is Use.USED and option in THE_CHECK_ALONE),
)
def test_what_changes_the_check_alone_is_taken(option: str, estimand: str) -> None:
    if option == "temperature" and estimand == "gibbs":
        assert truth(option, estimand)[0] != pytest.approx(base(option, estimand)[0], rel=1e-6)
    else:
        assert abs(truth(option, estimand)[0]) > 0


@pytest.mark.parametrize("estimand", ["implicit", "gibbs"])
def test_batches_that_differ_have_no_one_inner_problem(estimand: str) -> None:
    with pytest.raises(ArgumentError, match="inner_batches must be the same batch at every step"):
        hypergradient_report(
            inner,
            outer,
            LAM,
            THETA,
            zero,
            steps=2,
            step_size=0.1,
            estimand=estimand,
            inner_batches=[BATCH, OTHER],
        )


@pytest.mark.parametrize(
    "rule", [Rule(0.1, momentum=0.9), Rule(0.1, betas=(0.9, 0.99))], ids=["momentum", "Adam"]
)
def test_the_density_of_a_chain_with_momentum_is_refused(rule: Rule) -> None:
    with pytest.raises(ArgumentError, match="rule must be plain Langevin dynamics"):
        hypergradient_report(inner, outer, LAM, THETA, zero, rule=rule, estimand="gibbs")


def test_decoupled_decay_beside_momentum_has_no_minimiser() -> None:
    rule = Rule(0.1, momentum=0.5, weight_decay=0.1, decoupled_decay=True)
    with pytest.raises(ArgumentError, match=r"rule\.decoupled_decay must be False"):
        hypergradient_report(inner, outer, LAM, THETA, zero, rule=rule, estimand="implicit")


def test_noise_that_is_not_given_cannot_be_part_of_the_run() -> None:
    rule = Rule(0.1, noise_scale=1.0)
    with pytest.raises(ArgumentError, match=r"rule\.noise_scale must be 0 unless"):
        hypergradient_report(inner, outer, LAM, THETA, zero, rule=rule)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("tolerence", "tolerance"),
        ("stepsize", "step_size"),
        ("lr", "step_size"),
        ("burnin", "burn_in"),
        ("momentum", r"rule=Rule\(step_size, momentum="),
        ("nesterov", r"rule=Rule\(step_size, nesterov="),
        ("whatever_else", "the options are estimand, steps"),
    ],
)
def test_an_unknown_option_names_the_nearest(name: str, nearest: str) -> None:
    options: dict[str, Any] = {name: 0.1}
    with pytest.raises(TypeError, match=f"^{name} must be an option of hypergradcheck.*{nearest}"):
        hypergradient_report(inner, outer, LAM, THETA, zero, **options)


def test_an_option_that_is_none_counts_as_left_out() -> None:
    given, estimand = checked(dict.fromkeys([*TABLE, "estimand"]))
    assert given == {}
    assert estimand is Estimand.UNROLLED


class TestTheGibbsEstimandObeysItsRule:
    """L = (θ − λ)², f = λθ²: with decay w the density is Gaussian with precision (2 + w)/τ.

    d/dλ E[λθ²] = 3 (2/(2 + w))² λ² + τ/(2 + w) in closed form.
    """

    def expected(self, decay: float, temperature: float) -> float:
        return float(3 * (2 / (2 + decay)) ** 2 * LAM[0] ** 2 + temperature / (2 + decay))

    def report(self, value: float, **options: Any) -> Any:
        return hypergradient_report(
            lambda lam, theta: (theta - lam).square().sum(),
            lambda lam, theta: (lam * theta * theta).sum(),
            LAM,
            THETA,
            torch.tensor([value], dtype=torch.float64),
            estimand="gibbs",
            diagnosis_seconds=0.0,
            **options,
        )

    @pytest.mark.parametrize(("decay", "temperature"), [(0.0, 0.5), (3.0, 0.5)])
    def test_weight_decay_and_temperature(self, decay: float, temperature: float) -> None:
        rule = Rule(0.1, weight_decay=decay, temperature=temperature)
        assert self.report(self.expected(decay, temperature), rule=rule).right
        wrong = self.expected(decay + 1, temperature)
        assert self.report(wrong, rule=rule).verdict is Verdict.WRONG

    def test_the_temperature_may_stand_beside_the_rule(self) -> None:
        options: dict[str, Any] = {"rule": Rule(0.1, weight_decay=3.0), "temperature": 0.5}
        assert self.report(self.expected(3.0, 0.5), **options).right
        assert not self.report(self.expected(0.0, 0.5), **options).right
        twice = {"rule": Rule(0.1, temperature=2.0), "temperature": 0.5}
        with pytest.raises(ArgumentError, match="temperature must be that of the rule"):
            self.report(1.0, **twice)

    def test_the_noise_scale_belongs_to_the_temperature(self) -> None:
        rule = Rule(0.1, temperature=2.0, noise_scale=0.5)
        assert self.report(self.expected(0.0, 0.5), rule=rule).right


def test_the_implicit_estimand_is_of_the_batch_that_is_given() -> None:
    def implicit(lam: Tensor, batch: Tensor) -> Tensor:
        """θ* of the batch in closed form; df/dλ by autograd through it."""
        rows, targets = X[batch], Y[batch]
        gram = rows.T @ rows / len(batch) + torch.diag(lam.exp())
        theta = torch.linalg.solve(gram, rows.T @ targets / len(batch))
        return outer(lam, theta, None)

    options: dict[str, Any] = {"steps": 60, "step_size": 0.1, "estimand": "implicit"}
    options |= {"inner_batches": [BATCH] * 60, "diagnosis_seconds": 0.0}
    for batch, right in ((BATCH, True), (torch.arange(3), False), (OTHER, False)):
        report = hypergradient_report(
            inner,
            lambda lam, theta: outer(lam, theta, None),
            LAM,
            THETA,
            lambda lam, batch=batch: torch.func.grad(implicit)(lam, batch),
            **options,
        )
        assert report.right is right


class TestAThirdParameter:
    """It is the batch if batches are given, or if it has no default."""

    def test_a_default_binds_a_value(self) -> None:
        def scaled(lam: Tensor, theta: Tensor, scale: float = 2.0) -> Tensor:
            value: Tensor = scale * inner(lam, theta, None)
            return value

        def through(lam: Tensor) -> Tensor:
            def objective(at: Tensor) -> Tensor:
                theta = THETA
                for _ in range(2):
                    theta = theta - 0.1 * torch.func.grad(lambda z: scaled(at, z))(theta)
                return outer(at, theta, None)

            gradient: Tensor = torch.func.grad(objective)(lam)
            return gradient

        for hypergradient, right in ((through, True), (zero, False)):
            report = hypergradient_report(
                scaled, outer, LAM, THETA, hypergradient, steps=2, step_size=0.1
            )
            assert report.right is right

    def test_batches_for_a_loss_that_takes_none_are_refused(self) -> None:
        with pytest.raises(ArgumentError, match=r"inner must take \(lam, theta, batch\)"):
            hypergradient_report(
                lambda lam, theta: inner(lam, theta, None),
                outer,
                LAM,
                THETA,
                zero,
                step_size=0.1,
                inner_batches=[BATCH],
            )

    def test_keywords_without_a_default_are_refused(self) -> None:
        def loss(lam: Tensor, theta: Tensor, *, scale: float) -> Tensor:
            return scale * inner(lam, theta, None)

        with pytest.raises(ArgumentError, match=r"inner must take \(lam, theta\)"):
            hypergradient_report(loss, outer, LAM, THETA, zero, step_size=0.1)


class TestAStepOfOnesOwn:
    def test_it_is_called_with_the_steps_of_the_run_alone(self) -> None:
        seen: set[int] = set()

        def indexed(lam: Tensor, theta: Tensor, t: int) -> Tensor:
            seen.add(t)
            gradient: Tensor = torch.func.grad(lambda at: inner(LAM, at, None))(theta)
            return theta - lam[t] * gradient

        report = hypergradient_report(
            None, outer, torch.full((T,), 0.1).double(), THETA, zero, steps=T, step=indexed
        )
        assert report.verdict is Verdict.WRONG
        assert seen == set(range(T))

    def test_batches_are_never_replaced_by_none(self) -> None:
        def strict(lam: Tensor, theta: Tensor, batch: Tensor) -> Tensor:
            assert batch is not None
            return inner(lam, theta, batch)

        report = hypergradient_report(
            strict,
            lambda lam, theta: outer(lam, theta, None),
            LAM,
            THETA,
            zero,
            steps=T,
            step_size=0.1,
            inner_batches=[BATCH, OTHER, BATCH],
        )
        assert report.verdict is Verdict.WRONG


@pytest.mark.parametrize("name", ["tolerance", "floor"])
@pytest.mark.parametrize("value", [1.0, 2.0, -1e-3, float("inf"), float("nan")])
def test_a_share_lies_below_one(name: str, value: float) -> None:
    options: dict[str, Any] = {"step_size": 0.1, name: value}
    with pytest.raises(ArgumentError, match=f"^{name} must be non-negative, finite and below 1"):
        hypergradient_report(inner, outer, LAM, THETA, zero, **options)


def test_types_are_named() -> None:
    options: dict[str, Any] = {"step_size": torch.tensor(0.1)}
    asked = "step_size must be a real number or a function of lam, got a tensor"
    with pytest.raises(ArgumentTypeError, match=asked):
        hypergradient_report(inner, outer, LAM, THETA, zero, **options)


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize(
    "outer",
    [
        lambda lam, state: (state[0] - state[1]).square().sum(),
        lambda lam, state: sum(part.square().sum() for part in state),
        lambda lam, state: torch.cat(list(state)).square().sum(),
    ],
    ids=["indexed", "summed", "joined"],
)
def test_an_outer_of_a_state_of_several_parts_needs_to_be_told(
    kind: Callable[..., Any], outer: Callable[..., Tensor]
) -> None:
    """Its first part alone would be another loss: right code would be accused."""
    start = kind((THETA, 2 * THETA))

    def step(lam: Tensor, state: Any, t: int) -> Any:
        return kind((state[0] - 0.1 * lam.sum() * state[1], state[1] + 0.1 * state[0]))

    def right(lam: Tensor) -> Tensor:
        def objective(at: Tensor) -> Tensor:
            state = start
            for t in range(3):
                state = step(at, state, t)
            return outer(at, state)

        result: Tensor = torch.func.grad(objective)(lam)
        return result

    run: dict[str, Any] = {"steps": 3, "step": step, "diagnosis_seconds": 0}
    lam = torch.full((2,), 0.3).double()
    with pytest.raises(
        ArgumentError, match=r"^read must be given .* write read=lambda state: state if"
    ):
        hypergradient_report(None, outer, lam, start, right, **run)
    report = hypergradient_report(None, outer, lam, start, right, read=lambda state: state, **run)
    assert report.right
