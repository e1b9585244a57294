"""Losses in JAX that are cast to float32 or bfloat16 in places: promoted, and judged as what they are.

The operations are those that a jaxpr may consist of, each written once for any dtype: promoted, the one in
float32 must be the one in float64, and so must its derivatives. Most are marked full, as each is compiled;
share of the quick suite: 11 s, of which JAX compiles for most.
"""

from collections.abc import Callable, Container, Iterable
from typing import Any

import numpy as np
import pytest

from refblo import hypergradient_report
from refblo.conformance.report import Report, Verdict

jax = pytest.importorskip("jax", reason="the extra `jax` is not installed")
jnp = jax.numpy
lax = jax.lax

from refblo.conformance.in_jax.promoted import narrowing, promoted  # noqa: E402  (it imports jax)

X = np.linspace(0.2, 1.4, 6)


@jax.custom_jvp  # type: ignore[untyped-decorator]  # JAX is imported as Any
def _with_jvp(x: Any) -> Any:
    return jnp.sin(x)


@_with_jvp.defjvp  # type: ignore[untyped-decorator]
def _its_jvp(primals: Any, tangents: Any) -> Any:
    return jnp.sin(primals[0]), 2.5 * jnp.cos(primals[0]) * tangents[0]


@jax.custom_vjp  # type: ignore[untyped-decorator]
def _with_vjp(x: Any, power: Any) -> Any:
    return x**power


_with_vjp.defvjp(
    lambda x, power: (x**power, (x, power)),
    lambda kept, weight: (2.5 * kept[0] * weight, None),
)


def _counted(x: Any) -> Any:
    def body(kept: Any) -> Any:
        return kept[0] + 1, kept[1] * jnp.cos(kept[1])

    return lax.while_loop(lambda kept: kept[0] < 3, body, (0, x))[1]


def _solved(x: Any) -> Any:
    matrix = jnp.diag(1 + x) + 0.125 * jnp.outer(x, x)
    return lax.custom_linear_solve(
        lambda at: matrix @ at, x, lambda _, b: jnp.linalg.solve(matrix, b), symmetric=True
    )


def _convolved(x: Any) -> Any:
    return lax.conv_general_dilated(x.reshape(1, 1, 6), x[:3].reshape(1, 1, 3), (1,), "SAME")


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "sum of squares": lambda x: (x**2).sum(),
    "exp and log": lambda x: jnp.log1p(jnp.exp(x)),
    "constants": lambda x: x * jnp.asarray([0.5, 1, 2, 4, 8, 16], x.dtype) + 0.75,
    "matrix product": lambda x: x.reshape(2, 3) @ x.reshape(3, 2),
    "accumulated in it": lambda x: jnp.matmul(x, x, preferred_element_type=x.dtype),
    "convolution": _convolved,
    "scan": lambda x: lax.scan(lambda c, a: (c * jnp.tanh(a) + a, c), jnp.ones((), x.dtype), x),
    "scan of what is closed over": lambda x: lax.scan(
        lambda c, i: (c * x[i], None), jnp.ones((), x.dtype), jnp.arange(6)
    )[0],
    "fori_loop": lambda x: lax.fori_loop(0, 3, lambda i, c: c * jnp.cos(c) + i, x),
    "cond": lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
    "switch": lambda x: lax.switch(1, [jnp.sin, lambda at: jnp.full_like(at, 0.5) * at], x),
    "where": lambda x: jnp.where(x > 0.7, x**2, jnp.zeros((), x.dtype)),
    "jit": jax.jit(lambda at: jnp.sin(at) * 0.5),
    "checkpoint": jax.checkpoint(lambda at: jnp.sin(jnp.sin(at))),
    "custom_jvp": _with_jvp,
    "custom_jvp under vmap": jax.vmap(_with_jvp),
    "gradient inside": jax.grad(lambda at: (at**3).sum()),
    "nn": lambda x: jax.nn.silu(x) + jax.nn.relu(x - 0.5) + jax.nn.softmax(x),
    "logsumexp": lambda x: jax.nn.logsumexp(x) + jax.nn.log_softmax(x),
    "scatter": lambda x: jnp.zeros(4, x.dtype).at[jnp.array([1, 1, 2, 3, 0, 0])].add(x),
    "gather": lambda x: x[jnp.array([3, 1, 1])],
    "sort": lambda x: jnp.sort(-x) * jnp.arange(6, dtype=x.dtype),
    "cumulated": lambda x: jnp.cumsum(x) * jnp.cumprod(x),
    "reduce": lambda x: lax.reduce(x, jnp.ones((), x.dtype), lax.mul, (0,)),
    "window": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "VALID"),
    "cholesky": lambda x: jnp.linalg.cholesky(jnp.diag(1 + x) + 0.125 * jnp.outer(x, x)),
    "solve": lambda x: jnp.linalg.solve(jnp.diag(1 + x) + 0.125 * jnp.outer(x, x), x),
    "eigenvalues": lambda x: jnp.linalg.eigvalsh(jnp.diag(1 + x) + 0.125 * jnp.outer(x, x)),
    "custom_linear_solve": _solved,
    "einsum": lambda x: jnp.einsum("i,j,ij->i", x, x, jnp.outer(x, x)),
    "interpolation": lambda x: jnp.interp(x, jnp.arange(3, dtype=x.dtype), x[:3]),
    "stop_gradient": lambda x: x * lax.stop_gradient(x),
    "linear in a named tuple": lambda x: jax.tree.leaves({"a": x, "b": (None, 2 * x)}),
}
"""Written for any dtype; none of what they give depends on it, but for rounding."""

REVERSE: dict[str, Callable[[Any], Any]] = {
    "custom_vjp": lambda x: _with_vjp(x, 2),
    "custom_vjp under vmap": jax.vmap(lambda x: _with_vjp(x, 2)),
    "custom_vjp in a scan": lambda x: lax.scan(
        lambda c, a: (c + _with_vjp(a, 2), None), jnp.zeros((), x.dtype), x
    )[0],
}
"""Without a forward mode."""

FORWARD: dict[str, Callable[[Any], Any]] = {"while_loop": _counted}
"""Without a reverse mode."""

ALL = {**OPERATIONS, **REVERSE, **FORWARD}


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


def in_float32(function: Callable[[Any], Any]) -> Callable[..., Any]:
    """What a caller writes who computes in float32, for float64 or for float32 arguments."""
    return lambda _, x: [
        leaf.astype("float32") for leaf in jax.tree.leaves(function(x.astype("float32")))
    ]


def sampled(names: Iterable[str], quick: Container[str]) -> list[Any]:
    """The names, those that are not quick marked full."""
    return [pytest.param(name, marks=[] if name in quick else pytest.mark.full) for name in names]


@pytest.mark.parametrize("own", ["float32", "float64"])
@pytest.mark.parametrize("name", sampled(ALL, ("custom_jvp", "custom_vjp")))
def test_a_promoted_operation_is_the_one_in_float64(name: str, own: str) -> None:
    function = ALL[name]
    wide = promoted(in_float32(function), [own], "float32", jax.enable_x64)
    with jax.enable_x64(True):
        x, along = jnp.asarray(X), jnp.cos(jnp.arange(6.0))

        def mine(at: Any) -> Any:
            return wide(None, at)

        def theirs(at: Any) -> Any:
            return jax.tree.leaves(function(at))

        exact = flat(theirs(x))
        np.testing.assert_allclose(
            flat(mine(x)), exact, rtol=2e-7 if name == "constants" else 1e-12
        )
        assert np.abs(flat(in_float32(function)(None, x)) - exact).max() >= 0
        if name not in REVERSE:
            pushed = [flat(jax.jvp(each, (x,), (along,))[1]) for each in (mine, theirs)]
            np.testing.assert_allclose(pushed[0], pushed[1], rtol=1e-11, atol=1e-12)
        if name not in FORWARD:
            pulled = [
                flat(jax.grad(lambda at, each=each: sum(leaf.sum() for leaf in each(at)))(x))
                for each in (mine, theirs)
            ]
            np.testing.assert_allclose(pulled[0], pulled[1], rtol=1e-11, atol=1e-12)


def test_draws_and_bits_stay_those_of_float32() -> None:
    def drawn(_: object, x: Any) -> Any:
        key = jax.random.PRNGKey(3)
        mask = jax.random.bernoulli(key, 0.5, x.shape)
        noise = jax.random.normal(key, x.shape, x.dtype) + jax.random.uniform(key, x.shape, x.dtype)
        return (x * mask * noise, lax.bitcast_convert_type(x, jnp.int32))

    with jax.enable_x64(False):
        mine, bits = drawn(None, jnp.asarray(X, "float32"))
    wide = promoted(drawn, ["float32"], "float32", jax.enable_x64)
    with jax.enable_x64(True):
        theirs, same_bits = wide(None, jnp.asarray(X))
    np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    assert theirs.dtype == "float64"
    assert (bits == same_bits).all()


def test_a_rule_of_ones_own_is_kept() -> None:
    """A wrong derivative must not be mended by the promotion: it is what the losses have."""
    with jax.enable_x64(True):
        for function, name in ((_with_jvp, "jvp"), (lambda x: _with_vjp(x, 2), "vjp")):
            wide = promoted(in_float32(function), ["float64"], "float32", jax.enable_x64)
            slope = jax.grad(lambda x, wide=wide: wide(None, x)[0].sum())(jnp.asarray(X))
            expected = 2.5 * (np.cos(X) if name == "jvp" else X)
            np.testing.assert_allclose(slope, expected, rtol=1e-12)


CASTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "astype": ("float32", lambda x: x.astype("float32")),
    "asarray": ("float32", lambda x: jnp.asarray(x, jnp.float32)),
    "float16": ("float16", lambda x: x.astype(jnp.float16).astype("float32")),
    "bfloat16": ("bfloat16", lambda x: x.astype(jnp.bfloat16)),
    "in jit": ("float32", jax.jit(lambda x: x.astype("float32"))),
    "in scan": (
        "float32",
        lambda x: lax.scan(lambda c, a: (c, a.astype("float32")), jnp.zeros(()), x)[1],
    ),
    "in vmap": ("float32", jax.vmap(jnp.float32)),
    "in cond": (
        "float32",
        lambda x: lax.cond(x[0] > 0, lambda a: a.astype("float32"), jnp.float32, x),
    ),
    "of a product": (
        "float32",
        lambda x: jnp.matmul(x, jnp.eye(len(x)), preferred_element_type="float32"),
    ),
    "of the carry": (
        "float32",
        lambda x: lax.fori_loop(0, 2, lambda _, c: (0.5 * c.astype("float32")).astype(c.dtype), x),
    ),
}
EXACT: dict[str, Callable[[Any], Any]] = {
    "a mask": lambda x: x * (x > 0).astype("float32"),
    "float32 data": lambda x: x * np.full(len(x), 0.25, np.float32),
    "data that are cast": lambda x: x * jnp.asarray(X[: len(x)]).astype("float32"),
    "whole numbers": lambda x: x + jnp.argmax(x),
    "a key": lambda x: x * jax.random.bernoulli(jax.random.PRNGKey(0), 0.5, x.shape),
}


@pytest.mark.parametrize("name", [*CASTS, *EXACT])
def test_what_goes_to_a_narrower_dtype_is_seen(name: str) -> None:
    cast = CASTS[name][1] if name in CASTS else EXACT[name]
    with jax.enable_x64(True):
        found = narrowing(cast, [jnp.asarray(X)])
    assert (None if found is None else found[0].name) == (CASTS[name][0] if name in CASTS else None)


DATA = np.random.Generator(np.random.Philox(key=3)).normal(size=(2, 9, 4))
LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "squares": lambda z, y: jnp.mean((z - y) ** 2),
    "logistic": lambda z, y: jnp.mean(jax.nn.softplus(-z * jnp.sign(y))),
    "log cosh": lambda z, y: jnp.mean(jnp.logaddexp(z - y, y - z)),
    "softmax": lambda z, y: -jax.nn.log_softmax(z) @ jax.nn.softmax(jnp.asarray(y)),
}
PLACES = ("lam", "theta", "scores", "value")


def judged(loss: str, cast: str, place: str, own: str, factor: float) -> Report:
    """The report on the right answer times a factor, with a cast at a place of the inner loss."""
    change, measure = (CASTS[cast][1] if cast in CASTS else EXACT[cast]), LOSSES[loss]

    def at(where: str, value: Any) -> Any:
        return (
            jnp.ravel(change(jnp.ravel(value))).reshape(jnp.shape(value))
            if where == place
            else value
        )

    with jax.enable_x64(own == "float64"):
        (x, held), y = jnp.asarray(DATA[:, :, :3]), jnp.asarray(DATA[0, :, 3])
        lam, theta0 = jnp.array([-1.0, -0.5, 0.2]), jnp.full(3, 0.1)

        def inner(lam: Any, theta: Any) -> Any:
            scores = at("scores", x @ theta)
            decay = jnp.exp(at("lam", lam)) * at("theta", theta) ** 2
            return at("value", measure(scores, y) + decay.sum())

        def outer(_: Any, theta: Any) -> Any:
            return measure(held @ theta, y)

        def trained(lam: Any) -> Any:
            theta = theta0
            for _ in range(3):
                theta = theta - 0.1 * jax.grad(lambda t, at=lam: inner(at, t).sum())(theta)
            return outer(lam, theta)

        return hypergradient_report(
            inner,
            outer,
            lam,
            theta0,
            lambda lam: factor * jax.grad(trained)(lam),
            steps=3,
            step_size=0.1,
            diagnosis_seconds=0,
        )


CELLS = [
    (loss, cast, PLACES[(i + j) % 4], own)
    for i, loss in enumerate(LOSSES)
    for j, cast in enumerate([*CASTS, *EXACT])
    for own in ("float64", "float32")
    # In float32, what rounds to less than float32 on purpose has no derivative that is anybody's.
    if not (own == "float32" and cast in ("float16", "bfloat16"))
]


@pytest.mark.parametrize(
    ("loss", "cast", "place", "own"),
    [pytest.param(*cell, marks=pytest.mark.full) for cell in CELLS],
)
def test_a_cast_in_a_loss_is_told_and_allowed_for(
    loss: str, cast: str, place: str, own: str
) -> None:
    coarse = cast in ("float16", "bfloat16")
    right, wrong = (
        judged(loss, cast, place, own, factor) for factor in (1.0, 2.0 if coarse else 1.05)
    )
    assert right.verdict is Verdict.RIGHT, right.describe()
    assert wrong.verdict is Verdict.WRONG, wrong.describe()
    told = [text for text in right.findings if "the losses compute in" in text]
    assert bool(told) == (own == "float64" and cast in CASTS), right.findings
    if own == "float64" and cast in CASTS:
        assert f"compute in {CASTS[cast][0]} where" in told[0]
        assert right.floor > 1e-7
    elif own == "float64":
        assert right.floor < 2e-9


def test_a_cast_is_named_and_an_answer_that_it_explains_is_right() -> None:
    with jax.enable_x64(True):
        lam, theta0 = jnp.array([0.4, -0.3]), jnp.array([0.7, 0.9])

        def inner(lam: Any, theta: Any) -> Any:
            return (jnp.exp(lam) * theta.astype("float32") ** 2).sum()

        right = 4 * theta0**2 * (1 - 0.2 * jnp.exp(lam)) * -0.1 * jnp.exp(lam)
        for factor, verdict in ((1.0, Verdict.RIGHT), (1.05, Verdict.WRONG)):
            report = hypergradient_report(
                inner,
                lambda _, theta: (theta**2).sum(),
                lam,
                theta0,
                factor * right,
                steps=1,
                step_size=0.1,
                diagnosis_seconds=0,
            )
            assert report.verdict is verdict, report.describe()
            assert any("compute in float32 where 'astype' is" in said for said in report.findings)
