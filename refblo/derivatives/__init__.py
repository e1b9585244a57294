"""Every derivative that the package takes.

Reverse mode and forward mode share nothing but how torch is called, so that an estimator built on one can be
judged by an oracle built on the other. Products are written for a Hessian H = ∂²L/∂θ² (n × n) and a mixed
derivative C = ∂²L/∂θ∂λ (n × p); the paper's B is −C/τ.

Arguments may be part of no graph: results never are.
"""

from refblo.derivatives._calls import leaf
from refblo.derivatives._finite import gradient_not_finite
from refblo.derivatives._first_use import import_what_is_late
from refblo.derivatives._functional import functional_gradient
from refblo.derivatives._lock import PROCESS_LOCK, exclusive
from refblo.derivatives._zero_tangents import told_shapes
from refblo.derivatives.batched import (
    batched_inner_gradients,
    batched_lam_gradients,
    batched_mixed_products,
    batched_outer_values,
)
from refblo.derivatives.forward import (
    function_and_tangents,
    gradient_and_tangent,
    gradient_and_tangents,
    initial_jvp,
    outer_directional,
)
from refblo.derivatives.reverse import (
    BothProducts,
    Inner,
    MixedProduct,
    gradients_if_any,
    hessian_and_mixed_products,
    hessian_product_function,
    initial_vjp,
    inner_gradient,
    inner_gradient_and_mixed,
    inner_gradient_and_products,
    is_one,
    mixed_product,
    outer_gradients,
    outer_gradients_if_any,
    outer_theta_gradient,
    pull_back,
    recorded_bytes,
    recorded_inner_gradient,
    recorded_outer,
)

__all__ = [
    "PROCESS_LOCK",
    "BothProducts",
    "Inner",
    "MixedProduct",
    "batched_inner_gradients",
    "batched_lam_gradients",
    "batched_mixed_products",
    "batched_outer_values",
    "exclusive",
    "function_and_tangents",
    "functional_gradient",
    "gradient_and_tangent",
    "gradient_and_tangents",
    "gradient_not_finite",
    "gradients_if_any",
    "hessian_and_mixed_products",
    "hessian_product_function",
    "import_what_is_late",
    "initial_jvp",
    "initial_vjp",
    "inner_gradient",
    "inner_gradient_and_mixed",
    "inner_gradient_and_products",
    "is_one",
    "leaf",
    "mixed_product",
    "outer_directional",
    "outer_gradients",
    "outer_gradients_if_any",
    "outer_theta_gradient",
    "pull_back",
    "recorded_bytes",
    "recorded_inner_gradient",
    "recorded_outer",
    "told_shapes",
]
