"""Reverse mode: gradients, products with the Hessian and the mixed derivative, pull-backs through a graph."""

from collections.abc import Callable

import torch
from torch import Tensor

from refblo.cost import count, is_fake, uncounted
from refblo.derivatives._calls import explain, jvp, leaf
from refblo.problem import Composed, FixedInitial, Initial, Separable
from refblo.types import Batch, Lam, Loss, Scalar, Theta

Inner = Loss | Separable | Composed
MixedProduct = Callable[[Tensor], Tensor]
BothProducts = Callable[[Tensor], tuple[Tensor, Tensor]]


def _graded(value: Tensor, theta: Tensor, seed: Tensor | None = None) -> Tensor:
    """∂value/∂theta with a graph of its own, for what differentiates it again."""
    try:
        (gradient,) = torch.autograd.grad((value,), (theta,), (seed,), create_graph=True)
    except RuntimeError as error:  # torch's NotImplementedError is one
        explain(error)
        raise
    return gradient


def inner_gradient(inner: Inner, lam: Lam, theta: Theta, batch: Batch) -> Theta:
    """∂_θ L_T, shape (n,)."""
    count("inner_gradients")
    theta = leaf(theta)
    if lam.requires_grad:  # small problems notice a call that changes nothing
        lam = lam.detach()
    if isinstance(inner, Separable) and inner.products is not None:
        (gradient,) = torch.autograd.grad((inner.data(theta, batch),), (theta,))
        return gradient + inner.products.gradient(lam, theta.detach())
    (gradient,) = torch.autograd.grad((inner(lam, theta, batch),), (theta,))
    return gradient


def outer_theta_gradient(outer: Loss, lam: Lam, theta: Theta, batch: Batch) -> Theta:
    """∂_θ f, shape (n,)."""
    count("outer_gradients")
    theta = leaf(theta)
    # A detached λ is not detached again: on small problems a call costs as much as a kernel.
    lam = lam.detach() if lam.requires_grad else lam
    (gradient,) = torch.autograd.grad(outer(lam, theta, batch), theta)
    return gradient


def outer_gradients(outer: Loss, lam: Lam, theta: Theta, batch: Batch) -> tuple[Lam, Theta]:
    """(∂_λ f, ∂_θ f), shapes (p,) and (n,)."""
    by_lam, by_theta = outer_gradients_if_any(outer, lam, theta, batch)
    return torch.zeros_like(lam) if by_lam is None else by_lam, by_theta


def outer_gradients_if_any(
    outer: Loss, lam: Lam, theta: Theta, batch: Batch
) -> tuple[Lam | None, Theta]:
    """`outer_gradients` with None for ∂_λ f where f does not depend on λ: at large p zeros cost time."""
    count("outer_gradients")
    lam, theta = leaf(lam), leaf(theta)
    value = outer(lam, theta, batch)
    by_lam, by_theta = gradients_if_any(value, lam, theta)
    return by_lam, torch.zeros_like(theta) if by_theta is None else by_theta


def gradients_if_any(value: Scalar, *leaves: Tensor) -> tuple[Tensor | None, ...]:
    """∂value/∂leaf for each leaf, None where autograd finds no path to it."""
    return torch.autograd.grad((value,), leaves, allow_unused=True)


def inner_gradient_and_mixed(
    inner: Inner, lam: Lam, theta: Theta, batch: Batch
) -> tuple[Theta, MixedProduct]:
    """∂_θ L_T, shape (n,), and the product v ↦ v·C, shape (p,), that eq. (23) asks for.

    With a declared structure the product does not differentiate twice through the network. The product
    may be used once.

    Raises:
        MissingProductError: (from the product or the call) if a kernel has no second derivative.
    """
    if isinstance(inner, Separable):
        return _separable_gradient_and_mixed(inner, lam, theta, batch)
    if isinstance(inner, Composed):
        return _composed_gradient_and_mixed(inner, lam, theta, batch)
    count("inner_gradients")
    lam, theta = leaf(lam), leaf(theta)
    gradient = _graded(inner(lam, theta, batch), theta)

    def mixed(v: Tensor) -> Tensor:
        count("mixed_products")
        return pull_back((gradient,), (lam,), (v,))[0]

    return gradient.detach(), mixed


def pull_back(
    outputs: tuple[Tensor, ...],
    inputs: tuple[Tensor, ...],
    weights: tuple[Tensor, ...],
    keep: bool = False,
) -> tuple[Tensor, ...]:
    """Σ_i weights_i·∂outputs_i/∂inputs, with zeros for what the outputs do not depend on.

    Args:
        outputs: tensors that may be part of a graph.
        inputs: leaves, or intermediate tensors of the graph.
        weights: one for each output, of its shape.
        keep: keep the graph for another call.

    Raises:
        MissingProductError: if a kernel in the graph has no second derivative.
    """
    # Loops, not generators: on small problems what they take shows beside the kernels.
    if [output for output in outputs if not output.requires_grad]:
        pairs = [pair for pair in zip(outputs, weights, strict=True) if pair[0].requires_grad]
        if not pairs:
            return tuple(torch.zeros_like(tensor) for tensor in inputs)
        outputs, weights = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
    try:
        pulled: tuple[Tensor | None, ...] = torch.autograd.grad(
            outputs, inputs, weights, retain_graph=keep, allow_unused=True
        )
    except RuntimeError as error:  # torch's NotImplementedError is one
        explain(error)
        raise
    return tuple(
        [
            torch.zeros_like(tensor) if found is None else found
            for tensor, found in zip(inputs, pulled, strict=True)
        ]
    )


def _separable_gradient_and_mixed(
    inner: Separable, lam: Lam, theta: Theta, batch: Batch
) -> tuple[Theta, MixedProduct]:
    count("inner_gradients")
    start = leaf(theta)
    (gradient,) = torch.autograd.grad(inner.data(start, batch), start)
    products = inner.products
    if products is not None:
        lam, theta = lam.detach(), theta.detach()
        gradient = gradient + products.gradient(lam, theta)

        def closed_form(v: Tensor) -> Tensor:
            count("mixed_products")
            return products.mixed(lam, theta, v)

        return gradient, closed_form

    lam = leaf(lam)
    penalty = _graded(inner.regulariser(lam, start), start)

    def mixed(v: Tensor) -> Tensor:
        count("mixed_products")
        return pull_back((penalty,), (lam,), (v,))[0]

    return gradient + penalty.detach(), mixed


def _composed_gradient_and_mixed(
    inner: Composed, lam: Lam, theta: Theta, batch: Batch
) -> tuple[Theta, MixedProduct]:
    """v·C = ∂_λ⟨∂_z loss(λ, z), J v⟩ with z = outputs(θ), J v by one forward-mode product."""
    count("inner_gradients")
    lam, start = leaf(lam), leaf(theta)
    outputs = inner.outputs(start, batch)
    cut = leaf(outputs)
    by_outputs = _graded(inner.loss(lam, cut, batch), cut)
    (gradient,) = torch.autograd.grad(outputs, start, by_outputs.detach())

    def mixed(v: Tensor) -> Tensor:
        count("mixed_products")
        _, pushed = jvp(lambda t: inner.outputs(t, batch), (theta.detach(),), (v,))
        return pull_back((by_outputs,), (lam,), (pushed,))[0]

    return gradient, mixed


def inner_gradient_and_products(
    inner: Inner, lam: Lam, theta: Theta, batch: Batch
) -> tuple[Theta, BothProducts]:
    """∂_θ L_T, shape (n,), and v ↦ (H v, v·C), shapes (n,) and (p,), by one double backward.

    The products may be used once.

    Raises:
        MissingProductError: (from the products or the call) if a kernel has no second derivative.
    """
    count("inner_gradients")
    lam, theta = leaf(lam), leaf(theta)
    gradient = _graded(inner(lam, theta, batch), theta)

    def products(v: Tensor) -> tuple[Tensor, Tensor]:
        count("hessian_products")
        count("mixed_products")
        hessian_v, v_mixed = pull_back((gradient,), (theta, lam), (v,))
        return hessian_v, v_mixed

    return gradient.detach(), products


def recorded_inner_gradient(inner: Inner, lam: Lam, theta: Theta, batch: Batch) -> Theta:
    """∂_θ L_T as part of the graph of `lam` and `theta`, which both require a gradient, shape (n,).

    A later `pull_back` through it forms one product with H and one with C; they are counted here.

    Raises:
        MissingProductError: if a kernel has no second derivative.
    """
    count("inner_gradients")
    count("hessian_products")
    count("mixed_products")
    return _graded(inner(lam, theta, batch), theta, _one(theta))


_ones: dict[tuple[torch.dtype, torch.device], Tensor] = {}


def _one(like: Tensor) -> Tensor:
    """The derivative of a scalar by itself: kept, which saves a call for each gradient that is recorded."""
    kind = (like.dtype, like.device)
    with uncounted():
        # A kept one must have a number: without numbers it is made for each call, and costs nothing.
        if is_fake(like):
            return torch.ones((), dtype=like.dtype, device=like.device)
        if kind not in _ones:
            _ones[kind] = torch.ones((), dtype=like.dtype, device=like.device)
        return _ones[kind]


def is_one(tensor: Tensor) -> bool:
    """Whether a tensor is one of the kept ones."""
    one = _ones.get((tensor.dtype, tensor.device)) if tensor.ndim == 0 else None
    return one is not None and one.untyped_storage()._cdata == tensor.untyped_storage()._cdata


def recorded_outer(outer: Loss, lam: Lam, theta: Theta, batch: Batch) -> Scalar:
    """The outer loss as part of the graph of `lam` and `theta`; a later `pull_back` is counted here."""
    count("outer_gradients")
    return outer(lam, theta, batch)


def recorded_bytes(inner: Inner, lam: Lam, theta: Theta, batch: Batch) -> int:
    """How many bytes the graph of one `recorded_inner_gradient` keeps alive, at most.

    What the loss holds on to anyway (its data) counts too, because nothing tells it apart.
    """
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> int:
        saved.append(tensor)
        return len(saved) - 1

    # Packed as positions, not as tensors: a node that held its own output could never be freed.
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda position: saved[position]):
        lam, theta = leaf(lam), leaf(theta)
        _graded(inner(lam, theta, batch), theta)
    storages = {
        # The storage's address, which one without numbers has as well.
        storage._cdata: storage.nbytes()
        for storage in (tensor.untyped_storage() for tensor in saved)
    }
    saved.clear()
    return sum(storages.values())


def mixed_product(inner: Inner, lam: Lam, theta: Theta, batch: Batch, v: Theta) -> Lam:
    """v·C, shape (p,), in the cheapest way the structure allows.

    Raises:
        MissingProductError: if a kernel has no second derivative.
    """
    return inner_gradient_and_mixed(inner, lam, theta, batch)[1](v)


def hessian_product_function(loss: Loss, lam: Lam, theta: Theta, batch: Batch) -> MixedProduct:
    """The function v ↦ H v, shape (n,), that shares one graph between its calls.

    Raises:
        MissingProductError: (from the function) if a kernel has no second derivative.
    """
    theta = leaf(theta)
    gradient = _graded(loss(lam.detach(), theta, batch), theta)

    def product(v: Tensor) -> Tensor:
        count("hessian_products")
        return pull_back((gradient,), (theta,), (v,), keep=True)[0]

    return product


def hessian_and_mixed_products(
    inner: Inner, lam: Lam, theta: Theta, batch: Batch
) -> tuple[MixedProduct, MixedProduct]:
    """The functions v ↦ H v and v ↦ v·C, shapes (n,) and (p,), the second to be used at most once.

    Where no structure is declared they share one graph.

    Raises:
        MissingProductError: (from the functions or the call) if a kernel has no second derivative.
    """
    if isinstance(inner, Separable | Composed):
        return (
            hessian_product_function(inner, lam, theta, batch),
            lambda v: mixed_product(inner, lam, theta, batch, v),
        )
    count("inner_gradients")
    lam, theta = leaf(lam), leaf(theta)
    gradient = _graded(inner(lam, theta, batch), theta)

    def hessian(v: Tensor) -> Tensor:
        count("hessian_products")
        return pull_back((gradient,), (theta,), (v,), keep=True)[0]

    def mixed(v: Tensor) -> Tensor:
        count("mixed_products")
        return pull_back((gradient,), (lam,), (v,))[0]

    return hessian, mixed


def initial_vjp(initial: Initial, lam: Lam, v: Theta) -> Lam:
    """v·dθ⁰/dλ, shape (p,); zero when θ⁰ does not depend on λ."""
    if isinstance(initial, FixedInitial):
        return torch.zeros_like(lam)
    if initial.vjp is not None:
        return initial.vjp(lam, v)
    lam = leaf(lam)
    return pull_back((initial.function(lam),), (lam,), (v,))[0]
