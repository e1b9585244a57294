"""The matrix of ordinary code in JAX: its page is what was found; all of its cells, marked full, need optax.

The cells are functions of their places and seeds: no test here is statistical.
"""

import json
from dataclasses import asdict
from importlib.util import find_spec

import pytest

from tests.conformance.ordinary_jax.page import PAGE, RESULTS, Record, render

FOUND: Record = json.loads(RESULTS.read_text(encoding="utf-8"))

needs_optax = pytest.mark.skipif(
    find_spec("optax") is None or find_spec("jax") is None,
    reason="optax is not installed: make peers does",
)

needs_flax = pytest.mark.skipif(
    find_spec("flax") is None or find_spec("optax") is None,
    reason="flax is not installed: make peers does",
)


def test_the_page_is_what_was_found_and_all_is_as_expected() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(FOUND)
    assert FOUND["bad"] == []
    assert FOUND["good"] == FOUND["cells"] == sum(count for _, count in FOUND["kinds"].values())
    assert FOUND["crashes"] == FOUND["refusals"] == FOUND["false"] == 0
    assert FOUND["named_alike"] == FOUND["named_in_torch"]


def test_every_kind_of_code_is_on_the_page() -> None:
    assert len(FOUND["losses"]) >= 30
    assert len(FOUND["networks"]) >= 10
    assert set(FOUND["kinds"]) == {
        f"{precision} | {expected}"
        for precision in ("float64", "float32")
        for expected in ("right", "wrong")
    }


@needs_optax
@pytest.mark.full
def test_every_loss_of_optax_is_in_the_matrix_with_its_value_in_torch() -> None:
    import jax
    import numpy as np
    import optax
    import torch

    from tests.conformance.ordinary_jax.losses import LOSSES

    assert set(LOSSES) == {name for name in dir(optax.losses) if not name.startswith("_")}
    assert set(FOUND["losses"]) == set(LOSSES)
    with jax.enable_x64(True):
        for name, loss in LOSSES.items():
            if isinstance(loss.in_torch, str):
                continue
            draw = np.random.default_rng(1)
            scores, targets = draw.normal(size=(8, 3)), loss.targets(draw)
            value = loss.in_optax(jax.numpy.asarray(scores), jax.numpy.asarray(targets)).mean()
            twin = loss.in_torch(torch.from_numpy(scores), torch.from_numpy(targets)).mean()
            assert float(value) == pytest.approx(float(twin), rel=1e-12), name


@needs_optax
@pytest.mark.full
@pytest.mark.parametrize("number", range(8))
def test_ordinary_code_in_jax_has_the_right_outcome(number: int) -> None:
    from tests.conformance.ordinary_jax.matrix import every, run

    outcomes = [outcome for _, outcome in run(every(10)[number::8])]
    assert len(outcomes) > 0
    assert [asdict(outcome) for outcome in outcomes if not outcome.good] == []


@needs_flax
@pytest.mark.full
def test_networks_in_flax_have_their_scores_in_torch() -> None:
    import jax
    import numpy as np
    import torch

    from tests.conformance.ordinary_jax.flax_networks import FLAX_NETWORKS

    for precision in ("float64", "float32"):
        with jax.enable_x64(precision == "float64"):
            for name, network in FLAX_NETWORKS.items():
                draw = np.random.default_rng(2)
                named = {
                    key: draw.normal(size=shape).astype(precision)
                    for key, shape in network.shapes.items()
                }
                x = draw.normal(size=(8, 6)).astype(precision)
                held = network.held({key: jax.numpy.asarray(value) for key, value in named.items()})
                assert {
                    key: value.shape for key, value in network.flat(held).items()
                } == network.shapes
                twin = network.in_torch(
                    {key: torch.from_numpy(value) for key, value in named.items()},
                    torch.from_numpy(x),
                )
                scores = network.apply(held, jax.numpy.asarray(x))
                close = 1e-12 if precision == "float64" else 1e-5
                np.testing.assert_allclose(scores, twin, rtol=close, atol=close, err_msg=name)


@needs_flax
@pytest.mark.full
@pytest.mark.parametrize("network", ["flax BatchNorm", "flax dropout", "flax nnx"])
def test_code_in_flax_has_the_right_outcome(network: str) -> None:
    from tests.conformance.ordinary_jax.matrix import cells, run

    losses = ("softmax_cross_entropy", "log_cosh")
    chosen = [cell for cell in cells() if cell.network == network and cell.loss in losses]
    outcomes = [outcome for _, outcome in run(chosen)]
    assert {outcome.expected for outcome in outcomes} == {"right", "wrong"}
    assert [asdict(outcome) for outcome in outcomes if not outcome.good] == []
