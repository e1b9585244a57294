"""The single-loop methods, beside benchmark_bilevel's solvers.

Its solvers' own step functions are called, on a quadratic case of the catalogue in JAX and in double
precision, without minibatches and at constant steps, since there the two must agree to rounding.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from refblo.chain import Langevin
from refblo.contracts.minimiser import minimum
from refblo.contracts.rounding import ROUNDINGS_A_STEP, unit_roundoff
from refblo.contracts.selection import array
from refblo.estimators import MRBO, SABA, SOBA, VRBO, AmIGO, StocBiO, WarmEstimator
from refblo.problems import build
from refblo.problems.case import Case
from tests.peers.agreement_row import Agreement, Vector

CASE = "quadratic"
CALLS, SERIES, SOLVES = 30, 5, 3
"""Outer steps; steps of the Neumann loops, which makes one term more; inner and linear steps a call."""
OUTER_STEP = 0.01


@final
@dataclass(frozen=True)
class Peer:
    """A method of the benchmark and the same one here.

    Attributes:
        name: in the table.
        module: the solver's file.
        ours: builds it from γ.
        settings: of the solver's object.
        carry: what the solver's step needs besides the two variables and the step sizes, built from
            (θ⁰, λ⁰, the two gradients there).
        rates: how many of the step sizes are γ, before that of the outer variable.
        momentum: where the benchmark has a momentum among its step sizes, its place.
        calls: outer steps; with one λ is not moved, and the hypergradients are compared.
    """

    name: str
    module: str
    ours: Callable[[float], WarmEstimator]
    settings: Mapping[str, int]
    carry: Callable[..., dict[str, Any]]
    rates: int
    momentum: int | None = None
    calls: int = CALLS


def _adjoint(theta: Any, *_: Any) -> dict[str, Any]:
    return {"v": jnp.zeros_like(theta)}


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


def _averages(theta: Any, lam: Any, inner: Any, outer: Any) -> dict[str, Any]:
    """The momenta start at the first directions, as here; theirs start at zero and forget it."""
    return {"memory_inner": jnp.stack([theta, inner]), "memory_outer": jnp.stack([lam, outer])}


def _differences(theta: Any, _: Any, inner: Any, outer: Any) -> dict[str, Any]:
    return {"inner_var_old": theta, "d_inner": inner, "d_outer": outer}


TERMS = SERIES + 1
ETA = 0.5
PEERS = (
    Peer(
        "AmIGO-SGD",
        "amigo",
        lambda g: AmIGO(Langevin(g), SOLVES, SOLVES, g),
        {"n_inner_steps": SOLVES},
        _adjoint,
        rates=2,
    ),
    Peer("SOBA", "soba", lambda g: SOBA(g, g), {}, _adjoint, rates=1),
    Peer("SABA", "saba", lambda g: SABA(g, g), {}, _adjoint, rates=1),
    Peer(
        "stocBiO",
        "stocbio",
        lambda g: StocBiO(g, g, TERMS, SOLVES),
        {"n_inner_steps": SOLVES, "n_shia_steps": SERIES},
        _nothing,
        rates=2,
    ),
    Peer(
        "MRBO",
        "mrbo",
        lambda g: MRBO(g, g, TERMS, ETA),
        {"n_shia_steps": SERIES},
        _averages,
        rates=2,
        momentum=2,
    ),
    Peer(
        "VRBO",
        "vrbo",
        # Theirs takes its last difference before its last inner step, so that it needs one step more.
        lambda g: VRBO(g, g, TERMS, SOLVES, period=1, refresh=1),
        {"n_inner_steps": SOLVES + 1, "n_shia_steps": SERIES, "period": 1,
         "n_inner_samples": 1, "n_outer_samples": 1},
        _differences,
        rates=2,
        calls=1,
    ),
)  # fmt: skip


def _sampler(state: Any) -> tuple[int, int, float, Any]:
    """All of the data, at every call."""
    return 0, 0, 1.0, state


def _theirs(peer: Peer, case: Case) -> Vector:
    """λ after the calls, or the hypergradient where λ is held, by the benchmark's own step function."""
    assert case.statement is not None  # every catalogue case has one
    losses = case.statement.losses(jnp, jnp.asarray)
    # Its constants announce themselves; standard output is the page's.
    with redirect_stdout(sys.stderr):
        solver = object.__new__(import_module(f"solvers.{peer.module}").Solver)
    solver.f_inner = lambda z, x, start=0, batch_size=1: losses.inner(x, z, None)
    solver.f_outer = lambda z, x, start=0, batch_size=1: losses.outer(x, z, None)
    for name, value in peer.settings.items():
        setattr(solver, name, value)
    gamma = case.dynamics.step_size
    theta, lam = jnp.asarray(array(case.problem.initial(case.lam))), jnp.asarray(array(case.lam))
    moving = OUTER_STEP if peer.calls > 1 else 0.0
    rates = [gamma] * peer.rates + [moving]
    if peer.momentum is not None:
        rates.insert(peer.momentum, ETA)
    ours = peer.ours(gamma)
    first = ours.advance(case.problem, case.lam, ours.begin(case.problem, case.lam))[0]
    gradient = jax.grad(solver.f_inner)(theta, lam)
    carry: Any = {
        "inner_var": theta,
        "outer_var": lam,
        "state_lr": {
            "i_step": 0,
            "constants": jnp.array(rates),
            "exponents": jnp.zeros(len(rates)),
        },
        "state_inner_sampler": {"batch_order": jnp.arange(1)},
        "state_outer_sampler": {"batch_order": jnp.arange(1)},
        **peer.carry(theta, lam, gradient, jnp.asarray(array(first.value))),
    }
    step = solver.get_step(_sampler, _sampler)
    if peer.module == "saba":
        tables = {
            name: jnp.zeros((3, size))
            for name, size in (
                *(("inner_grad", theta.size), ("hvp", theta.size), ("cross_v", lam.size)),
                *(("grad_in_outer", theta.size), ("grad_out_outer", lam.size)),
            )
        }
        carry = (tables, carry)
    for call in range(peer.calls):
        carry, _ = step(carry, call)
    state = carry[1] if isinstance(carry, tuple) else carry
    return np.asarray(state["d_outer" if peer.calls == 1 else "outer_var"])


def ours(peer: Peer, case: Case) -> Vector:
    """The same by this package: λ after the calls, or the hypergradient where λ is held."""
    method, problem, lam = peer.ours(case.dynamics.step_size), case.problem, case.lam
    carried = method.begin(problem, lam)
    value = lam
    for _ in range(peer.calls):
        result, carried = method.advance(problem, lam, carried)
        value = result.value
        lam = lam - OUTER_STEP * value if peer.calls > 1 else lam
    return array(value if peer.calls == 1 else lam)


def agreement(peer: Peer) -> Agreement:
    """A method's two numbers; the benchmark's modules must be importable."""
    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]  # JAX's own
    case = build(CASE)
    found = ours(peer, case)
    steps = peer.calls * (2 * SOLVES + TERMS)
    condition = float(np.linalg.cond(minimum(case).local.H))
    size = float(np.linalg.norm(found)) + float(np.linalg.norm(array(case.lam)))
    return Agreement(
        method=peer.name,
        library="benchmark_bilevel",
        case=CASE,
        what="h, one call, λ held" if peer.calls == 1 else f"λ after {peer.calls} outer steps",
        theirs=_theirs(peer, case),
        ours=found,
        allowed=ROUNDINGS_A_STEP * steps * unit_roundoff(case.lam.dtype) * condition * size,
    )
