"""Every formula against the textbook algorithm, run with a counter instead of numbers."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from refblo.cost import Meter
from refblo.cost.flops import cholesky, lu, qr, substitution

SIZES = st.integers(1, 7)


def flops(run: Callable[[], object]) -> int:
    with Meter() as meter:
        run()
    return int(meter.flops)


def elimination_by_hand(n: int) -> int:
    operations = 0
    for pivot in range(n):
        for _row in range(pivot + 1, n):
            operations += 1  # the multiplier's division
            for _column in range(pivot + 1, n):
                operations += 2  # a product and a subtraction
    return operations


def cholesky_by_hand(n: int) -> int:
    operations = 0
    for column in range(n):
        for row in range(column, n):
            operations += 2 * column  # a sum of products is taken off
            operations += 1  # the root on the diagonal, a division below it
            assert row >= column
    return operations


def substitution_by_hand(n: int, columns: int, unit: bool) -> int:
    operations = 0
    for _column in range(columns):
        for row in range(n):
            operations += 2 * row
            operations += 0 if unit else 1
    return operations


def general(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64) + 0.1 * torch.arange(n * n).reshape(n, n).to(
        torch.float64
    ) / (n * n)


@given(SIZES, SIZES, st.booleans())
def test_the_algorithms_take_the_operations_of_the_textbook(n: int, k: int, unit: bool) -> None:
    assert lu(n) == elimination_by_hand(n)
    assert cholesky(n) == cholesky_by_hand(n)
    assert substitution(n, k, unit) == substitution_by_hand(n, k, unit)


@given(SIZES, SIZES)
def test_products_with_vectors(m: int, n: int) -> None:
    A, x, y = torch.ones(m, n), torch.ones(n), torch.ones(m)
    by_hand = sum(2 for _row in range(m) for _column in range(n))
    assert flops(lambda: A @ x) == by_hand
    assert flops(lambda: y @ A) == by_hand
    assert flops(lambda: torch.addmv(y, A, x)) == by_hand
    assert flops(lambda: torch.addr(A, y, x)) == by_hand
    assert flops(lambda: torch.dot(x, x)) == 2 * n
    assert flops(lambda: torch.vdot(x, x)) == 2 * n


@given(st.integers(2, 7), st.integers(2, 7))
def test_an_outer_product_is_told_from_an_elementwise_one(m: int, n: int) -> None:
    x, y, A = torch.ones(n), torch.ones(m), torch.ones(m, n)
    assert flops(lambda: torch.outer(y, x)) == m * n
    assert flops(lambda: torch.ger(y, x)) == m * n
    assert flops(lambda: A * x) == 0
    assert flops(lambda: A * 2.0) == 0
    # What autograd forms for the matrix of a product with a vector.
    leaf = A.clone().requires_grad_()
    assert flops(lambda: torch.autograd.grad((leaf @ x).sum(), leaf)) == 2 * m * n + m * n


@given(SIZES, SIZES)
def test_solves(n: int, k: int) -> None:
    A, B, b = general(n), torch.ones(n, k, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    both = substitution_by_hand(n, 1, True) + substitution_by_hand(n, 1, False)
    elimination = elimination_by_hand(n)
    assert flops(lambda: torch.linalg.solve(A, b)) == elimination + both
    assert flops(lambda: torch.linalg.solve(A, B)) == elimination + k * both
    assert flops(lambda: torch.linalg.solve(A, B.T, left=False)) == elimination + k * both
    assert flops(lambda: torch.linalg.inv(A)) == elimination + n * both
    assert flops(lambda: torch.linalg.lu_factor(A)) == elimination
    assert flops(lambda: torch.linalg.lu(A)) == elimination
    factors, pivots = torch.linalg.lu_factor(A)
    assert flops(lambda: torch.linalg.lu_solve(factors, pivots, B)) == k * both


@given(SIZES, SIZES, st.booleans())
def test_solves_with_triangles(n: int, k: int, unit: bool) -> None:
    A, B = general(n), torch.ones(n, k, dtype=torch.float64)
    factor = torch.linalg.cholesky(A @ A.T)
    one = substitution_by_hand(n, k, False)
    assert flops(lambda: torch.linalg.cholesky(A @ A.T)) == cholesky_by_hand(n) + 2 * n**3
    assert flops(lambda: torch.cholesky_solve(B, factor)) == 2 * one
    assert flops(lambda: torch.cholesky_inverse(factor)) == 2 * substitution_by_hand(n, n, False)
    found = flops(lambda: torch.linalg.solve_triangular(factor, B, upper=False, unitriangular=unit))
    assert found == substitution_by_hand(n, k, unit)


def test_a_batch_counts_each_of_its_matrices() -> None:
    A, B = general(4).expand(3, 4, 4).clone(), torch.ones(3, 4, 2, dtype=torch.float64)
    one = flops(lambda: torch.linalg.solve(A[0], B[0]))
    assert flops(lambda: torch.linalg.solve(A, B)) == 3 * one
    assert flops(lambda: torch.linalg.inv(A)) == 3 * flops(lambda: torch.linalg.inv(A[0]))
    assert flops(lambda: torch.addbmm(torch.ones(4, 2).double(), A, B)) == 3 * 2 * 4 * 4 * 2


def test_triangularisation_is_counted_to_leading_order() -> None:
    # Golub and Van Loan: 2n²(m − n/3) for R, as many again for the first n columns of Q.
    assert qr(9, 6) == 2 * 2 * 6**2 * (9 - 6 // 3)
    assert flops(lambda: torch.linalg.qr(torch.ones(9, 6))) == qr(9, 6)
    assert qr(6, 9) == 2 * 2 * 6**2 * (9 - 6 // 3)


def test_attention_on_the_cpu_counts_what_its_products_do() -> None:
    batch, heads, tokens, width = 2, 3, 5, 4
    query, key, value = (
        torch.ones(batch, heads, tokens, width, requires_grad=True) for _ in range(3)
    )
    product = 2 * batch * heads * tokens * tokens * width

    def forward() -> Tensor:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return scaled_dot_product_attention(query, key, value)

    assert flops(forward) == 2 * product  # scores, and their sum with the values
    # Backward: the scores once more, and a product for each of ∂scores, ∂value, ∂query, ∂key.
    both = flops(lambda: torch.autograd.grad(forward().sum(), (query, key, value)))
    assert both == (2 + 5) * product


def test_what_torch_counts_is_counted_as_torch_does() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5)
    )
    x = torch.ones(2, 3, 8, 8)

    def both() -> object:
        return torch.autograd.grad(network(x).square().sum(), tuple(network.parameters()))

    with FlopCounterMode(display=False) as theirs:
        both()
    assert flops(both) == theirs.get_total_flops() > 0


@pytest.mark.parametrize("run", [torch.linalg.eigh, torch.linalg.svd], ids=["eigh", "svd"])
def test_an_iteration_without_a_formula_is_named(run: Callable[[Tensor], object]) -> None:
    with Meter() as meter:
        run(general(3))
    assert len(meter.uncountable) == 1
