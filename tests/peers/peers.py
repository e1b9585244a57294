"""Which methods of which public libraries are run, and the cause of every disagreement.

A cause is looked up in the library's source by a person, and held to it by `run.py`: the function that
it names must exist there, and the verdict and the diagnosis must come out as it says.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import final


class Whose(Enum):
    """Where a disagreement comes from; the value is what the table says."""

    THEIRS = "a mistake of the library"
    DESIGN = "another estimand, by design"
    BROKEN = "cannot be run in this version"
    UNSUPPORTED = "not offered"


@final
@dataclass(frozen=True)
class Cause:
    """Why a method disagrees with the truth of the estimand it is run for.

    Attributes:
        whose: of it.
        where: "module:function" in the library, where it happens.
        text: what happens there.
        names: of the diagnosis; at least one of them is found on some row.
        rows: the catalogue's entries that must disagree; others may.
    """

    whose: Whose
    where: tuple[str, ...]
    text: str
    names: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Peer:
    """One method.

    Attributes:
        library: its name.
        distribution: as it is installed; empty for one that is only in its repository.
        target: file:function in the folder of adapters.
        method: it in words.
        framework: of the target.
        entries: of the catalogue.
        cause: of its disagreement; None for a method that is to be right everywhere.
        path: environment variable with the path of a checkout, for one that is only in its repository.
    """

    library: str
    distribution: str
    target: str
    method: str
    entries: tuple[str, ...]
    framework: str = "torch"
    cause: Cause | None = None
    path: str = field(default="")


UNROLLED = (
    *("quadratic", "quadratic-direct", "scaled-identity", "converges-at-once", "two-eigenvalues"),
    *("split-parameters", "moving-start", "initial-point-only", "network-direct"),
    *("example-weights-direct", "inner-minibatches", "decay-in-the-optimiser", "momentum"),
    *("momentum-and-decay", "network-decay"),
)
IMPLICIT = (
    *("quadratic", "quadratic-direct", "scaled-identity", "converges-at-once", "two-eigenvalues"),
    *("outer-constant", "ill-conditioned", "split-parameters", "example-weights-direct"),
    *("decay-in-the-optimiser", "momentum"),
)
FEW = ("quadratic-direct", "converges-at-once", "split-parameters", "moving-start")
FEW_IMPLICIT = ("quadratic-direct", "converges-at-once", "split-parameters", "momentum")
ADAM = ("adam", "adam-zero-gradient", "adam-crosses-zero")
RANDOM = ("quadratic-direct", "outer-constant")
START = ("initial-point-only",)


def _torchopt(function: str, method: str, entries: tuple[str, ...], cause: Cause | None) -> Peer:
    target = f"with_torchopt.py:{function}"
    return Peer("torchopt", "torchopt", target, method, entries, cause=cause)


_CORRECTION = Cause(
    Whose.THEIRS,
    ("torchopt.transform.scale_by_adam:_bias_correction",),
    "`pow(decay, c)` of a float and an int64 tensor is a float32 tensor, so that the bias corrections are "
    "single precision in a double precision run; and with the default `eps_root=0` the derivative of "
    "`sqrt_` at 0 is infinite, so that an exactly zero gradient gives NaN (the documentation advises "
    "an `eps_root`, which makes it another Adam)",
    ("float32 inside",),
    ADAM,
)

TORCHOPT = (
    _torchopt("meta_sgd", "MetaSGD, unrolled", UNROLLED, None),
    _torchopt("func_sgd", "FuncOptimizer(sgd), unrolled", UNROLLED, None),
    _torchopt("meta_adam", "MetaAdam, unrolled", ADAM, _CORRECTION),
    _torchopt("meta_adamw", "MetaAdamW without decay, unrolled", ADAM, _CORRECTION),
    _torchopt(
        "meta_adam_accelerated",
        "MetaAdam(use_accelerated_op=True), unrolled",
        ADAM,
        Cause(
            Whose.THEIRS,
            (
                "torchopt.accelerated_op._src.adam_op:backward_updates",
                "torchopt.accelerated_op.adam_op:AdamOp",
            ),
            "the hand-written derivative by the second moment takes 1 / 2(√v + ε) for the derivative "
            "of √v, which is 1 / 2√v: `updates.div(new_mu)` is 1 / (√v + ε), and is squared; where the "
            "first moment is 0 the derivative is set to 0, although it is 1/ε there",
            ("Adam's epsilon not differentiated",),
            ADAM,
        ),
    ),
    _torchopt("root_cg", "custom_root, solve_cg", IMPLICIT, None),
    _torchopt("root_normal_cg", "custom_root, solve_normal_cg", IMPLICIT, None),
    _torchopt(
        "root_inv",
        "custom_root, solve_inv",
        IMPLICIT,
        Cause(
            Whose.THEIRS,
            (
                "torchopt.linear_solve.utils:materialize_matvec",
                "torchopt.linear_solve.inv:_solve_inv",
            ),
            "`materialize_matvec` keeps the diagonal blocks of the Jacobian, one for each tensor, and "
            "`_solve_inv` solves with each by itself: what couples two tensors of θ is dropped",
            ("Hessian's blocks between tensors left out",),
            ("split-parameters",),
        ),
    ),
    _torchopt("root_neumann", "custom_root, solve_inv(ns=True)", IMPLICIT, None),
    _torchopt("implicit_module", "ImplicitMetaGradientModule", IMPLICIT, None),
    _torchopt("zero_order_naive", "zero_order(naive), 16 samples", RANDOM, None),
    _torchopt(
        "zero_order_forward",
        "zero_order(forward), 1 sample",
        RANDOM,
        Cause(
            Whose.THEIRS,
            ("torchopt.diff.zero_order.decorator:_zero_order_forward",),
            "`div_(1.0 / sigma)` multiplies by σ where the difference is to be divided by it: the "
            "gradient is σ² times what it should be (a quarter for the σ = 0.5 that is used here)",
            ("scaled",),
            RANDOM,
        ),
    ),
    _torchopt(
        "zero_order_forward_many",
        "zero_order(forward), 16 samples",
        RANDOM,
        Cause(
            Whose.THEIRS,
            ("torchopt.diff.zero_order.decorator:_zero_order_forward",),
            "the same factor σ²; besides, `output = noisy_output - output` overwrites the value at the "
            "unperturbed point, so that from the second sample on a constant of the outer loss does "
            "not cancel: on `outer-constant` the noise of the estimate is many times that on "
            "`quadratic-direct`",
            (),
            ("quadratic-direct",),
        ),
    ),
    _torchopt("zero_order_antithetic", "zero_order(antithetic), 16 samples", RANDOM, None),
)


def _higher(function: str, method: str, entries: tuple[str, ...], cause: Cause | None) -> Peer:
    return Peer("higher", "higher", f"with_higher.py:{function}", method, entries, cause=cause)


HIGHER = (
    _higher("sgd", "get_diff_optim(SGD)", UNROLLED, None),
    _higher("innerloop", "innerloop_ctx with SGD", UNROLLED, None),
    _higher("asgd", "get_diff_optim(ASGD), as gradient descent", UNROLLED, None),
    _higher(
        "adam",
        "get_diff_optim(Adam)",
        ADAM,
        Cause(
            Whose.THEIRS,
            ("higher.optim:DifferentiableAdam",),
            "ε is added to √v before the bias correction of v, as torch did it once; torch.optim.Adam, "
            "whose instance it is made from, corrects first. With ε scaled by √(1 − β₂ᵗ) at every step "
            "(the row below) all digits agree",
            ("Adam's epsilon before the bias correction",),
            ADAM,
        ),
    ),
    _higher("adam_corrected", "get_diff_optim(Adam), ε corrected by the caller", ADAM, None),
    _higher(
        "adamw",
        "get_diff_optim(AdamW)",
        ADAM,
        Cause(
            Whose.UNSUPPORTED,
            ("higher.optim:get_diff_optim",),
            "no differentiable AdamW is registered; it says so",
        ),
    ),
)


def _betty(function: str, method: str, entries: tuple[str, ...], cause: Cause | None) -> Peer:
    return Peer("betty", "betty-ml", f"with_betty.py:{function}", method, entries, cause=cause)


_BETTY_DECAY = (
    "the Hessian is that of `training_step` alone, although the optimiser that the problem is given "
    "decays the weights"
)
BETTY = (
    _betty(
        "cg",
        "ImplicitProblem, cg",
        IMPLICIT,
        Cause(
            Whose.THEIRS,
            ("betty.hypergradient.cg:cg",),
            "`p_new = r + beta * p` takes the residual of before the step for the new one, so that the "
            "directions are not conjugate and more iterations do not converge; besides, there is no "
            f"test for convergence, and {_BETTY_DECAY}",
            ("CG direction from an old residual",),
            ("quadratic", "quadratic-direct", "split-parameters"),
        ),
    ),
    _betty(
        "cg_scaled",
        "ImplicitProblem, cg with cg_alpha = γ",
        IMPLICIT,
        Cause(
            Whose.THEIRS,
            ("betty.hypergradient.cg:cg",),
            "the old residual again; and `cg_alpha` scales the Hessian in the step's denominator but "
            "not in the residual's update, so that the two are steps of different systems",
            ("CG direction from an old residual",),
            ("quadratic-direct", "scaled-identity", "converges-at-once"),
        ),
    ),
    _betty(
        "neumann",
        "ImplicitProblem, neumann",
        IMPLICIT,
        Cause(
            Whose.THEIRS,
            ("betty.hypergradient.neumann:neumann",),
            _BETTY_DECAY,
            ("weight decay not differentiated",),
            ("decay-in-the-optimiser",),
        ),
    ),
    _betty(
        "neumann_converged",
        "ImplicitProblem, neumann with 4000 iterations",
        IMPLICIT,
        Cause(
            Whose.THEIRS,
            ("betty.hypergradient.neumann:neumann",),
            _BETTY_DECAY,
            ("weight decay not differentiated",),
            ("decay-in-the-optimiser",),
        ),
    ),
    _betty(
        "darts",
        "ImplicitProblem, darts",
        IMPLICIT,
        Cause(
            Whose.DESIGN,
            ("betty.hypergradient.darts:darts",),
            "the identity stands for the inverse Hessian, as its documentation says; the mixed product "
            "is by differences",
            ("identity for the inverse Hessian",),
            ("quadratic-direct",),
        ),
    ),
    _betty(
        "sama",
        "ImplicitProblem, sama with SGD",
        IMPLICIT,
        Cause(
            Whose.DESIGN,
            ("betty.hypergradient.sama:sama",),
            "with SGD as the inner optimiser its preconditioner is the identity, and it is DARTS",
            ("identity for the inverse Hessian",),
            ("quadratic-direct",),
        ),
    ),
    _betty(
        "reinforce",
        "ImplicitProblem, reinforce",
        ("quadratic",),
        Cause(
            Whose.BROKEN,
            ("betty.hypergradient.reinforce:reinforce", "betty.hypergradient:get_grads"),
            "`get_grads` calls it with four arguments and it takes three; its body is empty",
        ),
    ),
    _betty(
        "iterative",
        "IterativeProblem",
        ("quadratic",),
        Cause(
            Whose.BROKEN,
            (
                "betty.problems.iterative_problem:IterativeProblem",
                "betty.optim.optimizer:DifferentiableOptimizerBase",
            ),
            "`_fp16`, which `optimizer_step` reads, is set nowhere; with it set, `initialize` patches "
            "the optimiser twice, and the patched one has no `params` to initialise",
        ),
    ),
    _betty(
        "differentiable_sgd",
        "DifferentiableSGD, begun as IterativeProblem begins it",
        UNROLLED,
        Cause(
            Whose.THEIRS,
            ("betty.problems.iterative_problem:IterativeProblem",),
            "`initialize_optimizer_state` makes a step with zero gradients, which with weight decay "
            "moves the parameters and fills the momentum buffer before the run begins",
            ("weight decay applied before the run",),
            ("decay-in-the-optimiser", "momentum-and-decay"),
        ),
    ),
    _betty(
        "differentiable_adam",
        "DifferentiableAdam, begun as IterativeProblem begins it",
        ADAM,
        Cause(
            Whose.THEIRS,
            (
                "betty.problems.iterative_problem:IterativeProblem",
                "betty.optim.adam:DifferentiableAdam",
            ),
            "the same step counts in Adam, so that every bias correction is that of the step after; an "
            "exactly zero gradient gives NaN through the root",
            ("off by one step",),
            ADAM,
        ),
    ),
    _betty(
        "differentiable_adamw",
        "DifferentiableAdamW without decay",
        ADAM,
        Cause(
            Whose.BROKEN,
            ("betty.optim.adamw:DifferentiableAdamW",),
            "`step` keeps its update on a decayed copy of each parameter and looks for it on the "
            "parameter itself: it returns no parameters at all. (Its denominator lacks the root.)",
        ),
    ),
)


def _boat(function: str, method: str, entries: tuple[str, ...], cause: Cause | None) -> Peer:
    target = f"with_boat.py:{function}"
    return Peer("boat_torch", "boat-torch", target, method, entries, cause=cause)


_BOAT_DECAY = (
    "the fixed-point map is a gradient step with the optimiser's learning rate alone: its weight decay "
    "is not in the Hessian"
)
BOAT = (
    _boat("rad", "NGD + RAD", UNROLLED, None),
    _boat(
        "rad_kept",
        "NGD + RAD, the same Problem at every call",
        ("quadratic", "quadratic-direct", "scaled-identity"),
        Cause(
            Whose.THEIRS,
            ("boat_torch.boat_opt:Problem", "boat_torch.utils.op_utils:update_tensor_grads"),
            "`return_grad=True` returns `.grad` and nothing ever sets it to zero: each call returns the "
            "sum of all hypergradients so far",
            ("accumulated over calls",),
            ("quadratic", "quadratic-direct", "scaled-identity"),
        ),
    ),
    _boat(
        "rgt",
        "NGD + RGT + RAD",
        ("quadratic", "quadratic-direct", "split-parameters"),
        Cause(
            Whose.THEIRS,
            ("boat_torch.gm_ol.ngd:NGD",),
            "the first K steps evaluate the loss on the patched copy, which the optimiser does not move: "
            "all K take the gradient at θ⁰, so that the run begins at θ⁰ − Kγ ∂_θ L_T(θ⁰); and each "
            "`loss_f.backward()` adds ∂_λ L_T to the buffer that the hypergradient is then added to",
            ("inner loss's gradient left in the buffer",),
            ("quadratic", "quadratic-direct", "split-parameters"),
        ),
    ),
    _boat(
        "ptt",
        "NGD + PTT + RAD",
        ("quadratic", "scaled-identity", "example-weights-direct"),
        Cause(
            Whose.DESIGN,
            ("boat_torch.na_ol.ptt:PTT",),
            "the hypergradient of the iterate with the largest upper loss, not of the last one",
        ),
    ),
    _boat(
        "fd",
        "NGD + FD after T > 1 lower steps",
        ("quadratic", "quadratic-direct", "split-parameters"),
        Cause(
            Whose.DESIGN,
            ("boat_torch.na_ol.fd:FD",),
            "DARTS's one-step formula: differences around θ⁰ whatever the number of lower steps",
            ("truncated",),
            ("quadratic", "quadratic-direct"),
        ),
    ),
    _boat(
        "fd_implicit",
        "NGD + FD at the solution",
        IMPLICIT,
        Cause(
            Whose.DESIGN,
            ("boat_torch.na_ol.fd:FD",),
            "γ stands for the inverse Hessian: DARTS's one-step formula",
            ("one-step approximation",),
            ("quadratic", "quadratic-direct"),
        ),
    ),
    _boat(
        "cg",
        "NGD + CG",
        IMPLICIT,
        Cause(
            Whose.THEIRS,
            ("boat_torch.utils.op_utils:cg_step",),
            "at convergence the loop breaks before `x_last = x`: the iterate that has converged is "
            f"thrown away, and for H = cI nothing is left; besides, {_BOAT_DECAY}",
            ("dropped last CG iterate",),
            ("quadratic", "scaled-identity", "converges-at-once", "split-parameters"),
        ),
    ),
    _boat(
        "ns",
        "NGD + NS",
        IMPLICIT,
        Cause(
            Whose.THEIRS,
            ("boat_torch.na_ol.ns:NS", "boat_torch.utils.op_utils:neumann"),
            _BOAT_DECAY,
            ("weight decay not differentiated",),
            ("decay-in-the-optimiser",),
        ),
    ),
    _boat(
        "ns_converged",
        "NGD + NS with 4000 iterations",
        IMPLICIT,
        Cause(
            Whose.THEIRS,
            ("boat_torch.na_ol.ns:NS", "boat_torch.utils.op_utils:neumann"),
            _BOAT_DECAY,
            ("weight decay not differentiated",),
            ("decay-in-the-optimiser",),
        ),
    ),
    _boat(
        "iga",
        "NGD + IGA",
        ("quadratic", "split-parameters"),
        Cause(
            Whose.DESIGN,
            ("boat_torch.na_ol.iga:IGA",),
            "a Gauss-Newton formula: the inverse Hessian is replaced by a matrix of rank one",
        ),
    ),
    _boat("iad", "NGD + IAD", START, None),
    _boat(
        "foa",
        "NGD + FOA + IAD",
        START,
        Cause(
            Whose.DESIGN,
            ("boat_torch.na_ol.foa:FOA",),
            "first-order MAML: no second derivatives",
            ("first-order",),
            START,
        ),
    ),
)


def _jaxopt(function: str, method: str, entries: tuple[str, ...]) -> Peer:
    return Peer("jaxopt", "jaxopt", f"with_jaxopt.py:{function}", method, entries, "jax")


_LINEAR = ("cg", "normal_cg", "bicgstab", "gmres", "lu", "inv", "cholesky", "qr")
JAXOPT = (
    _jaxopt("gradient_descent_unrolled", "GradientDescent(implicit_diff=False)", FEW),
    _jaxopt("fixed_point_unrolled", "FixedPointIteration(implicit_diff=False)", FEW),
    *(_jaxopt(f"root_{name}", f"custom_root, solve_{name}", FEW_IMPLICIT) for name in _LINEAR),
    _jaxopt("custom_fixed_point", "custom_fixed_point", FEW_IMPLICIT),
    _jaxopt("gradient_descent_implicit", "GradientDescent, implicit", FEW_IMPLICIT),
    _jaxopt("lbfgs_implicit", "LBFGS, implicit", FEW_IMPLICIT),
    _jaxopt("anderson_implicit", "AndersonAcceleration, implicit", FEW_IMPLICIT),
)


def _optimistix(function: str, method: str, entries: tuple[str, ...]) -> Peer:
    target = f"with_optimistix.py:{function}"
    return Peer("optimistix", "optimistix", target, method, entries, "jax")


OPTIMISTIX = (
    _optimistix(
        "gradient_descent_unrolled",
        "minimise(GradientDescent), RecursiveCheckpointAdjoint",
        FEW,
    ),
    _optimistix(
        "fixed_point_unrolled",
        "fixed_point(FixedPointIteration), RecursiveCheckpointAdjoint",
        FEW,
    ),
    _optimistix("minimise_implicit", "minimise(BFGS), ImplicitAdjoint", FEW_IMPLICIT),
    _optimistix("root_implicit", "root_find(Newton), ImplicitAdjoint", FEW_IMPLICIT),
    _optimistix(
        "fixed_point_implicit", "fixed_point(FixedPointIteration), ImplicitAdjoint", FEW_IMPLICIT
    ),
)


def _hypertorch(function: str, method: str, entries: tuple[str, ...], cause: Cause | None) -> Peer:
    target = f"with_hypertorch.py:{function}"
    return Peer("hypertorch", "", target, method, entries, cause=cause, path="HYPERTORCH")


_SYMMETRIC = Cause(
    Whose.THEIRS,
    ("hypergrad.CG_torch:cg",),
    "at convergence the loop breaks before `x_last = x`: the iterate that has converged is thrown "
    "away, and for H = cI nothing is left",
    ("dropped last CG iterate",),
    ("quadratic", "scaled-identity", "converges-at-once"),
)
HYPERTORCH = (
    _hypertorch("reverse_unroll", "reverse_unroll", UNROLLED, None),
    _hypertorch("reverse", "reverse", UNROLLED, None),
    _hypertorch("fixed_point", "fixed_point", IMPLICIT, None),
    _hypertorch("neumann", "neumann", IMPLICIT, None),
    _hypertorch("cg", "CG", IMPLICIT, _SYMMETRIC),
    _hypertorch("cg_normaleq", "CG_normaleq", IMPLICIT, _SYMMETRIC),
    _hypertorch(
        "stoch_aid",
        "stoch_AID",
        IMPLICIT,
        Cause(
            Whose.THEIRS,
            ("hypergrad.hypergradients:stoch_AID", "hypergrad.hypergradients:get_outer_gradients"),
            "`get_outer_gradients` is called with `retain_graph=False` and differentiates the outer loss "
            "twice: where it depends on λ directly, it raises; where it does not, the answer is right",
            (),
            ("quadratic-direct",),
        ),
    ),
)


def _hypergrad(function: str, method: str, entries: tuple[str, ...], cause: Cause | None) -> Peer:
    target = f"with_hypergrad.py:{function}"
    return Peer("hypergrad", "", target, method, entries, cause=cause, path="HYPERGRAD")


HYPERGRAD = (
    _hypergrad(
        "cg",
        "conjugate_gradient",
        IMPLICIT,
        Cause(
            Whose.THEIRS,
            ("hypergrad.approx_hypergrad:conjugate_gradient",),
            "`_ps = rs + beta * ps` takes the residual of before the step for the new one",
            ("CG direction from an old residual",),
            ("quadratic", "quadratic-direct", "split-parameters"),
        ),
    ),
    _hypergrad("series", "neumann", IMPLICIT, None),
    _hypergrad(
        "sgd",
        "diff_sgd",
        UNROLLED,
        Cause(
            Whose.THEIRS,
            ("hypergrad.optimizers:diff_sgd",),
            "with momentum, the first gradient enters the buffer as `grad.clone().detach()`: its "
            "derivative is lost",
            (),
            ("momentum", "momentum-and-decay"),
        ),
    ),
)

PEERS = (*TORCHOPT, *HIGHER, *BETTY, *BOAT, *JAXOPT, *OPTIMISTIX, *HYPERTORCH, *HYPERGRAD)
