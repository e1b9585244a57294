"""Wrong hypergradients, planted on purpose: written out with dense matrices, apart from the diagnosis.

Each returns what an implementation with one mistake would, from full Jacobians by `torch.func` and
forward accumulation; refblo's diagnosis pulls vectors back through graphs instead.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from refblo.conformance.catalogue import Entry
from refblo.conformance.truth.program import Program, rebuilt
from refblo.problems.namespace import Statement
from refblo.types import Estimand

Array = np.ndarray


@dataclass(frozen=True)
class Planted:
    """A wrong vector, and the names that a diagnosis may give it."""

    kind: str
    names: tuple[str, ...]
    vector: Array


class Matrices:
    """The run and all its Jacobians."""

    def __init__(self, program: Program, states: list[torch.Tensor] | None = None) -> None:
        lam = program.lam
        self.program, self.steps = program, program.schedule.steps
        self.states = program.states(lam) if states is None else states
        jac = torch.func.jacrev
        self.start = jac(program.start)(lam).numpy()
        self.by_state, self.by_lam = [], []
        for t in range(self.steps):
            point = (lam, self.states[t])
            self.by_lam.append(
                jac(lambda x, z, t=t: program.transition(x, z, t), 0)(*point).numpy()
            )
            self.by_state.append(
                jac(lambda x, z, t=t: program.transition(x, z, t), 1)(*point).numpy()
            )

    def outer(self, m: int, at: int | None = None) -> tuple[Array, Array]:
        state = self.states[m if at is None else at]
        grad = torch.func.grad(lambda x, z: self.program.outer(x, z, m), (0, 1))
        direct, slope = grad(self.program.lam, state)
        return direct.numpy(), slope.numpy()

    @property
    def sampled(self) -> list[int]:
        return [m for m in range(1, self.steps + 1) if self.program.schedule.sampled(m)]

    def direct(self, shift: int = 0) -> Array:
        mean: Array = np.mean([self.outer(m, m - shift)[0] for m in self.sampled], axis=0)
        return mean

    def indirect(
        self,
        *,
        by_state: Callable[[int], Array] | None = None,
        by_lam: Callable[[int], Array] | None = None,
        keep: Callable[[int, int], bool] = lambda t, m: True,
        shift: int = 0,
        start: bool = True,
        slope_at: Callable[[int], int] | None = None,
    ) -> Array:
        """(1/M) Σ_m a_m·s_m with s_{t+1} = J_t s_t + G_t, and whatever is replaced in it."""
        jacobian = by_state or (lambda t: self.by_state[t])
        mixed = by_lam or (lambda t: self.by_lam[t])
        total = np.zeros(self.program.lam.numel())
        for m in self.sampled:
            tangent = self.start if start else np.zeros_like(self.start)
            for t in range(m):
                source = mixed(t) if keep(t, m) else np.zeros_like(mixed(t))
                carried = tangent if keep(t, m) else np.zeros_like(tangent)
                tangent = jacobian(t) @ carried + source
            at = m - shift if slope_at is None else slope_at(m)
            total = total + self.outer(m, at)[1] @ tangent
        return total / len(self.sampled)


def _since(first: int) -> Callable[[int, int], bool]:
    """Keep the transitions from `first` on."""
    return lambda t, _: t >= first


def _near(count: int) -> Callable[[int, int], bool]:
    """Keep the last `count` transitions before each sample."""
    return lambda t, m: t >= m - count


def scaled(entry: Entry, part: str, size: float) -> Entry:
    """The entry with its indirect or its direct term made smaller by a factor."""
    names = {
        "indirect": ("coupling", "weights"),
        "direct": ("direct", "direct_slope", "outer_mixed"),
    }
    data = {
        name: array * size if name in names[part] else array
        for name, array in entry.statement.data.items()
    }
    return replace(entry, statement=Statement(entry.statement.factory, data))


def unrolled(entry: Entry, estimand: Estimand) -> Iterator[Planted]:
    """Mistakes in the derivative of a run."""
    program = entry.program(estimand)
    run = Matrices(program)
    direct, indirect = run.direct(), run.indirect()
    size, steps, samples = program.size, run.steps, len(run.sampled)
    moving = entry.start_jacobian is not None
    eye = np.eye(run.start.shape[0])

    def wrong(kind: str, vector: Array, *names: str) -> Planted:
        return Planted(kind, names or (kind,), vector)

    if "direct" in entry.needs:
        yield wrong("missing direct term", indirect)
        yield wrong("wrong sign of the direct term", indirect - direct)
    yield wrong("missing indirect term", direct)
    yield wrong("wrong sign", -direct - indirect)
    yield wrong("wrong sign of the indirect term", direct - indirect)
    yield wrong("factor 2", 2 * (direct + indirect))
    yield wrong("factor 1/2 in the indirect term", direct + indirect / 2)
    yield wrong("factor 2 in the indirect term", direct + 2 * indirect)
    if entry.rule.temperature != 1:
        ratio = 2 * entry.rule.temperature
        yield wrong(
            "epsilon for gamma", direct + ratio * indirect, "epsilon for gamma in the indirect term"
        )
        yield wrong(
            "gamma for epsilon", direct + indirect / ratio, "gamma for epsilon in the indirect term"
        )
    identity = run.indirect(by_state=lambda t: eye)
    yield wrong("identity for the transition Jacobian", direct + identity)
    if entry.rule.buffers == 0:
        yield wrong("HPO-SGLD recursion", hpo_sgld(run))
        yield wrong(
            "wrong sign of the inner Hessian",
            direct + run.indirect(by_state=lambda t: 2 * eye - run.by_state[t]),
        )
    for count in {1, 2, steps // 2, steps - 2}:
        kept = run.indirect(keep=_since(steps - count), start=False)
        yield wrong("truncated", direct + kept)
        if samples > 1:
            near = run.indirect(keep=_near(count), start=False)
            name = "detached through the sample" if count == 1 else "truncated at each sample"
            yield wrong(name, direct + near)
    if moving:
        slopes = np.mean([run.outer(m)[1] for m in run.sampled], axis=0)
        yield wrong("first-order", direct + slopes @ run.start)
        yield wrong("initial point not differentiated", direct + run.indirect(start=False))
    shorter = rebuilt(
        program, schedule=replace(program.schedule, burn_in=program.schedule.burn_in - 1)
    )
    if shorter is not None:
        less = Matrices(shorter)
        yield wrong("off by one step", less.direct() + less.indirect())
    yield wrong("off by one step", direct + run.indirect(shift=1))
    late = run.indirect(by_lam=lambda t: _at(run, min(t + 1, steps - 1), t))
    yield wrong("off by one step", direct + late)
    first = Matrices(program, [run.states[0]] * (steps + 1))
    stale = run.indirect(by_state=lambda t: first.by_state[t], by_lam=lambda t: first.by_lam[t])
    yield wrong("stale theta", direct + stale)
    yield wrong("stale theta", direct + run.indirect(slope_at=lambda m: 0))
    if entry.rule.buffers > 0:
        mask = np.diag(np.repeat([1.0, 0.0], [size, run.start.shape[0] - size]))
        yield wrong(
            "optimiser state detached",
            direct + run.indirect(by_state=lambda t: run.by_state[t] @ mask),
        )
        yield wrong(
            "transposed transition Jacobian",
            direct + run.indirect(by_state=lambda t: run.by_state[t].T),
        )
    if entry.rule.constant("weight_decay") > 0 and entry.rule.buffers == 0:
        decay = entry.rule.constant("step_size") * entry.rule.constant("weight_decay") * eye
        yield wrong(
            "weight decay not differentiated",
            direct + run.indirect(by_state=lambda t: run.by_state[t] + decay),
        )
    yield from _other_draws(program, run, direct)


def _at(run: Matrices, index: int, step: int) -> Array:
    """G_step at another iterate."""
    jac = torch.func.jacrev(lambda x: run.program.transition(x, run.states[index], step))
    result: Array = jac(run.program.lam).numpy()
    return result


def hpo_sgld(run: Matrices) -> Array:
    """Algorithm 1 of Kim and Hospedales, from the matrices."""
    program, h = run.program, 0.0
    g = run.outer(0)[1] @ run.start
    eye = np.eye(run.start.shape[0])
    for m in range(1, run.steps + 1):
        direct, slope = run.outer(m)
        curve = torch.func.hessian(lambda z, m=m: program.outer(program.lam, z, m - 1))(
            run.states[m - 1]
        )
        change = (run.states[m] - run.states[m - 1]).numpy()
        g = g + change @ curve.numpy() @ run.start
        g = g + slope @ (run.by_lam[m - 1] + (run.by_state[m - 1] - eye) @ run.start)
        if m in run.sampled:
            h = h + direct + g
    return np.asarray(h) / len(run.sampled)


def _other_draws(program: Program, run: Matrices, direct: Array) -> Iterator[Planted]:
    """Noise and minibatches that are not the run's."""
    losses = program.losses
    if losses is None:
        return
    frozen, steps = losses.frozen, run.steps
    if frozen.noise is not None:
        other = rebuilt(program, frozen=replace(frozen, noise=None))
        if other is not None:
            quiet = Matrices(other)
            yield Planted(
                "noise not shared", ("noise not shared",), quiet.direct() + quiet.indirect()
            )
    if frozen.inner_batches is not None:
        turned = list(frozen.inner_batches[:steps])[::-1]
        other = rebuilt(program, frozen=replace(frozen, inner_batches=turned))
        if other is not None:
            replayed = Matrices(other, run.states)
            back = run.indirect(
                by_state=lambda t: replayed.by_state[t], by_lam=lambda t: replayed.by_lam[t]
            )
            yield Planted("minibatch not shared", ("minibatch not shared",), direct + back)
            fresh = Matrices(other)
            yield Planted(
                "minibatch not shared", ("minibatch not shared",), fresh.direct() + fresh.indirect()
            )


class Solved:
    """The implicit problem at its solution, or at another point."""

    def __init__(self, program: Program, theta: torch.Tensor | None = None) -> None:
        losses = program.losses
        assert losses is not None
        decay = losses.rule.constant("weight_decay")
        lam = program.lam

        def stationarity(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            gradient: torch.Tensor = torch.func.grad(lambda q: losses.inner(x, q, None))(z)
            return gradient + decay * z

        point = losses.initial(lam) if theta is None else theta
        if theta is None:
            for _ in range(40):
                hessian = torch.func.jacrev(stationarity, 1)(lam, point)
                point = point - torch.linalg.solve(hessian, stationarity(lam, point))
        self.theta = point
        self.hessian = torch.func.jacrev(stationarity, 1)(lam, point).numpy()
        self.mixed = torch.func.jacrev(stationarity, 0)(lam, point).numpy()
        grad = torch.func.grad(lambda x, z: losses.outer(x, z, None), (0, 1))
        direct, slope = grad(lam, point)
        self.direct, self.slope = direct.numpy(), slope.numpy()
        self.decay = decay

    def answer(self, shift: Array | None = None) -> Array:
        matrix = self.hessian if shift is None else self.hessian + shift
        result: Array = self.direct - np.linalg.solve(matrix, self.slope) @ self.mixed
        return result


def right(entry: Entry, estimand: Estimand) -> Array:
    """The right answer from the same matrices, apart from the checker's oracles."""
    program = entry.program(estimand)
    if estimand is Estimand.IMPLICIT:
        return Solved(program).answer()
    run = Matrices(program)
    answer: Array = run.direct() + run.indirect()
    return answer


def implicit(entry: Entry) -> Iterator[Planted]:
    """Mistakes in implicit differentiation."""
    program = entry.program(Estimand.IMPLICIT)
    root = Solved(program)
    n, gamma = root.hessian.shape[0], entry.rule.constant("step_size")
    direct, indirect = root.direct, root.answer() - root.direct

    def wrong(kind: str, vector: Array, *names: str) -> Planted:
        return Planted(kind, names or (kind,), vector)

    if "direct" in entry.needs:
        yield wrong("missing direct term", indirect)
        yield wrong("wrong sign of the direct term", indirect - direct)
    yield wrong("missing indirect term", direct)
    yield wrong("wrong sign", -direct - indirect)
    yield wrong("wrong sign of the indirect term", direct - indirect)
    yield wrong("factor 2", 2 * (direct + indirect))
    yield wrong("factor 1/2 in the indirect term", direct + indirect / 2)
    yield wrong("identity for the inverse Hessian", direct - root.slope @ root.mixed)
    eigenvalues, basis = np.linalg.eigh(root.hessian)
    for count in (1, 2, 5, 10):
        # The series in closed form: Σ_{j<K} (1 − γh)^j = (1 − (1 − γh)^K) / (γh).
        summed = (1 - (1 - gamma * eigenvalues) ** count) / eigenvalues
        q = basis @ (summed * (basis.T @ root.slope))
        yield wrong("series cut short", direct - q @ root.mixed)
        yield wrong("series not scaled", direct - (q / gamma) @ root.mixed)
    sizes = [int(np.prod(shape)) for shape in entry.shapes]
    if len(sizes) > 1:
        owner = np.repeat(np.arange(len(sizes)), sizes)
        between = np.not_equal.outer(owner, owner)
        yield wrong(
            "Hessian's blocks between tensors left out",
            root.answer(np.where(between, -root.hessian, 0.0)),
        )
    x, r, d = np.zeros(n), root.slope, root.slope
    for count in range(4):
        step = (r @ r) / (d @ root.hessian @ d)
        x, new = x + step * d, r - step * (root.hessian @ d)
        # The mistake: the old residual in the new direction.
        r, d = new, r + (new @ new) / (r @ r) * d
        if count > 0:  # the first iterate is that of conjugate gradients
            yield wrong("CG direction from an old residual", direct - x @ root.mixed)
        if new @ new < 1e-20 * (root.slope @ root.slope):
            break
    for delta in (1e-1, 1e-2, 1e-4, 1e-6):
        yield wrong("damping left in", root.answer(delta * np.eye(n)))
    for count in range(1, n):
        # CG's iterate is the minimiser over a Krylov space.
        columns = [root.slope]
        for _ in range(count - 1):
            columns.append(root.hessian @ columns[-1])
        space, triangle = np.linalg.qr(np.stack(columns, axis=1))
        if np.abs(np.diag(triangle)).min() < 1e-6 * np.abs(triangle).max():
            break
        q = space @ np.linalg.solve(space.T @ root.hessian @ space, space.T @ root.slope)
        names = ("dropped last CG iterate", "CG stopped early")
        yield wrong("dropped last CG iterate", direct - q @ root.mixed, *names)
    states = program.states(program.lam)
    for steps in (0, 1, 3, 8):
        yield wrong("inner solver not converged", Solved(program, states[steps][:n]).answer())
    if root.decay > 0:
        yield wrong("weight decay not differentiated", root.answer(-root.decay * np.eye(n)))
    run = Matrices(program)
    yield wrong("another estimand", run.direct() + run.indirect())
