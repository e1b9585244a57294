"""The outer loop: any hypergradient, any `torch.optim` optimiser, exactly resumable.

    h_k = hypergradient at λ_k, from where the inner run of step k − 1 ended;      λ.grad = h_k;
    λ_{k+1} = projection(optimiser(λ_k, h_k)),                                     k = 0 … K − 1.

`λ.grad` is the one convention of PyTorch that the package follows here, and only here: whatever works on
`.grad` (schedulers, clipping, optimisers that ask for a closure) works.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from refblo.cost import Evaluations
from refblo.errors import require
from refblo.estimators.by_default import estimate_in_loop
from refblo.estimators.protocol import Estimator
from refblo.estimators.warm import WarmEstimator, WarmState
from refblo.files import sweep
from refblo.noise import Draws, Stream
from refblo.outer import checkpoint
from refblo.outer.identity import digest, identity
from refblo.problem import BilevelProblem, FixedInitial
from refblo.types import DIVERGED, Hypergradient, Lam, Status
from refblo.validation import check_vector

SEED_BITS = 20
"""Outer step k draws from `Draws(seed · 2^20 + k)`: no two steps, and no two seeds, share a number."""

Optimiser = Callable[[list[Tensor]], torch.optim.Optimizer]
"""Builds the optimiser of [λ], e.g. `lambda ps: torch.optim.Adam(ps, lr=0.1)`."""
Scheduler = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]
"""Builds the learning-rate schedule of that optimiser."""
Projection = Callable[[Tensor], Tensor]
"""Takes λ, shape (p,), to the nearest λ that is allowed."""


@final
@dataclass(frozen=True, eq=False)
class OuterStep:
    """What a callback sees after an outer step.

    Attributes:
        step: k + 1, how many steps have been made.
        lam: λ after it, shape (p,).
        result: the hypergradient that was followed.
    """

    step: int
    lam: Float[Tensor, " p"]
    result: Hypergradient


@runtime_checkable
class Callback(Protocol):
    """Called after each outer step; a true answer ends the loop."""

    def __call__(self, step: OuterStep) -> bool | None:
        """Look at a step."""
        ...


@final
@dataclass(frozen=True, eq=False)
class OuterRun:
    """Where an outer loop ended.

    Attributes:
        lam: the last λ, shape (p,).
        theta: the last inner iterate, shape (n,).
        steps: outer steps made, those before a resumption included.
        status: of the last hypergradient; a loop that met a divergence stops there.
        cost: derivative evaluations, those before a resumption included.
    """

    lam: Float[Tensor, " p"]
    theta: Float[Tensor, " n"]
    steps: int
    status: Status
    cost: Evaluations


@final
@dataclass(frozen=True, eq=False)
class OuterLoop:
    """Descent on the outer objective.

    Args:
        problem: the bilevel problem.
        estimator: of its hypergradient; one that carries a state is continued from step to step.
        optimiser: builds the optimiser of [λ].
        steps: K ≥ 0.
        scheduler: builds a learning-rate scheduler; stepped once an outer step.
        projection: maps λ back into its constraint set after each update.
        clip: the largest norm of λ.grad; longer ones are scaled down.
        warm: start each inner run where the last one ended, unless θ⁰ depends on λ.
        seed: of all randomness.
        callbacks: called after each outer step.
        checkpoint: a file to keep the state in.
        every: outer steps between two checkpoints.
        plain: run each estimate as it is written; else those of a long loop are traced where that gives the
            same bits sooner (`refblo.estimators.by_default`).
        unchecked: follow a hypergradient whose status is a divergence as long as it is finite, as published
            code does that does not look; for reproducing its runs.

    Raises:
        ArgumentError: if a number is out of range.

    Example:
        >>> import torch
        >>> from refblo.chain import Langevin, Schedule
        >>> from refblo.estimators import RMD
        >>> from refblo.problem import BilevelProblem, FixedInitial
        >>> problem = BilevelProblem(
        ...     inner=lambda lam, theta, _: 0.5 * (theta - lam).square().sum(),
        ...     outer=lambda lam, theta, _: 0.5 * (theta - 1).square().sum(),
        ...     initial=FixedInitial(torch.zeros(1, dtype=torch.float64)),
        ... )
        >>> loop = OuterLoop(
        ...     problem,
        ...     RMD(Langevin(step_size=0.5), Schedule.last(10)),
        ...     lambda parameters: torch.optim.SGD(parameters, lr=0.5),
        ...     steps=50,
        ... )
        >>> round(loop.run(torch.zeros(1, dtype=torch.float64)).lam.item(), 9)
        1.0
    """

    problem: BilevelProblem
    estimator: Estimator
    optimiser: Optimiser
    steps: int
    scheduler: Scheduler | None = None
    projection: Projection | None = None
    clip: float | None = None
    warm: bool = True
    seed: int = 0
    callbacks: tuple[Callback, ...] = ()
    checkpoint: Path | None = None
    every: int = 1
    unchecked: bool = False
    plain: bool = False

    def __post_init__(self) -> None:
        most = 2**SEED_BITS
        require(0 <= self.steps < most, "steps", f"lie in [0, {most})", self.steps, "change it")
        largest = 2 ** (63 - SEED_BITS)
        require(0 <= self.seed < largest, "seed", f"lie in [0, {largest})", self.seed, "change it")
        require(self.every >= 1, "every", "be at least 1", self.every, "save every step or less")
        if self.clip is not None:
            require(self.clip > 0, "clip", "be positive", self.clip, "use None for no clipping")

    def run(self, lam: Lam, *, resume: bool = False) -> OuterRun:
        """Make the outer steps.

        Args:
            lam: λ⁰, shape (p,); it is not changed.
            resume: go on from the checkpoint if there is one; it ends bitwise where an uninterrupted
                run on the same machine ends.

        Returns:
            Where the loop ended: after K steps, where a callback said so, or at a divergence.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
            ResumeError: for a checkpoint of another run, with the reason.
        """
        check_vector("lam", lam)
        if resume and self.checkpoint is None:
            require(False, "checkpoint", "be a file to resume from", None, "name one")
        live = _Live.begin(self, lam)
        if self.checkpoint is not None:
            sweep(self.checkpoint)
            if resume and self.checkpoint.exists():
                self._resume(live, self.checkpoint, lam)
        while live.step < self.steps and not live.stopped:
            result = live.make_step()
            due = live.step % self.every == 0 or live.step == self.steps
            if self.checkpoint is not None and due and not live.stopped:
                checkpoint.save(self.checkpoint, live.state())
            seen = OuterStep(live.step, live.lam.detach().clone(), result)
            # Every callback is called, whatever an earlier one answered.
            answers = [callback(seen) for callback in self.callbacks]
            if any(answers):
                break
        return OuterRun(
            live.lam.detach().clone(), live.carried.theta, live.step, live.status, live.cost
        )

    def trajectory(
        self, lam: Lam, *, theta: Tensor | None = None, first: int = 0
    ) -> Iterator[OuterStep]:
        """The outer steps one by one, without checkpoints and callbacks.

        Args:
            lam: λ before the first of them, shape (p,); it is not changed.
            theta: where that step's inner run starts, shape (n,); θ⁰ unless given.
            first: how many steps have been made before it.

        Yields:
            Each step; one whose hypergradient cannot be followed is the last, and leaves λ where it was.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
        """
        check_vector("lam", lam)
        live = _Live.begin(self, lam)
        live.step = first
        if theta is not None:
            live.carried = replace(live.carried, theta=theta.detach().clone())
        while live.step < self.steps and not live.stopped:
            result = live.make_step()
            yield OuterStep(live.step, live.lam.detach().clone(), result)

    def _resume(self, live: "_Live", path: Path, lam: Lam) -> None:
        """Go on from a state, if it belongs to this run and this number of threads gives its bits."""
        state = checkpoint.load(path)
        count = state["threads"]
        if count == torch.get_num_threads():
            checkpoint.check_run(path, state["run"], live.run)
            live.restore(path, state)
            return
        # Whether the number of threads changes bits is for this problem to show: its probes at the start,
        # and the hypergradient that comes next.
        with checkpoint.threads(count):
            as_saved = _Live.begin(self, lam)
            checkpoint.check_run(path, state["run"], as_saved.run)
            live.restore(path, state)
            expected = live.bits()
        if as_saved.run != live.run or live.bits() != expected:
            checkpoint.refuse_threads(path, count)


@dataclass
class _Live:
    """The parts of a running loop that change."""

    loop: OuterLoop
    lam: Tensor
    optimiser: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    carried: WarmState
    run: dict[str, str]
    step: int = 0
    status: Status = Status.COMPLETED
    stopped: bool = False
    cost: Evaluations = field(default_factory=Evaluations)

    @staticmethod
    def begin(loop: OuterLoop, start: Lam) -> "_Live":
        """Before the first step."""
        lam = start.detach().clone().requires_grad_()
        optimiser = loop.optimiser([lam])
        scheduler = None if loop.scheduler is None else loop.scheduler(optimiser)
        draws = outer_draws(loop.seed, 0)
        estimator = loop.estimator
        if isinstance(estimator, WarmEstimator):
            carried = estimator.begin(loop.problem, start, draws)
        else:
            theta = loop.problem.initial(start.detach()).detach()
            carried = WarmState(theta, torch.zeros_like(theta))
        run = {
            **{f"version of {name}": text for name, text in checkpoint.versions().items()},
            "dtype": str(start.dtype),
            "device": start.device.type,
            "starting lam": digest(start),
            "problem": checkpoint.problem_identity(loop.problem, start.detach(), draws),
            "seed": str(loop.seed),
            "estimator": identity(estimator),
            "optimiser": identity(optimiser),
            "scheduler": identity(scheduler),
            "clipping": repr(loop.clip),
            "projection": identity(loop.projection),
            "warm start": repr(loop.warm),
        }
        return _Live(loop, lam, optimiser, scheduler, carried, run)

    def hypergradient(self) -> tuple[Hypergradient, WarmState]:
        """At the current λ, from what the last step carried here."""
        loop, lam = self.loop, self.lam.detach()
        draws, estimator = outer_draws(loop.seed, self.step), loop.estimator
        if isinstance(estimator, WarmEstimator):
            carried = self.carried if loop.warm else estimator.begin(loop.problem, lam, draws)
            return estimator.advance(loop.problem, lam, carried, draws)
        problem = loop.problem
        if loop.warm and isinstance(problem.initial, FixedInitial):
            problem = problem.starting_at(self.carried.theta)
        if loop.plain:
            result = estimator.estimate(problem, lam, draws)
        else:
            result = estimate_in_loop(estimator, problem, lam, draws, self.step)
        return result, replace(self.carried, theta=result.theta)

    def bits(self) -> str:
        """A digest of what the next step would follow, and of where its inner run ends."""
        result, carried = self.hypergradient()
        estimate = torch.zeros(0) if result.estimate is None else result.estimate
        return digest(estimate, carried.theta, carried.q)

    def _may_follow(self, result: Hypergradient) -> bool:
        """Whether λ may be moved along a hypergradient."""
        return result.estimate is not None and (
            self.loop.unchecked or result.status not in DIVERGED
        )

    def make_step(self) -> Hypergradient:
        """One outer step; after a divergence λ is left where it was."""
        calls: list[tuple[Hypergradient, WarmState]] = []

        def closure() -> Tensor:
            result, carried = self.hypergradient()
            self.cost = _sum(self.cost, result.cost)
            calls.append((result, carried))
            if result.estimate is None or not self._may_follow(result):
                raise _StopAtDivergence
            self.lam.grad = result.estimate.detach().clone()
            if self.loop.clip is not None:
                torch.nn.utils.clip_grad_norm_([self.lam], self.loop.clip)
            outer = self.loop.problem.outer_batches
            batch = outer(outer_draws(self.loop.seed, self.step), Stream.OUTER_BATCH, 0)
            with torch.no_grad():
                return self.loop.problem.outer(self.lam.detach(), carried.theta, batch)

        before = self.lam.detach().clone()
        try:
            # Optimisers that ask for one closure call it once; those that ask for many (L-BFGS) see the
            # same draws and the same warm start in each.
            self.optimiser.step(closure)  # type: ignore[arg-type]  # annotated for floats, works on tensors
        except _StopAtDivergence:
            with torch.no_grad():
                self.lam.copy_(before)
        result, self.carried = calls[-1]
        self.status = result.status
        self.lam.grad = None
        if not self._may_follow(result):
            self.stopped = True
            return result
        if self.scheduler is not None:
            self.scheduler.step()
        if self.loop.projection is not None:
            with torch.no_grad():
                self.lam.copy_(self.loop.projection(self.lam.detach()))
        self.step += 1
        return result

    def state(self) -> checkpoint.State:
        """All that the next step needs, and what run it belongs to."""
        return {
            "run": self.run,
            "threads": torch.get_num_threads(),
            "step": self.step,
            "lam": self.lam.detach(),
            "theta": self.carried.theta,
            "q": self.carried.q,
            "memory": dict(self.carried.memory),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "cost": {each.name: getattr(self.cost, each.name) for each in fields(self.cost)},
        }

    def restore(self, path: Path, state: checkpoint.State) -> None:
        """Go back to a state of the same run.

        Raises:
            ResumeError: if it does not fit.
        """
        device = self.lam.device
        try:
            for name, now in (("lam", self.lam), ("theta", self.carried.theta)):
                saved = state[name]
                if saved.shape != now.shape or saved.dtype != now.dtype:
                    raise ValueError(f"{name} is of shape {tuple(saved.shape)} and {saved.dtype}")
            with torch.no_grad():
                self.lam.copy_(state["lam"])
            self.optimiser.load_state_dict(state["optimiser"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(state["scheduler"])
        except (AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
            checkpoint.refuse_entries(path, error)
        memory = {name: tensor.to(device) for name, tensor in state["memory"].items()}
        self.carried = WarmState(state["theta"].to(device), state["q"].to(device), memory)
        self.step = state["step"]
        self.cost = Evaluations(**state["cost"])


class _StopAtDivergence(Exception):  # noqa: N818  (not an error: the way out of an optimiser's step)
    """There is no gradient to step along."""


def outer_draws(seed: int, step: int) -> Draws:
    """The randomness of one outer step."""
    return Draws((seed << SEED_BITS) + step)


def _sum(one: Evaluations, two: Evaluations) -> Evaluations:
    """Counts, kind by kind."""
    return Evaluations(
        **{each.name: getattr(one, each.name) + getattr(two, each.name) for each in fields(one)}
    )


@contextmanager
def progress_bar(steps: int, description: str = "outer steps") -> Iterator[Callback]:
    """A callback that shows how far the loop is, as a live line in the terminal.

    Args:
        steps: K.
        description: the line's text.
    """
    from rich.progress import Progress

    with Progress(transient=True) as shown:
        task = shown.add_task(description, total=steps)

        def callback(step: OuterStep) -> bool | None:
            shown.update(task, completed=step.step)
            return None

        yield callback
