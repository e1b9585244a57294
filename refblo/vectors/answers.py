"""The questions about a problem, and their answers: valid, acceptable, and those of known mistakes.

Everything is computed in ball arithmetic at the precision of the caller, so every answer has a rigorous
radius, the wrong ones too: a checker must refuse exactly these numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

from flint import arb, arb_mat

from refblo.balls.derivatives import exact
from refblo.balls.graph import Balls
from refblo.balls.minimiser import enclose_minimiser
from refblo.errors import OracleError
from refblo.oracles.ball_gibbs import gibbs, gibbs_form
from refblo.vectors.problems import Posed, symbolic
from refblo.vectors.run import AdjointSweep, LinearisedRun, Model, Row, run, sweep

Named = Iterator[tuple[str, Row]]

_DISTINCT = arb(10) ** -6
"""The share of the valid answer by which a wrong one must differ from it, or it is left out: below that it
would test a checker's rounding and not its eyes."""

_SAME = arb(10) ** -15
"""The share within which two mistakes have the same answer, which then carries both flags."""


@final
@dataclass(frozen=True, eq=False)
class VectorAnswer:
    """One answer to a question.

    Attributes:
        result: "valid", "acceptable" or "invalid".
        flags: names of the mistakes or of the convention that give it.
        vector: the hypergradient, shape (1, p).
    """

    result: str
    flags: tuple[str, ...]
    vector: Row


@final
@dataclass(frozen=True, eq=False)
class VectorQuestion:
    """What is asked.

    Attributes:
        estimand: "unrolled", "pathwise", "implicit" or "gibbs".
        estimator: "exact", or an approximation by its name.
        terms: K of an estimator that has one.
        answers: the valid one first.
    """

    estimand: str
    estimator: str
    terms: int | None
    answers: tuple[VectorAnswer, ...]


def questions(posed: Posed) -> tuple[VectorQuestion, ...]:
    """All questions about a problem, answered at the current precision.

    Raises:
        OracleError: if the implicit or the Gibbs truth cannot be enclosed.
    """
    model = Model.of(posed)
    terms = posed.settings.terms
    found = []
    if "unrolled" in posed.estimands:
        last = run(model, last_only=True)
        swept = sweep(last)
        truth = last.direct + swept.total
        wrong = [*_wrong_runs(last, swept), *_others(model, "unrolled")]
        found.append(_question("unrolled", "exact", None, truth, {}, wrong))
        found.append(_truncated(last, swept, terms))
    if "pathwise" in posed.estimands:
        mean = run(model, last_only=False)
        swept = sweep(mean)
        truth = mean.direct + swept.total
        wrong = [*_wrong_runs(mean, swept), *_wrong_means(mean, swept)]
        wrong += _others(model, "pathwise")
        found.append(_question("pathwise", "exact", None, truth, {}, wrong))
        if "start_jacobian" not in posed.arrays:
            found.append(_hpo_sgld(mean))
    if "implicit" in posed.estimands:
        root = _Root.of(model, _minimiser(model))
        truth = root.direct - root.solved() * root.mixed
        wrong = [*_wrong_solves(model, root), *_others(model, "implicit")]
        found.append(_question("implicit", "exact", None, truth, {}, wrong))
        found.append(_neumann(root, model.gamma, terms))
    if "gibbs" in posed.estimands:
        truth = _gibbs(model)
        wrong = [("wrong sign", truth * -1), ("factor 2", truth * 2), *_others(model, "gibbs")]
        found.append(_question("gibbs", "exact", None, truth, {}, wrong))
    return tuple(found)


def _question(
    estimand: str,
    estimator: str,
    terms: int | None,
    truth: Row,
    acceptable: dict[str, Row],
    wrong: list[tuple[str, Row]],
) -> VectorQuestion:
    """Put a question together: wrong answers that are none are dropped, equal ones are one."""
    kept: list[tuple[str, tuple[str, ...], Row]] = [("valid", (), truth)]
    kept += [("acceptable", (name,), vector) for name, vector in acceptable.items()]
    right, scale = len(kept), _largest(truth)
    for name, vector in wrong:
        if any(not _apart(vector, other, _DISTINCT * scale) for _, _, other in kept[:right]):
            continue
        for place, (_, names, other) in enumerate(kept[right:], right):
            if not _apart(vector, other, _SAME * scale):
                kept[place] = ("invalid", tuple(dict.fromkeys((*names, name))), other)
                break
        else:
            kept.append(("invalid", (name,), vector))
    return VectorQuestion(estimand, estimator, terms, tuple(VectorAnswer(*entry) for entry in kept))


def _largest(row: Row) -> arb:
    largest = arb(0)
    for entry in row.entries():
        largest = largest.max(abs(entry))
    return largest


def _apart(one: Row, other: Row, by: arb) -> bool:
    """Whether some entry is proved to differ by more than that."""
    return any(abs(a - b) > by for a, b in zip(one.entries(), other.entries(), strict=True))


def _wrong_runs(found: LinearisedRun, swept: AdjointSweep) -> Named:
    """Mistakes in the derivative of a run."""
    model, direct, indirect = found.model, found.direct, swept.total
    truth, gamma = direct + indirect, found.model.gamma
    yield "missing direct term", indirect
    yield "missing indirect term", direct
    yield "wrong sign", truth * -1
    yield "wrong sign of the indirect term", direct - indirect
    yield "wrong sign of the direct term", indirect - direct
    yield "factor 2", truth * 2
    yield "factor 1/2", truth / 2
    yield "factor 2 in the indirect term", direct + indirect * 2
    yield "factor 1/2 in the indirect term", direct + indirect / 2
    yield "step size left out in the indirect term", direct + indirect / gamma
    yield "step size twice in the indirect term", direct + indirect * gamma
    yield "initial point not differentiated", truth - swept.start
    yield "missing transitions", direct + swept.start
    yield "first-order", direct + found.mean(found.slopes) * found.moved
    yield "last transition not differentiated", truth - swept.terms[-1]
    for count in (2, len(swept.terms) - 1):
        yield "truncated", sum(swept.terms[-count:], direct)
    identity = sweep(found, lambda t, v: (v, found.pull(t, v)[1]))
    yield "identity for the transition Jacobian", direct + identity.total
    reflected = sweep(found, lambda t, v: (v * 2 - found.pull(t, v)[0], found.pull(t, v)[1]))
    yield "wrong sign of the inner Hessian", direct + reflected.total
    yield "one transition Jacobian too many", direct + _once_more(found)
    stale = [model.linear(found.states[0], t) for t in range(len(found.steps))]
    yield (
        "stale theta",
        direct + sweep(found, lambda t, v: (v * stale[t][0], v * stale[t][1])).total,
    )
    last_only = len(found.samples) == 1
    if model.posed.noise is not None:
        yield "noise not shared", _right(run(model, last_only=last_only, noisy=False))
    if model.posed.inner_batches is not None:
        yield "minibatch not shared", _right(run(model, last_only=last_only, batched=False))
    fewer = run(model, last_only=last_only, steps=len(found.steps) - 1)
    yield "off by one step", _right(fewer)


def _right(found: LinearisedRun) -> Row:
    return found.direct + sweep(found).total


def _once_more(found: LinearisedRun) -> Row:
    """Σ_t (α_{t+1} J_t)·G_t: each term pulled through its own transition as well."""

    def pull(t: int, v: Row) -> tuple[Row, Row]:
        through = found.pull(t, v)[0]
        return through, found.pull(t, through)[1]

    return sweep(found, pull).total


def _wrong_means(found: LinearisedRun, swept: AdjointSweep) -> Named:
    """Mistakes that only a mean over several samples can have."""
    truth, count = found.direct + swept.total, len(found.samples)
    yield "sum instead of mean", truth * count
    yield "divided by all steps", truth * count / len(found.steps)
    if "start_jacobian" not in found.model.posed.arrays:
        yield "HPO-SGLD recursion", _recursion(found)


def _truncated(found: LinearisedRun, swept: AdjointSweep, terms: int) -> VectorQuestion:
    """Back-propagation through the last K transitions."""
    values = {k: sum(swept.terms[-k:], found.direct) for k in (terms - 1, terms, terms + 1)}
    wrong = [
        ("truncated", values[terms - 1]),
        ("missing direct term", values[terms] - found.direct),
        ("wrong sign of the indirect term", found.direct * 2 - values[terms]),
        ("factor 2", values[terms] * 2),
    ]
    acceptable = {"K + 1 transitions": values[terms + 1]}
    return _question("unrolled", "truncated RMD", terms, values[terms], acceptable, wrong)


def _recursion(found: LinearisedRun, factor: int = 1) -> Row:
    """Kim and Hospedales, (22) and (25), for a θ⁰ that does not depend on λ."""
    g, total = arb_mat(1, found.model.p), found.direct
    for m in range(1, len(found.states)):
        g = g + found.pull(m - 1, found.slopes[m])[1] * factor
        total = total + g * found.weights[m]
    return total


def _hpo_sgld(found: LinearisedRun) -> VectorQuestion:
    """The recursion itself as the estimator that is asked for."""
    value, count = _recursion(found), len(found.samples)
    wrong = [
        ("missing direct term", value - found.direct),
        ("missing indirect term", found.direct),
        ("factor 2 in the indirect term", _recursion(found, 2)),
        ("wrong sign of the indirect term", found.direct * 2 - value),
        ("sum instead of mean", value * count),
        ("divided by all steps", value * count / len(found.steps)),
    ]
    return _question("pathwise", "HPO-SGLD", None, value, {}, wrong)


@final
@dataclass(frozen=True, eq=False)
class _Root:
    """The implicit formula's parts at a point."""

    direct: Row
    slope: Row
    hessian: arb_mat
    mixed: arb_mat

    @staticmethod
    def of(model: Model, theta: Balls) -> "_Root":
        _, hessian, mixed = model.inner(theta, None)
        return _Root(*model.outer(theta, None), hessian, mixed)

    def solved(self, damping: arb | None = None) -> Row:
        """f_θ (H + δI)⁻¹.

        Raises:
            OracleError: if that matrix cannot be proved invertible.
        """
        hessian = self.hessian if damping is None else self.hessian + _scalar(self.hessian, damping)
        try:
            return hessian.solve(self.slope.transpose()).transpose()
        except ZeroDivisionError as error:
            raise OracleError("the inner Hessian could not be proved invertible") from error

    def series(self, scale: arb, terms: int) -> Row:
        """α Σ_{j<K} f_θ (I − αH)^j."""
        term, total = self.slope, arb_mat(1, self.slope.ncols())
        for _ in range(terms):
            total = total + term
            term = term - term * self.hessian * scale
        return total * scale


def _scalar(like: arb_mat, value: arb) -> arb_mat:
    n = like.nrows()
    return arb_mat(n, n, [value if i == j else arb(0) for i in range(n) for j in range(n)])


def _minimiser(model: Model) -> Balls:
    return enclose_minimiser(model.derivatives, model.lam)


def _wrong_solves(model: Model, root: _Root) -> Named:
    """Mistakes in the implicit formula."""
    indirect = root.solved() * root.mixed * -1
    yield "missing direct term", indirect
    yield "missing indirect term", root.direct
    yield "wrong sign", (root.direct + indirect) * -1
    yield "wrong sign of the indirect term", root.direct - indirect
    yield "factor 2", (root.direct + indirect) * 2
    yield "factor 2 in the indirect term", root.direct + indirect * 2
    yield "identity for the inverse Hessian", root.direct - root.slope * root.mixed
    yield "one-step approximation", root.direct - root.slope * root.mixed * model.gamma
    yield "damping left in", root.direct - root.solved(arb(1) / 16) * root.mixed
    steps = model.posed.settings.steps
    there = _Root.of(model, run(model, last_only=True, steps=steps).states[-1])
    yield "inner solver not converged", there.direct - there.solved() * there.mixed


def _neumann(root: _Root, scale: arb, terms: int) -> VectorQuestion:
    """A truncated series; "K iterations" are K terms to some and K + 1 to others."""

    def with_terms(count: int, factor: arb | int = 1) -> Row:
        return root.direct - root.series(scale, count) * root.mixed * factor

    wrong = [
        ("series not scaled", with_terms(terms, 1 / scale)),
        ("series with one term fewer", with_terms(terms - 1)),
        ("missing direct term", with_terms(terms) - root.direct),
        ("wrong sign of the indirect term", with_terms(terms, -1)),
        ("identity for the inverse Hessian", root.direct - root.slope * root.mixed),
    ]
    acceptable = {"K + 1 terms": with_terms(terms + 1)}
    return _question("implicit", "Neumann series", terms, with_terms(terms), acceptable, wrong)


def _gibbs(model: Model) -> Row:
    form = gibbs_form(symbolic(model.posed))
    if form is None:
        raise OracleError(
            f"problem {model.posed.name} has no rigorous Gibbs truth; drop it from its estimands"
        )
    temperature = exact(model.posed.settings.temperature)
    return arb_mat(1, model.p, gibbs(form, model.lam, temperature))


def _others(model: Model, asked: str) -> list[tuple[str, Row]]:
    """The right answers to other questions about the problem."""
    truths: dict[str, Callable[[], Row]] = {}
    if asked != "unrolled":
        truths["unrolled"] = lambda: _right(run(model, last_only=True))
    if not model.posed.drawn and asked != "implicit":
        truths["implicit"] = lambda: _implicit(model)
    return [("another estimand", truth()) for truth in truths.values()]


def _implicit(model: Model) -> Row:
    root = _Root.of(model, _minimiser(model))
    return root.direct - root.solved() * root.mixed
