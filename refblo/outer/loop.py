"""The outer loop: descent on λ with any estimator and any `torch.optim` optimiser, exactly resumable.

    h_k = hypergradient at λ_k, from where the inner run of step k − 1 ended;      λ.grad = h_k;
    λ_{k+1} = projection(optimiser(λ_k, h_k)),                                     k = 0 … K − 1.

Optimisers, clipping and schedulers of torch read `λ.grad`; this is the only place in refblo that writes
`.grad`.

What must hold: a run that is resumed from a checkpoint ends with the bits of an uninterrupted one. So
everything that changes from step to step is in `_RunningLoop`, and `state` and `restore` save all of it;
everything else that decides the numbers is in `_RunningLoop.run`, which a checkpoint is compared with; and
the randomness of step k depends on (seed, k) alone. tests/test_outer.py and tests/test_checkpoint.py hold
this. The file's format and its refusals are in `refblo.outer.checkpoint`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from refblo.cost import Evaluations
from refblo.errors import require
from refblo.estimators.by_default import estimate_in_loop
from refblo.estimators.protocol import Estimator
from refblo.estimators.warm import WarmEstimator, WarmState
from refblo.files import sweep
from refblo.noise import Stream
from refblo.outer import checkpoint
from refblo.outer.identity import digest, identity
from refblo.outer.steps import SEED_BITS, Callback, OuterRun, OuterStep, outer_draws
from refblo.problem import BilevelProblem, FixedInitial
from refblo.types import DIVERGED, Hypergradient, Lam, Status
from refblo.validation import check_vector

Optimiser = Callable[[list[Tensor]], torch.optim.Optimizer]
"""Builds the optimiser of [λ], e.g. `lambda ps: torch.optim.Adam(ps, lr=0.1)`."""
Scheduler = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]
"""Builds the learning-rate schedule of that optimiser."""
Projection = Callable[[Tensor], Tensor]
"""λ, shape (p,) ↦ the nearest allowed λ."""


@final
@dataclass(frozen=True, eq=False)
class OuterLoop:
    """Descent on the outer objective.

    Args:
        problem: the bilevel problem.
        estimator: the estimator of the hypergradient. One that carries a state from step to step
            (`WarmEstimator`) goes on from it.
        optimiser: builds the optimiser of [λ].
        steps: K ≥ 0, the number of outer steps.
        scheduler: builds a learning-rate scheduler, which is stepped once in each outer step.
        projection: maps λ back into its constraint set after each update.
        clip: the largest norm of λ.grad; a longer gradient is scaled down to it. None for no limit.
        warm: start each inner run where the last one ended, unless θ⁰ depends on λ.
        seed: the seed of all randomness.
        callbacks: functions that are called after each outer step.
        checkpoint: the file in which the state is saved; None to save nothing.
        every: the number of outer steps between two checkpoints.
        unchecked: follow a hypergradient with a status of divergence as long as it has an estimate. Published
            code often does not check for divergence; this reproduces its runs.
        plain: run each estimate untraced. By default estimates are traced from a certain step on, which is
            faster and gives the same bits (`refblo.estimators.by_default`).

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
        require(
            0 <= self.steps < most,
            "steps",
            f"lie in [0, {most})",
            self.steps,
            "choose a number in this range",
        )
        largest = 2 ** (63 - SEED_BITS)
        require(
            0 <= self.seed < largest,
            "seed",
            f"lie in [0, {largest})",
            self.seed,
            "choose a number in this range",
        )
        require(
            self.every >= 1, "every", "be at least 1", self.every, "use 1 to save after every step"
        )
        if self.clip is not None:
            require(self.clip > 0, "clip", "be positive", self.clip, "use None for no clipping")

    def run(self, lam: Lam, *, resume: bool = False) -> OuterRun:
        """Make the outer steps.

        Args:
            lam: λ⁰, shape (p,); it is not changed.
            resume: go on from the checkpoint if there is one. The result has the bits of an uninterrupted run
                on the same machine.

        Returns:
            The result after K steps, or after the step at which a callback returned True or a divergence
            came.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
            ResumeError: for a checkpoint of another run, with the reason.
        """
        check_vector("lam", lam)
        if resume and self.checkpoint is None:
            require(False, "checkpoint", "be a file to resume from", None, "give one")
        running = _RunningLoop.begin(self, lam)
        if self.checkpoint is not None:
            sweep(self.checkpoint)
            if resume and self.checkpoint.exists():
                self._resume(running, self.checkpoint, lam)
        while running.step < self.steps and not running.stopped:
            result = running.make_step()
            due = running.step % self.every == 0 or running.step == self.steps
            if self.checkpoint is not None and due and not running.stopped:
                checkpoint.save(self.checkpoint, running.state())
            made = OuterStep(running.step, running.lam.detach().clone(), result)
            # A list, so that every callback is called even if an earlier one ends the loop.
            answers = [callback(made) for callback in self.callbacks]
            if any(answers):
                break
        return OuterRun(
            running.lam.detach().clone(),
            running.warm_state.theta,
            running.step,
            running.status,
            running.cost,
        )

    def trajectory(
        self, lam: Lam, *, theta: Tensor | None = None, first: int = 0
    ) -> Iterator[OuterStep]:
        """The outer steps one by one, without checkpoints and callbacks.

        Args:
            lam: λ before the first of these steps, shape (p,); it is not changed.
            theta: where the inner run of the first step starts, shape (n,); θ⁰ if None.
            first: the number of steps made before.

        Yields:
            Each step. A step whose hypergradient diverges is the last one, and does not change λ.

        Raises:
            ArgumentError, ArgumentTypeError, LossError: for a problem or λ that cannot be used.
        """
        check_vector("lam", lam)
        running = _RunningLoop.begin(self, lam)
        running.step = first
        if theta is not None:
            running.warm_state = replace(running.warm_state, theta=theta.detach().clone())
        while running.step < self.steps and not running.stopped:
            result = running.make_step()
            yield OuterStep(running.step, running.lam.detach().clone(), result)

    def _resume(self, running: "_RunningLoop", path: Path, lam: Lam) -> None:
        """Go on from a saved state, if it is of this run and this number of threads gives its bits."""
        state = checkpoint.load(path)
        count = state["threads"]
        if count == torch.get_num_threads():
            checkpoint.check_run(path, state["run"], running.run)
            running.restore(path, state)
            return
        # Another number of threads may change bits or not. Test it on this problem: compare its values at the
        # start, and the next hypergradient, with both numbers of threads.
        with checkpoint.threads(count):
            as_saved = _RunningLoop.begin(self, lam)
            checkpoint.check_run(path, state["run"], as_saved.run)
            running.restore(path, state)
            expected = running.bits()
        if as_saved.run != running.run or running.bits() != expected:
            checkpoint.refuse_threads(path, count)


@dataclass
class _RunningLoop:
    """A running loop: everything that changes from step to step, and the identity of the run.

    Attributes:
        loop: the settings.
        lam: λ, a leaf that the optimiser changes in place.
        optimiser: of [λ].
        scheduler: of the optimiser.
        warm_state: θ, and what else the estimator hands on to the next step.
        run: name → text of everything that decides the numbers; a checkpoint of another run is refused.
        step: the number of steps made.
        status: the status of the last hypergradient.
        stopped: whether a divergence has ended the loop.
        cost: the derivative evaluations so far.
    """

    loop: OuterLoop
    lam: Tensor
    optimiser: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    warm_state: WarmState
    run: dict[str, str]
    step: int = 0
    status: Status = Status.COMPLETED
    stopped: bool = False
    cost: Evaluations = field(default_factory=Evaluations)

    @staticmethod
    def begin(loop: OuterLoop, start: Lam) -> "_RunningLoop":
        """The loop before its first step, at λ = `start`."""
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
        return _RunningLoop(loop, lam, optimiser, scheduler, carried, run)

    def hypergradient(self) -> tuple[Hypergradient, WarmState]:
        """The hypergradient at the current λ, and what is handed on to the next step."""
        loop, lam = self.loop, self.lam.detach()
        draws, estimator = outer_draws(loop.seed, self.step), loop.estimator
        if isinstance(estimator, WarmEstimator):
            carried = self.warm_state if loop.warm else estimator.begin(loop.problem, lam, draws)
            return estimator.advance(loop.problem, lam, carried, draws)
        problem = loop.problem
        if loop.warm and isinstance(problem.initial, FixedInitial):
            problem = problem.starting_at(self.warm_state.theta)
        if loop.plain:
            result = estimator.estimate(problem, lam, draws)
        else:
            result = estimate_in_loop(estimator, problem, lam, draws, self.step)
        return result, replace(self.warm_state, theta=result.theta)

    def bits(self) -> str:
        """A digest of the next hypergradient and of the θ at which its inner run ends."""
        result, carried = self.hypergradient()
        estimate = torch.zeros(0) if result.estimate is None else result.estimate
        return digest(estimate, carried.theta, carried.q)

    def _may_follow(self, result: Hypergradient) -> bool:
        """Whether λ may be moved along a hypergradient."""
        return result.estimate is not None and (
            self.loop.unchecked or result.status not in DIVERGED
        )

    def make_step(self) -> Hypergradient:
        """Make one outer step; a divergence leaves λ unchanged and stops the loop."""
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
            # Most optimisers call the closure once. L-BFGS calls it several times: each call has the same
            # draws and the same warm start.
            self.optimiser.step(closure)  # type: ignore[arg-type]  # annotated for floats, works on tensors
        except _StopAtDivergence:
            with torch.no_grad():
                self.lam.copy_(before)
        result, self.warm_state = calls[-1]
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
        """What a checkpoint holds: all that the next step needs, and the identity of the run."""
        return {
            "run": self.run,
            "threads": torch.get_num_threads(),
            "step": self.step,
            "lam": self.lam.detach(),
            "theta": self.warm_state.theta,
            "q": self.warm_state.q,
            "memory": dict(self.warm_state.memory),
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
            for name, now in (("lam", self.lam), ("theta", self.warm_state.theta)):
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
        self.warm_state = WarmState(state["theta"].to(device), state["q"].to(device), memory)
        self.step = state["step"]
        self.cost = Evaluations(**state["cost"])


class _StopAtDivergence(Exception):  # noqa: N818  (not an error: the way out of an optimiser's step)
    """Leaves the optimiser's step: the hypergradient diverged."""


def _sum(one: Evaluations, two: Evaluations) -> Evaluations:
    """The sum of two counts, for each type of evaluation."""
    return Evaluations(
        **{each.name: getattr(one, each.name) + getattr(two, each.name) for each in fields(one)}
    )
