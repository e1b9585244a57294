"""How many floating-point operations a kernel takes, as a formula of its arguments' shapes.

torch has formulas for matrix-matrix products, convolutions and attention on GPUs. These are the ones that
it lacks. The convention is torch's: a sum of k products counts 2k, and a factorisation or a substitution
counts every multiplication, addition, division and root of the textbook algorithm. Elementwise kernels
count nothing here; `refblo.cost.meter` counts their elements.
"""

from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

Formula = Callable[..., int]
"""A kernel's arguments, and what it returned as `out_val`, to its operations."""

aten = torch.ops.aten

UNKNOWN = frozenset(
    {"_linalg_eigh", "_linalg_svd", "linalg_eig", "_linalg_eigvals", "linalg_lstsq"}
)
"""Iterations whose operations depend on the numbers: a count that meets one is a lower bound."""


def lu(n: int) -> int:
    """Gaussian elimination of an n × n matrix, the comparisons of the pivoting not counted."""
    return n * (n - 1) // 2 + n * (n - 1) * (2 * n - 1) // 3


def cholesky(n: int) -> int:
    """The Cholesky factor of an n × n matrix; a root counts one."""
    return n * (n + 1) * (2 * n + 1) // 6


def substitution(n: int, columns: int, unit: bool) -> int:
    """A triangular solve for some right-hand sides; no divisions where the diagonal is one."""
    return columns * n * (n - 1 if unit else n)


def qr(m: int, n: int) -> int:
    """Householder triangularisation of m × n (m ≥ n) and its first n columns of Q, to leading order."""
    return 4 * m * n * n - 4 * n**3 // 3 if m >= n else 4 * m * m * n - 4 * m**3 // 3


def _batch(matrix: Tensor) -> int:
    return prod(matrix.shape[:-2])


def _columns(right: Tensor, matrix: Tensor, left: bool = True) -> int:
    """How many right-hand sides: a vector (or a batch of them) is one."""
    if right.ndim == matrix.ndim - 1:
        return 1
    return int(right.shape[-1] if left else right.shape[-2])


def _mv(matrix: Tensor, _: Tensor, **__: object) -> int:
    return 2 * matrix.numel()


def _dot(vector: Tensor, _: Tensor, **__: object) -> int:
    return 2 * vector.numel()


def _addmv(_: Tensor, matrix: Tensor, *__: object, **___: object) -> int:
    return 2 * matrix.numel()


def _addr(_: Tensor, left: Tensor, right: Tensor, **__: object) -> int:
    return 2 * left.numel() * right.numel()


def _addbmm(_: Tensor, left: Tensor, right: Tensor, **__: object) -> int:
    return 2 * left.numel() * right.shape[-1]


def _mul(left: object, right: object, out_val: Tensor, **_: object) -> int:
    """An outer product reaches the kernels as a product that expands both; every other one is elementwise."""
    if not (isinstance(left, Tensor) and isinstance(right, Tensor)):
        return 0
    size = out_val.numel()
    expands = size > max(left.numel(), right.numel()) and min(left.numel(), right.numel()) > 1
    return size if expands else 0


def _lu_factor(matrix: Tensor, *_: object, **__: object) -> int:
    return _batch(matrix) * lu(matrix.shape[-1])


def _lu_solve(factors: Tensor, _: Tensor, right: Tensor, *, left: bool = True, **__: object) -> int:
    n, k = factors.shape[-1], _columns(right, factors, left)
    return _batch(factors) * (substitution(n, k, True) + substitution(n, k, False))


def _solve(matrix: Tensor, right: Tensor, *, left: bool = True, **_: object) -> int:
    n, k = matrix.shape[-1], _columns(right, matrix, left)
    return _batch(matrix) * (lu(n) + substitution(n, k, True) + substitution(n, k, False))


def _inverse(matrix: Tensor, *_: object, **__: object) -> int:
    n = matrix.shape[-1]
    return _batch(matrix) * (lu(n) + substitution(n, n, True) + substitution(n, n, False))


def _cholesky(matrix: Tensor, *_: object, **__: object) -> int:
    return _batch(matrix) * cholesky(matrix.shape[-1])


def _cholesky_solve(right: Tensor, factor: Tensor, *_: object, **__: object) -> int:
    return _batch(factor) * 2 * substitution(factor.shape[-1], right.shape[-1], False)


def _cholesky_inverse(factor: Tensor, *_: object, **__: object) -> int:
    n = factor.shape[-1]
    return _batch(factor) * 2 * substitution(n, n, False)


def _solve_triangular(
    matrix: Tensor, right: Tensor, *, left: bool = True, unitriangular: bool = False, **_: object
) -> int:
    k = _columns(right, matrix, left)
    return _batch(matrix) * substitution(matrix.shape[-1], k, unitriangular)


def _triangular_solve(
    right: Tensor,
    matrix: Tensor,
    upper: bool = True,  # noqa: ARG001  # the kernel's own signature
    transpose: bool = False,  # noqa: ARG001
    unitriangular: bool = False,
    **_: object,
) -> int:
    return _batch(matrix) * substitution(matrix.shape[-1], right.shape[-1], unitriangular)


def _qr(matrix: Tensor, *_: object, **__: object) -> int:
    return _batch(matrix) * qr(matrix.shape[-2], matrix.shape[-1])


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]  # torch's own


def _attention_backward(
    slope: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object
) -> int:
    shapes = (slope.shape, query.shape, key.shape, value.shape)
    return int(sdpa_backward_flop_count(*shapes))  # type: ignore[no-untyped-call]  # torch's own


OURS: Mapping[Any, Formula] = {
    aten.mv: _mv,
    aten.dot: _dot,
    aten.vdot: _dot,
    aten.addmv: _addmv,
    aten.addmv_: _addmv,
    aten.addr: _addr,
    aten.addbmm: _addbmm,
    aten.mul: _mul,
    aten.linalg_lu_factor_ex: _lu_factor,
    aten.linalg_lu: _lu_factor,
    aten.linalg_lu_solve: _lu_solve,
    aten._linalg_solve_ex: _solve,
    aten.linalg_inv_ex: _inverse,
    aten.linalg_cholesky_ex: _cholesky,
    aten.cholesky_solve: _cholesky_solve,
    aten.cholesky_inverse: _cholesky_inverse,
    aten.linalg_solve_triangular: _solve_triangular,
    aten.triangular_solve: _triangular_solve,
    aten.linalg_qr: _qr,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""The formulas that torch lacks, by kernel."""


@cache
def formulas() -> Mapping[Any, Formula]:
    """The formulas of torch and ours, by kernel."""
    return {**flop_registry, **OURS}
