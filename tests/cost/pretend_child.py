"""Runs in a process of its own: the cases of `pretend_cases` and the planted faults, on the pretend device.

Prints what was counted as JSON; the argument is a word of `PARTS`.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from refblo.chain import Chain, Schedule
from refblo.cost import HostTraffic, decide, measure, pretend_device
from refblo.errors import ArgumentError, RefbloError
from refblo.estimators import HPOSGLD, Compiled, Estimator, IFTConjugateGradient
from refblo.estimators.fmd import FMDDirectional
from refblo.noise import SEED_ZERO, Draws
from refblo.problem import BilevelProblem, FixedInitial, Minibatches
from refblo.problems.case import Case
from refblo.types import Estimand, Hypergradient
from tests.cost.pretend_cases import FIXED, MOVING, cases, is_quick, short

Found = dict[str, Any]


def counted(run: Callable[[], object]) -> Found:
    """What a run costs, or the error that it ends with."""
    try:
        # `measure` counts the same and much else, which takes twice as long.
        with HostTraffic() as traffic:
            run()
    except RefbloError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {
        "synchronisations": traffic.synchronisations,
        "transfers": traffic.transfers,
        "places": traffic.places,
    }


def estimate(
    method: Estimator, case: Case, change: Callable[[Tensor], Tensor] = lambda lam: lam
) -> Found:
    """What a hypergradient costs on the pretend device, the problem taken over from the CPU."""
    results: list[Hypergradient] = []
    with pretend_device(adopt=True) as device:
        lam = change(torch.empty_like(case.lam, device=device))
        found = counted(lambda: results.append(method.estimate(case.problem, lam)))
        for result in results:
            found["read"] = counted(partial(getattr, result, "value"))
            found["kept"] = (result.value.dtype, result.value.device) == (lam.dtype, lam.device)
    return found


def made_there(method: Estimator) -> Found:
    """On a problem whose tensors are made on the device: a traced kernel takes none over."""
    with pretend_device() as device:

        def ones(*shape: int) -> Tensor:
            return torch.ones(shape, dtype=torch.float64, device=device)

        hessian, coupling, shift = ones(3, 3), ones(3, 2), ones(3)
        problem = BilevelProblem(
            lambda lam, theta, _: theta @ (hessian @ theta) / 2 - theta @ (coupling @ lam),
            lambda _, theta, __: (theta - shift).square().sum(),
            FixedInitial(ones(3)),
        )
        return counted(lambda: method.estimate(problem, ones(2)))


def either(method: Estimator) -> Found:
    """On the problem with a fixed initial point, or on the other one where that is refused."""
    if isinstance(method, Compiled):
        return made_there(method)
    try:
        found = estimate(method, short(FIXED))
        refused = found.get("error") == "ArgumentError"
    except ArgumentError:
        refused = True
    return estimate(method, short(MOVING)) if refused else found


@final
@dataclass(frozen=True)
class Faulty:
    """HPO-SGLD with something done to each iterate."""

    method: HPOSGLD
    fault: Callable[[Tensor], Tensor]
    name: str = field(default="faulty", kw_only=True)
    estimand: Estimand = field(default=Estimand.UNROLLED, init=False)

    def estimate(
        self, problem: BilevelProblem, lam: Tensor, draws: Draws = SEED_ZERO
    ) -> Hypergradient:
        advance = Chain.advance

        def faulty(
            chain: Chain, theta: Tensor, gradient: Tensor, step: int, overwrite: bool = False
        ) -> Tensor:
            return self.fault(advance(chain, theta, gradient, step, overwrite))

        Chain.advance = faulty  # type: ignore[method-assign,assignment]  # put back below
        try:
            return self.method.estimate(problem, lam, draws)
        finally:
            Chain.advance = advance  # type: ignore[method-assign]


def looks(theta: Tensor) -> Tensor:
    return theta if decide(theta.sum() > 0, without_numbers=True) else -theta


def reads(theta: Tensor) -> Tensor:
    return theta * theta.sum().item()


def draws_on_the_cpu(theta: Tensor) -> Tensor:
    return theta + torch.randn(theta.shape, dtype=theta.dtype).to(theta.device)


def draws_in_double(theta: Tensor) -> Tensor:
    return theta.add_(torch.randn(theta.shape, dtype=torch.float64, device=theta.device))


def lies_elsewhere(theta: Tensor) -> Tensor:
    return theta + torch.ones(theta.shape, dtype=theta.dtype)


def fetches(theta: Tensor) -> Tensor:
    return theta.cpu().to(theta.device)


def makes_from_numbers(theta: Tensor) -> Tensor:
    return theta * torch.tensor([1.0] * theta.numel(), dtype=theta.dtype, device=theta.device)


def masks(theta: Tensor) -> Tensor:
    theta[theta > 1] = 1.0
    return theta


def solves(theta: Tensor) -> Tensor:
    solution: Tensor = torch.linalg.solve(torch.diag(theta), theta)
    return solution


def goes_through_numpy(theta: Tensor) -> Tensor:
    return torch.as_tensor(theta.numpy()).to(theta.device)


FAULTS: tuple[Callable[[Tensor], Tensor], ...] = (
    looks,
    reads,
    draws_on_the_cpu,
    draws_in_double,
    lies_elsewhere,
    fetches,
    makes_from_numbers,
    masks,
    solves,
    goes_through_numpy,
)


def faults() -> Iterator[tuple[str, Found]]:
    """Each fault alone, in single precision, two steps."""
    case = short(FIXED, torch.float32)
    method = HPOSGLD(case.dynamics, Schedule.last(2))
    yield "none", estimate(method, case)
    for fault in FAULTS:
        yield fault.__name__, estimate(Faulty(method, fault), case)
    yield "lam elsewhere", estimate(method, case, lambda lam: torch.ones_like(lam, device="cpu"))


def others() -> Iterator[tuple[str, Found]]:
    """Batches, a directional derivative, and tensors with numbers that nobody took over."""
    case = short(FIXED)
    rows = torch.ones(6, case.problem.initial(case.lam).numel(), dtype=torch.float64)

    def inner(lam: Tensor, theta: Tensor, batch: Tensor | None) -> Tensor:
        return (rows[batch] @ theta).square().sum() + lam.sum() * theta.square().sum()

    for where in ("cpu", "pretend"):
        batches = Minibatches(6, 2, device=where)
        batched = replace(case, problem=replace(case.problem, inner=inner, inner_batches=batches))
        method = HPOSGLD(case.dynamics, Schedule.last(2))
        with pretend_device():
            pass  # the device must have its name before a batch is drawn on it
        yield f"batches on {where}", estimate(method, batched)
    with pretend_device(adopt=True) as device:
        lam = torch.empty_like(case.lam, device=device)
        along = FMDDirectional(case.dynamics, case.schedule)
        yield "directional", counted(lambda: along.derivative(case.problem, lam, lam))
    with pretend_device() as device:
        ones = torch.ones(2, dtype=torch.float64, device=device)
        yield "not taken over", counted(lambda: ones + case.lam)
    with pretend_device(adopt=True) as device:
        lam = torch.empty_like(case.lam, device=device)
        cost = measure(
            lambda: IFTConjugateGradient(case.dynamics, 1, 2).estimate(case.problem, lam)
        )
        yield (
            "measured",
            {"synchronisations": cost.host_synchronisations, "transfers": cost.transfers},
        )


PARTS: dict[str, Callable[[], Iterator[tuple[str, Found]]]] = {
    "quick": lambda: ((name, either(m)) for name, m in cases().items() if is_quick(name)),
    "rest": lambda: ((name, either(m)) for name, m in cases().items() if not is_quick(name)),
    "faults": faults,
    "others": others,
}

if __name__ == "__main__":
    json.dump({part: dict(PARTS[part]()) for part in sys.argv[1:]}, sys.stdout)
