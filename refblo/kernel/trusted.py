"""What is not looked into: the code of Python's and torch's own functions, and what of torch's is compared.

A trusted function depends on its arguments, on what it closes over, and on the settings that are read here.
"""

from collections.abc import Hashable
from types import FunctionType
from typing import Any

import torch
from torch.nn.modules import module as hooks
from torch.overrides import _get_current_function_mode_stack

PACKAGES = frozenset(
    {
        *("abc", "beartype", "builtins", "cmath", "collections", "enum", "functools", "itertools"),
        *("jaxtyping", "math", "numbers", "numpy", "operator", "torch", "types", "typing"),
        *("typing_extensions", "_operator", "_collections", "_collections_abc", "_functools"),
    }
)
_NOT_THESE = (
    *("numpy.ctypeslib", "numpy.lib", "numpy.random", "numpy.testing"),
    *("torch._dynamo", "torch._inductor", "torch.cuda", "torch.distributed", "torch.hub"),
    *("torch.jit", "torch.library", "torch.multiprocessing", "torch.profiler", "torch.random"),
    *("torch.serialization", "torch.utils.data", "torch.utils.cpp_extension"),
)
READS_STATE = frozenset(
    {
        *("attrgetter", "methodcaller", "get_num_threads", "get_num_interop_threads"),
        *("fromfile", "geterr", "get_rng_state", "initial_seed", "load", "memmap", "seed"),
    }
)
"""Names of functions and classes of these packages whose outcome depends on more than their arguments."""

_GLOBAL_HOOKS = (
    *("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks"),
    *("_global_backward_pre_hooks", "_global_forward_hooks_always_called"),
)


def is_trusted(module: str | None) -> bool:
    """Whether code of a module is not looked into."""
    name = module or ""
    return name.partition(".")[0] in PACKAGES and not any(
        name == one or name.startswith(one + ".") for one in _NOT_THESE
    )


def home(function: FunctionType) -> str:
    """The module that a function was written in (its `__module__` may have been copied from another)."""
    return str(function.__globals__.get("__name__", ""))


def checked_by(function: FunctionType) -> Any:
    """The function that a shape checker wraps, None where it is none of these."""
    file = function.__code__.co_filename
    checker = file.startswith("<@beartype") or home(function).partition(".")[0] == "jaxtyping"
    return getattr(function, "__wrapped__", None) if checker else None


def settings() -> Hashable:
    """Settings of torch that decide which operations a function does; None where they cannot be compared."""
    modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]  # torch's
    own = all(type(mode).__module__.startswith("refblo.") for mode in modes)
    if not own or any(getattr(hooks, name, None) for name in _GLOBAL_HOOKS):
        return None
    core = torch._C
    return (
        torch.get_default_dtype(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.get_autocast_dtype("cuda"),
        torch.are_deterministic_algorithms_enabled(),
        core._get_flash_sdp_enabled(),
        core._get_mem_efficient_sdp_enabled(),
        core._get_math_sdp_enabled(),
        core._get_mkldnn_enabled(),
        torch.is_inference_mode_enabled(),
    )
