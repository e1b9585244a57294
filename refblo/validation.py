"""What is checked before an estimator or an oracle runs.

Vectors are checked at every call (one pass over them). The problem's functions are checked once for
each problem, its warm starts included, and signature (dtype, device, sizes), because that takes evaluations.
"""

from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from refblo.cost import decide, is_fake, uncounted
from refblo.derivatives import gradients_if_any, leaf
from refblo.errors import (
    ArgumentError,
    ArgumentTypeError,
    LossError,
    MissingProductError,
    RefbloError,
)
from refblo.noise import Draws, Stream
from refblo.problem import (
    Batches,
    BilevelProblem,
    Composed,
    FixedInitial,
    LamInitial,
    Separable,
)
from refblo.types import Batch, Lam, Loss, Theta

Signature = tuple[torch.dtype, torch.device, int, int]

_checked: WeakKeyDictionary[BilevelProblem, set[tuple[Signature, type]]] = WeakKeyDictionary()


def check_vector(name: str, vector: object) -> Tensor:
    """Check that an argument is a finite floating-point vector, and return it.

    Raises:
        ArgumentTypeError: if it is no tensor, or not of a floating-point dtype.
        ArgumentError: if it is not one-dimensional, is empty or has a non-finite entry.
    """
    return _check_finite(name, _check_form(name, vector))


def check_like(name: str, vector: object, like: Tensor, like_name: str) -> Tensor:
    """Check that an argument is a finite vector with the shape, dtype and device of another.

    Raises:
        ArgumentTypeError: if it is no floating-point tensor, or of another dtype or device.
        ArgumentError: if it has another shape or a non-finite entry.
    """
    checked = _check_form(name, vector)
    _check_same_kind(name, checked, like_name, like)
    if checked.shape != like.shape:
        raise ArgumentError(
            f"{name} must have the shape of {like_name} {tuple(like.shape)}, got "
            f"{tuple(checked.shape)}; give one number for each entry of {like_name}"
        )
    return _check_finite(name, checked)


def check_arguments(problem: BilevelProblem, lam: Lam, draws: Draws) -> None:
    """Check λ, θ⁰ and, once, the problem's functions.

    On a device other than the CPU the numbers of λ and θ⁰ are not looked at here: see `estimators.protocol`.

    Raises:
        ArgumentError, ArgumentTypeError: for a λ or θ⁰ that cannot be used (see the message).
        LossError: for a loss without a hypergradient (see the message).
        MissingProductError: if the inner loss has no mixed derivative.
    """
    if not torch.is_grad_enabled():
        raise ArgumentError(
            "grad mode must be on around the call, got torch.no_grad() or torch.inference_mode(); leave that "
            "block: the results have no graph anyway"
        )
    _check_form("lam", lam)
    lam = lam.detach()
    theta = _check_form("initial(lam)", problem.initial(lam)).detach()
    _check_same_kind("initial(lam)", theta, "lam", lam)
    if lam.device.type == "cpu" and not is_fake(lam):
        # A look at a CPU tensor waits for nothing. On a device it waits for all that is still running: there
        # the result is looked at, by whoever reads it, and explained by λ and θ⁰ first (`explain`).
        with uncounted():
            _check_finite("lam", lam)
            _check_finite("initial(lam)", theta)
    signature = (lam.dtype, lam.device, lam.numel(), theta.numel())
    known = _checked.setdefault(problem.origin, set())
    whole = (signature, type(problem.initial))
    if whole in known:
        return
    with uncounted():
        # Without numbers there is nothing to look at: only shapes and costs come out.
        if is_fake(lam):
            return
        _check_functions(problem, lam, theta, draws)
    known.add(whole)


def _check_functions(problem: BilevelProblem, lam: Lam, theta: Theta, draws: Draws) -> None:
    """Check θ⁰, the batches, both losses and how λ reaches the outer one."""
    _check_initial(problem, lam, theta)
    inner_batch = _check_batches("inner_batches", problem.inner_batches, draws, Stream.INNER_BATCH)
    outer_batch = _check_batches("outer_batches", problem.outer_batches, draws, Stream.OUTER_BATCH)
    # Where the initial point does not depend on λ, the gradient by θ has to. Where a structure is declared,
    # the gradient through a network needs no graph for that: it would take most of the run's memory.
    fixed = isinstance(problem.initial, FixedInitial)
    plain = not isinstance(problem.inner, Separable | Composed)
    at = leaf(lam) if fixed and plain else lam
    gradient = check_loss("inner", problem.inner, at, theta, inner_batch)
    reached: bool | None = True
    if fixed:
        reached = None
        # No second derivative through this kernel: an estimator that needs it says so; one that works with
        # the declared structure does not.
        with suppress(RuntimeError, NotImplementedError):
            if isinstance(problem.inner, Separable | Composed):
                at, gradient = _gradient_with_lam(problem.inner, lam, theta, inner_batch)
            reached = depends(gradient, at)
    del gradient
    check_loss("outer", problem.outer, lam, theta, outer_batch)
    if isinstance(problem.inner, Separable):
        _check_closed_form(problem.inner, lam, theta)
    if not reached:
        _check_influence(problem, lam, theta, inner_batch, outer_batch, reached)


def check_loss(name: str, loss: Loss, lam: Lam, theta: Theta, batch: Batch) -> Theta:
    """Check that a loss is a finite, deterministic scalar function that depends on θ.

    Returns:
        Its gradient by θ, which is part of a graph if λ requires a gradient.

    Raises:
        LossError: saying which of these it is not.
    """
    at = leaf(theta)
    # A caller's function may return anything, whatever its annotation says.
    value: object = _attempt(name, loss, lam, at, batch)
    if not isinstance(value, Tensor) or value.ndim != 0:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise LossError(
            f"{name} must return a scalar tensor (shape ()), got {got}; sum or average its terms, and do "
            "not call .item()"
        )
    if (value.dtype, value.device) != (theta.dtype, theta.device):
        raise LossError(
            f"{name} must return the dtype and device of theta ({theta.dtype} on {theta.device}), got "
            f"{value.dtype} on {value.device}; look for a constant of another dtype or device in it"
        )
    if not bool(torch.isfinite(value)):
        raise LossError(
            f"{name} must be finite at the initial point, got {value.item()}; start at another point, or "
            "correct the loss"
        )
    # Before the second call, so that one graph is alive at a time.
    gradient: Tensor | None = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(
            (value,), (at,), create_graph=lam.requires_grad, allow_unused=True
        )
    again = loss(lam, leaf(theta), batch).detach()
    if not bool(value.detach() == again):
        raise LossError(
            f"{name} must be a deterministic function of (lam, theta, batch), got {value.item()} and then "
            f"{again.item()} for the same arguments; draw its randomness through the problem's batches"
        )
    if gradient is None:
        raise LossError(
            f"{name} must depend on theta, got a value without a graph to theta; look for .detach(), "
            ".item(), torch.no_grad or a torch.tensor(...) copy inside the loss"
        )
    return gradient


def _gradient_with_lam(
    inner: Separable | Composed, lam: Lam, theta: Theta, batch: Batch
) -> tuple[Lam, Tensor]:
    """A leaf λ, and the part of the gradient that λ can enter, by θ or by the outputs."""
    at = leaf(lam)
    if isinstance(inner, Separable):
        cut = leaf(theta)
        value = inner.regulariser(at, cut)
    else:
        with torch.no_grad():
            outputs = inner.outputs(theta, batch)
        cut = leaf(outputs)
        value = inner.loss(at, cut, batch)
    if not value.requires_grad:
        return at, torch.zeros_like(cut)
    (gradient,) = torch.autograd.grad(
        (value,), (cut,), create_graph=True, allow_unused=True, materialize_grads=True
    )
    return at, gradient


def depends(value: Tensor, vector: Tensor) -> bool:
    """Whether autograd finds a path from `vector` to `value`."""
    if not value.requires_grad:
        return False
    (gradient,) = gradients_if_any(value.sum(), vector)
    return gradient is not None


def _attempt(name: str, loss: Loss, lam: Lam, theta: Theta, batch: Batch) -> object:
    """The loss's value, or a message that says what it was called with."""
    try:
        return loss(lam, theta, batch)
    except RefbloError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        given = "no batch" if batch is None else f"a batch of shape {tuple(batch.shape)}"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LossError(
            f"{name} must be a function of lam of shape {tuple(lam.shape)}, theta of shape "
            f"{tuple(theta.shape)} (both {theta.dtype} on {theta.device}) and {given}, got an error "
            f"from it: {reason}; compare with the shapes, dtypes and devices of what the loss holds"
        ) from error


def _check_form(name: str, vector: object) -> Tensor:
    """A floating-point vector with at least one entry."""
    if not isinstance(vector, Tensor):
        raise ArgumentTypeError(
            f"{name} must be a torch.Tensor, got {type(vector).__name__}; convert it with torch.as_tensor"
        )
    if not vector.is_floating_point():
        raise ArgumentTypeError(
            f"{name} must have a floating-point dtype, got {vector.dtype}; convert it with "
            ".to(torch.float64)"
        )
    if vector.is_inference() and not torch.is_inference_mode_enabled():
        raise ArgumentError(
            f"{name} must be a tensor that autograd can use, got one made in torch.inference_mode(); "
            "give a copy, made outside that block with .clone()"
        )
    if vector.ndim != 1 or vector.numel() == 0:
        raise ArgumentError(
            f"{name} must be a vector with at least one entry, got shape {tuple(vector.shape)}; "
            "flatten it (refblo.ravel does so for modules and trees)"
        )
    return vector


def _check_finite(name: str, vector: Tensor) -> Tensor:
    finite = torch.isfinite(vector)
    if not decide(finite.all(), without_numbers=True):
        position = int((~finite).nonzero()[0])
        raise ArgumentError(
            f"{name} must be finite, got {vector[position].item()} at position {position}; "
            "find where this number was computed"
        )
    return vector


def _check_same_kind(name: str, vector: Tensor, like_name: str, like: Tensor) -> None:
    if (vector.dtype, vector.device) != (like.dtype, like.device):
        raise ArgumentTypeError(
            f"{name} must have the dtype and device of {like_name} ({like.dtype} on {like.device}), got "
            f"{vector.dtype} on {vector.device}; convert one of them with .to(...)"
        )


def _check_batches(name: str, batches: Batches, draws: Draws, stream: Stream) -> Batch:
    """The batch of step 0, which is the same whenever it is asked for and has an element."""
    batch, again = batches(draws, stream, 0), batches(draws, stream, 0)
    if batch is None and again is None:
        return None
    if batch is None or again is None or not torch.equal(batch, again):
        raise ArgumentError(
            f"{name} must be a function of (draws, stream, step), got two different batches for step 0; "
            "draw from the `draws` that it is given, not from a generator of its own"
        )
    if batch.numel() == 0:
        raise ArgumentError(
            f"{name} must give batches of at least one element, got shape {tuple(batch.shape)}; "
            "choose a batch size of at least 1"
        )
    return batch


def _check_initial(problem: BilevelProblem, lam: Lam, theta: Theta) -> None:
    """θ⁰(λ) is deterministic and depends on λ, and its products have the right shapes."""
    initial = problem.initial
    if not isinstance(initial, LamInitial):
        return
    if not torch.equal(theta, initial(lam).detach()):
        raise ArgumentError(
            "initial must be a deterministic function of lam, got two different points for the same "
            "lam; draw its randomness beforehand"
        )
    at = leaf(lam)
    if not depends(initial(at), at) and (initial.vjp is None or initial.jvp is None):
        raise ArgumentError(
            "initial must depend on lam when it is a LamInitial, got a point without a graph to lam; use "
            "FixedInitial, or look for .detach() or torch.no_grad inside it"
        )
    if initial.vjp is not None:
        _check_product("initial.vjp", initial.vjp, (lam, theta), lam)
    if initial.jvp is not None:
        _check_product("initial.jvp", initial.jvp, (lam, lam), theta)


def _check_closed_form(inner: Separable, lam: Lam, theta: Theta) -> None:
    products = inner.products
    if products is not None:
        _check_product("inner.products.gradient", products.gradient, (lam, theta), theta)
        _check_product("inner.products.mixed", products.mixed, (lam, theta, theta), lam)


def _check_product(
    name: str, product: Callable[..., Tensor], arguments: tuple[Tensor, ...], like: Tensor
) -> None:
    got = product(*arguments)
    if got.shape != like.shape or got.dtype != like.dtype:
        raise ArgumentError(
            f"{name} must return a vector of shape {tuple(like.shape)} and {like.dtype}, got shape "
            f"{tuple(got.shape)} and {got.dtype}; see its docstring for the shapes"
        )


def _check_influence(
    problem: BilevelProblem,
    lam: Lam,
    theta: Theta,
    inner_batch: Batch,
    outer_batch: Batch,
    reached: bool | None,
) -> None:
    """Raise for a λ that does not reach the outer objective, or only where no second derivative shows it.

    Args:
        problem: with an initial point that does not depend on λ.
        lam: λ.
        theta: θ⁰.
        inner_batch: the inner loss's batch.
        outer_batch: the outer loss's batch.
        reached: whether the inner loss's gradient by θ depends on λ; None if torch cannot tell.
    """
    at = leaf(lam)
    if not depends(problem.inner(at, leaf(theta), inner_batch), at):
        at = leaf(lam)
        direct = depends(problem.outer(at, leaf(theta), outer_batch), at)
        where = (
            "outer depends on it directly only" if direct else "outer does not depend on it either"
        )
        raise LossError(
            f"inner must depend on lam when the initial point does not, got no graph to lam ({where}); "
            "use lam inside inner, or give LamInitial for problems that tune the initial point"
        )
    if reached is False:
        raise MissingProductError(
            "inner must have a mixed derivative ∂²inner/∂lam∂theta, got a gradient in theta that does not "
            "depend on lam (lam is only added on); couple lam with theta inside the inner loss"
        )
