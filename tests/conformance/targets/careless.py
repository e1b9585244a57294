"""Targets that do by accident what could end a check: each entry of the catalogue shows another accident."""

import os
import subprocess
import sys
import time

import torch


def unrolled(problem):
    lam = problem.lam.clone().requires_grad_()
    theta = problem.initial(lam)
    if not theta.requires_grad:
        theta = theta.clone().requires_grad_()
    for step in range(problem.steps):
        inner = problem.inner(lam, theta, problem.inner_batch(step))
        theta = theta - problem.step_size * torch.autograd.grad(inner, theta, create_graph=True)[0]
    outer = problem.outer(lam, theta, problem.outer_batch(problem.steps))
    return torch.autograd.grad(outer, lam)[0]


def _to_every_descriptor():
    for descriptor in range(3, 256):
        try:
            os.write(descriptor, b"a line of a log\n")
        except OSError:
            continue


def _fork_and_come_back():
    if os.fork() == 0:
        return
    os.wait()


def _daemon(seconds="987654"):
    """A program in a session of its own whose parent is gone."""
    if os.fork() == 0:
        os.setsid()
        subprocess.Popen(["sleep", seconds])
        os._exit(0)
    os.wait()


def careless(problem):
    match problem.name:
        case "quadratic":
            _to_every_descriptor()
        case "quadratic-direct":
            os.closerange(3, 256)
        case "scaled-identity":
            os.write(1, b"straight to the descriptor\n")
            print("\x1b[2J\x07 and a \udc80")
        case "converges-at-once":
            for _ in range(300):
                print("x" * 10_000)
                sys.stderr.write("y" * 10_000)
        case "two-eigenvalues":
            sys.stdout.close()
        case "outer-constant":
            _fork_and_come_back()
        case "curved-hessian":
            raise ValueError("\x1b[31mred\x1b[0m and a \udc80")
        case "ill-conditioned":
            os.closerange(0, 256)
            time.sleep(3600)
        case "split-parameters":
            _daemon()
        case "example-weights":
            return torch.zeros(3_000_000, dtype=torch.float64)
    return unrolled(problem)


careless.capabilities = {"direct"}


def hidden_by_noise(problem):
    """Unbiased on average, and so noisy that no number of seeds that is affordable shows it."""
    draw = torch.Generator().manual_seed(problem.seed)
    noise = torch.randn(problem.lam.shape, dtype=problem.lam.dtype, generator=draw)
    return unrolled(problem) + 1e6 * noise


hidden_by_noise.capabilities = {"direct"}
hidden_by_noise.stochastic = True


def starts_and_dies(problem):
    """What it starts must not outlive its own process; nor a check that is killed."""
    subprocess.Popen(["sleep", os.environ["REFBLO_TEST_SLEEP"]])
    _daemon(os.environ["REFBLO_TEST_SLEEP"])
    if problem.name == "quadratic":
        os._exit(7)
    time.sleep(3600)
