"""What holds for every test: shapes are checked, examples repeat, nothing leaves the machine.

The import hook comes first: it rewrites modules of refblo while they are imported, so a module that
was imported before it goes unchecked.
"""

import gc
import sys

from tests import shape_checker

shape_checker.install("refblo")

import torch  # noqa: E402  (torch may be imported by refblo alone, so it waits for the hook as well)
from hypothesis import HealthCheck, Phase, settings  # noqa: E402

# The suite runs in one process a core; a thread pool in each would only fight the others.
torch.set_num_threads(1)

# Examples are a function of the test's source, so a failure is the same failure on every machine.
# Twelve examples keep the quick suite quick: the properties that the package stands on ask for 200
# themselves, and the full profile gives 200 to all. Neither a deadline nor the health check on slow
# generation says anything about the code: the first call into torch, or a busy core, trips them.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=12,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("full", settings.get_profile("ci"), max_examples=200)
# For planted errors: what fails is enough, a smaller example that fails takes a minute to find.
settings.register_profile(
    "planted", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("ci")


def pytest_collection_finish() -> None:
    """Leave what the whole suite has imported out of all collections of garbage.

    `refblo.cost.measure` collects before it counts, which takes 0.4 s where millions of objects are walked.
    """
    gc.collect()
    gc.freeze()


class NetworkUsedError(RuntimeError):
    """A test tried to reach another machine."""


_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def _refuse_network(event: str, args: tuple[object, ...]) -> None:
    """Raise on a connection or a name lookup that leaves this machine (an audit hook, PEP 578)."""
    if event == "socket.connect":
        address = args[
            1
        ]  # a path or bytes for a Unix socket, a tuple with the host first otherwise
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    if host is not None and host not in _LOOPBACK:
        raise NetworkUsedError(
            f"{event}: a test must not use the network, but this one asked for {host!r}; "
            "take data from scikit-learn's own files or generate it from a seed"
        )


sys.addaudithook(_refuse_network)
