"""Bugs that a person could make in the estimators' formulas."""

from tests.estimators.mutation import Mutant

HPO, FMD, RMD, IFT, IMPLICIT = (
    f"refblo.estimators.{name}" for name in ("hpo_sgld", "fmd", "rmd", "ift", "_implicit")
)
REVERSE, FORWARD = "refblo.derivatives.reverse", "refblo.derivatives.forward"
CHAIN = "refblo.chain"

HPO_SGLD_MUTANTS = [
    Mutant(
        "ε where ε/2 is meant",
        HPO,
        "[(mixed(slope), -gamma)]",
        "[(mixed(slope), -2 * gamma)]",
    ),
    Mutant(
        "the sign of B",
        HPO,
        "[(mixed(slope), -gamma)]",
        "[(mixed(slope), gamma)]",
    ),
    Mutant(
        "τ forgotten",
        HPO,
        "[(mixed(slope), -gamma)]",
        "[(mixed(slope), -self.dynamics.epsilon / 2)]",
    ),
    Mutant(
        "no memory of earlier steps",
        HPO,
        "g.add_(change, alpha=factor)",
        "g.copy_(change).mul_(factor)",
    ),
    Mutant("no direct term", HPO, "h.add_(direct)", "pass"),
    Mutant("no indirect term", HPO, "h.add_(g)", "pass"),
    Mutant("a sum where a mean is meant", HPO, "h.div_(self.schedule.samples)", "pass"),
    Mutant("divided by T", HPO, "h.div_(self.schedule.samples)", "h.div_(self.schedule.steps)"),
    Mutant(
        "one sample too many",
        HPO,
        "if self.schedule.sampled(m):\n                h.add_(g)",
        "if self.schedule.sampled(m + 1):\n                h.add_(g)",
    ),
    Mutant(
        "the batch of the next step",
        HPO,
        "batch = chain.inner_batch(m - 1)",
        "batch = chain.inner_batch(m)",
    ),
    Mutant(
        "g₀ = 0 for θ⁰(λ)",
        HPO,
        "return State(theta, initial_vjp(chain.problem.initial, lam, slope).clone())",
        "return State(theta, torch.zeros_like(lam))",
    ),
    Mutant(
        "the step backwards in f_θθ's product",
        HPO,
        "outer_hessian(theta - old)",
        "outer_hessian(old - theta)",
    ),
    Mutant(
        "f_θθ at the new iterate",
        HPO,
        "problem.outer, lam, old, chain.outer_batch(m - 1)",
        "problem.outer, lam, theta, chain.outer_batch(m - 1)",
    ),
    Mutant(
        "f_θθ on the new batch",
        HPO,
        "problem.outer, lam, old, chain.outer_batch(m - 1)",
        "problem.outer, lam, old, chain.outer_batch(m)",
    ),
    Mutant(
        "the sign of A", HPO, ".sub(hessian_slope, alpha=gamma)", ".add(hessian_slope, alpha=gamma)"
    ),
    Mutant("no A", HPO, ".sub(hessian_slope, alpha=gamma)", ""),
    Mutant("no B for θ⁰(λ)", HPO, "(slope_mixed, -gamma),", ""),
]

FMD_MUTANTS = [
    Mutant(
        "the sign of the tangent's change",
        CHAIN,
        "tangent.sub(change, alpha=self.dynamics.step_size)",
        "tangent.add(change, alpha=self.dynamics.step_size)",
    ),
    Mutant(
        "ε for γ",
        CHAIN,
        "tangent.sub(change, alpha=self.dynamics.step_size)",
        "tangent.sub(change, alpha=2 * self.dynamics.step_size)",
    ),
    Mutant(
        "no direct term",
        FMD,
        "value.add_(direct[first : first + width]).add_(slope @ chain.theta(tangent))",
        "value.add_(slope @ chain.theta(tangent))",
    ),
    Mutant(
        "the first block's direct term in every block",
        FMD,
        "direct[first : first + width]",
        "direct[:width]",
    ),
    Mutant(
        "the first columns in every block",
        FMD,
        "directions[first : first + width].fill_diagonal_(1)",
        "directions[:width].fill_diagonal_(1)",
    ),
    Mutant("a sum where a mean is meant", FMD, "value.div_(self.schedule.samples)", "value"),
    Mutant(
        "the outer batch of the step before",
        FMD,
        "at, batch = chain.theta(state), chain.outer_batch(t)",
        "at, batch = chain.theta(state), chain.outer_batch(t - 1)",
    ),
]

RMD_MUTANTS = [
    Mutant(
        "no division by M", RMD, "torch.full((), 1 / self.schedule.samples,", "torch.full((), 1.0,"
    ),
    Mutant(
        "one sample too many",
        RMD,
        "if self.schedule.sampled(t + 1):",
        "if self.schedule.sampled(t + 2):",
    ),
    Mutant(
        "the outer batch of the step before",
        RMD,
        "batch, at = chain.outer_batch(t + 1), chain.theta(end)",
        "batch, at = chain.outer_batch(t), chain.theta(end)",
    ),
    Mutant(
        "the inner batch of the step after",
        RMD,
        "batch, at = chain.inner_batch(t), chain.theta(end)",
        "batch, at = chain.inner_batch(t + 1), chain.theta(end)",
    ),
    Mutant(
        "the iterate detached",
        RMD,
        "end = chain.following(lam, end, gradient, t)",
        "end = chain.following(lam, end.detach(), gradient, t).requires_grad_()",
    ),
    Mutant(
        "the gradient detached",
        RMD,
        "end = chain.following(lam, end, gradient, t)",
        "end = chain.following(lam, end, gradient.detach(), t)",
    ),
    Mutant(
        "later segments forgotten",
        RMD,
        "at = self._pull(chain, lam, starts.pop(), parts.pop(), segments[1:], alpha, h)",
        "at = self._pull(chain, lam, starts.pop(), parts.pop(), segments[1:], 0 * alpha, h)",
    ),
    Mutant("segments from another start", RMD, "starts.append(theta)", "starts.insert(0, theta)"),
    Mutant("θ⁰(λ) forgotten", RMD, "if kept == steps:", "if kept != steps:"),
    Mutant(
        "one transition too few kept",
        RMD,
        "run, alpha = range(steps - kept, steps), torch.zeros_like(theta)",
        "run, alpha = range(min(steps - kept + 1, steps - 1), steps), torch.zeros_like(theta)",
    ),
    Mutant(
        "the direct terms of truncated iterates lost",
        RMD,
        "h.add_(direct, alpha=1 / self.schedule.samples)",
        "pass",
    ),
    Mutant("RMD-FO without θ⁰(λ)", RMD, "alpha.add_(slope, alpha=weight)", "pass"),
    Mutant("RMD-FO without the direct term", RMD, "h.add_(direct, alpha=weight)", "pass"),
]

IFT_MUTANTS = [
    Mutant(
        "the sign of the implicit term",
        IMPLICIT,
        "value = direct - mixed(",
        "value = direct + mixed(",
    ),
    Mutant("no direct term", IMPLICIT, "value = direct - mixed(", "value = -mixed("),
    Mutant(
        "no implicit term",
        IMPLICIT,
        "value = direct - mixed(",
        "value = direct - 0 * mixed(",
    ),
    Mutant(
        "one term too few",
        IFT,
        "more(rhs, rhs, self.terms - 1)",
        "more(rhs, rhs, self.terms - 2)",
    ),
    Mutant("α left out", IFT, "total = total * self.scale", "pass"),
    Mutant(
        "α at the wrong scaling",
        IFT,
        "if self.scaling is NeumannScaling.SCALED:",
        "if self.scaling is NeumannScaling.UNSCALED:",
    ),
    Mutant(
        "I + αH",
        IFT,
        "term = term.sub(hessian(term), alpha=self.scale)",
        "term = term.add(hessian(term), alpha=self.scale)",
    ),
    Mutant(
        "CG's β upside down",
        IFT,
        "(square / self.square) * self.direction",
        "(self.square / square) * self.direction",
    ),
    Mutant(
        "steepest descent for CG",
        IFT,
        "residual + (square / self.square) * self.direction,",
        "residual,",
    ),
    Mutant("damping forgotten", IFT, ".add(at.direction, alpha=self.damping)", ""),
    Mutant(
        "a converged iterate thrown away",
        IFT,
        "return Solve(at.q)\n            image",
        "return Solve(0 * at.q)\n            image",
    ),
    Mutant(
        "the dense Hessian's rows summed",
        IFT,
        "torch.linalg.solve_ex(matrix, rhs)",
        "torch.linalg.solve_ex(torch.diag(matrix.sum(1)), rhs)",
    ),
    Mutant(
        "another batch for H",
        IMPLICIT,
        "chain.problem.inner, chain.inner_batch(step)",
        "chain.problem.inner, chain.inner_batch(step - 1)",
    ),
]

SHARED_MUTANTS = [
    Mutant(
        "the noise's standard deviation is its variance",
        CHAIN,
        "theta), alpha=noise)",
        "theta), alpha=noise**2)",
    ),
    Mutant(
        "noise without κ",
        CHAIN,
        "math.sqrt(self.epsilon) * self.noise_scale",
        "math.sqrt(self.epsilon)",
    ),
    Mutant(
        "the noise of the next step",
        CHAIN,
        "self._ahead.get(step)",
        "self._ahead.get(step + 1)",
    ),
    Mutant("ascent", CHAIN, "alpha=-self.dynamics.step_size", "alpha=self.dynamics.step_size"),
    Mutant(
        "ε = τγ",
        CHAIN,
        "return 2 * self.temperature * self.step_size",
        "return self.temperature * self.step_size",
    ),
    Mutant(
        "inner and outer share their batches",
        CHAIN,
        "outer_batches(self.draws, Stream.OUTER_BATCH, step)",
        "outer_batches(self.draws, Stream.INNER_BATCH, step)",
    ),
    Mutant(
        "the data gradient alone, regulariser by autograd",
        REVERSE,
        "return gradient + penalty.detach(), mixed",
        "return gradient, mixed",
    ),
    Mutant(
        "the data gradient alone, regulariser in closed form",
        REVERSE,
        "gradient = gradient + products.gradient(lam, theta)",
        "gradient = gradient + 0",
    ),
    Mutant(
        "the outputs' tangent at a wrong point",
        REVERSE,
        "lambda t: inner.outputs(t, batch), (theta.detach(),), (v,)",
        "lambda t: inner.outputs(t, batch), (theta.detach(),), (v + theta.detach(),)",
    ),
    Mutant(
        "C by λ with θ moved too",
        FORWARD,
        "return jvp(gradient, (lam.detach(), theta.detach()), (u, s))",
        "return jvp(gradient, (lam.detach(), theta.detach()), (0 * u, s))",
    ),
    Mutant(
        "the columns' direct drive lost",
        FORWARD,
        "return jvp(gradient, (lam, theta), (u_column, s_column))",
        "return jvp(gradient, (lam, theta), (0 * u_column, s_column))",
    ),
]
