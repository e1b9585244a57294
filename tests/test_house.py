"""What tests/conftest.py promises holds while the tests run."""

import socket

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from hypothesis import settings

from refblo.types import ErrorKind, Estimand, Truth


def a_truth(value: torch.Tensor, error: float) -> Truth:
    """State a truth about nothing in particular."""
    return Truth(value, error, ErrorKind.CERTIFIED, Estimand.IMPLICIT, "none")


def test_a_wrong_shape_is_refused_at_run_time() -> None:
    with pytest.raises(BeartypeCallHintViolation, match="value"):
        a_truth(torch.zeros(2, 3), 0.0)


def test_an_integer_tensor_is_refused_where_a_float_is_annotated() -> None:
    with pytest.raises(BeartypeCallHintViolation, match="value"):
        a_truth(torch.zeros(2, dtype=torch.int64), 0.0)


def test_an_int_may_stand_where_a_float_is_annotated() -> None:
    assert a_truth(torch.zeros(2), 0).error == 0


def test_a_connection_to_another_machine_is_refused() -> None:
    # 192.0.2.0/24 is reserved for documentation (RFC 5737): nothing answers there.
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock,
        pytest.raises(RuntimeError, match="must not use the network"),
    ):
        sock.connect(("192.0.2.1", 80))


def test_a_name_lookup_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"asked for 'example\.org'"):
        socket.getaddrinfo("example.org", 80)


def test_processes_of_this_machine_may_talk() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(b"x")
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b"x"


def test_examples_are_repeatable_and_have_no_deadline() -> None:
    assert settings.default is not None
    assert settings.default.derandomize
    assert settings.default.deadline is None
    assert settings.default.max_examples >= 12
    assert settings.get_profile("full").max_examples >= 200


def test_torch_runs_on_one_thread() -> None:
    assert torch.get_num_threads() == 1
