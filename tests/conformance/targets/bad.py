"""Targets that misbehave."""

import os
import sys
import time

import torch
from good_torch import unrolled

KEPT = []


def misbehaves(problem):
    """Do something else wrong on each entry."""
    answer = unrolled(problem)
    match problem.name:
        case "quadratic":
            raise ZeroDivisionError("on purpose")
        case "quadratic-direct":
            print("hello")
        case "scaled-identity":
            return answer[:-1]
        case "converges-at-once":
            return answer.tolist()
        case "two-eigenvalues":
            return answer * float("nan")
        case "outer-constant":
            sys.exit(3)
        case "curved-hessian":
            problem.lam.add_(1.0)
        case "ill-conditioned":
            return torch.randn_like(answer)
        case "example-weights":
            KEPT.append(answer)
            return sum(KEPT)
        case "example-weights-direct":
            os._exit(7)
        case "inner-minibatches":
            time.sleep(3600)
        case "all-minibatches":
            return torch.zeros(10**12)
        case "decay-in-the-optimiser":
            input("what now? ")
        case "network":
            return answer.float()
    return answer


misbehaves.capabilities = unrolled.capabilities


def two_arguments(problem, more):
    """Cannot be called with one problem."""


def unknown_capability(problem):
    """Declares what does not exist."""


unknown_capability.capabilities = {"telepathy"}


def always_hangs(problem):
    """Never answers."""
    time.sleep(3600)


not_a_function = 3
