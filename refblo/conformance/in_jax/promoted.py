"""Where a function of JAX arrays computes in a narrower dtype than float64, and the same function in float64.

JAX says of a function which operations it consists of (its jaxpr). `narrowing` looks through them for what
is given float64 and returns a narrower dtype, such as `astype(jnp.float32)`. `promoted` runs the same
operations in float64: each narrower array, constant and parameter becomes one of float64; the draws of random
numbers and the bits of an array stay those of the dtype in which they were written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.extend.core
import numpy as np

OnArrays = Callable[..., Sequence[Any]]

_WIDE = np.dtype(np.float64)

shaped: Any = jax.ShapeDtypeStruct
"""(shape, dtype) ↦ what JAX traces with in place of an array."""

_FINFO: Any = jax.numpy.finfo

_INLINE = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "checkpoint": "jaxpr"}
"""Operations that only run others, with the parameter that holds them."""

_LOOPS = frozenset({"scan", "while"})

_IN_THEIR_OWN = (
    "bitcast_convert_type",
    "callback",
    "ffi_call",
    "nextafter",
    "random_",
    "rng_",
    "threefry",
)
"""What is in the names of operations that another dtype would change: they are given their own."""


def narrowing(function: Callable[..., Any], given: Sequence[Any]) -> tuple[np.dtype, str] | None:
    """The narrowest dtype that an operation returns when given a float64 array that depends on the arguments.

    Args:
        function: any function of arrays that JAX can trace.
        given: its arguments, arrays or their shapes and dtypes.

    Returns:
        The dtype, and what the operation is; None where there is none.
    """
    closed = jax.make_jaxpr(function)(*given)
    least: tuple[np.dtype, str] | None = None
    for dtype, operation in _narrower(closed.jaxpr, [True] * len(closed.jaxpr.invars)):
        if least is None or _digits(dtype) < _digits(least[0]):
            least = dtype, operation
    return least


def _narrower(jaxpr: Any, depends: Sequence[bool]) -> Iterator[tuple[np.dtype, str]]:
    """Each operation that narrows what depends on arguments that do."""
    known = {id(var) for var, does in zip(jaxpr.invars, depends, strict=True) if does}
    for operation in jaxpr.eqns:
        inputs = [id(var) in known for var in operation.invars]
        if not any(inputs):
            continue
        known.update(id(var) for var in operation.outvars)
        inside = list(_jaxprs(operation.params))
        for part in inside:
            alike = len(part.invars) == len(inputs) and operation.primitive.name not in _LOOPS
            yield from _narrower(part, inputs if alike else [True] * len(part.invars))
        wide = any(
            str(_dtype(var)) == "float64"
            for var, does in zip(operation.invars, inputs, strict=True)
            if does
        )
        if wide and not inside:
            for var in operation.outvars:
                dtype = _dtype(var)
                if dtype is not None and _digits(dtype) < _digits(_WIDE):
                    name = operation.primitive.name
                    yield dtype, "astype" if name == "convert_element_type" else name


def _jaxprs(value: Any) -> Iterator[Any]:
    """The jaxprs in the parameters of an operation."""
    if isinstance(value, jax.extend.core.ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, jax.extend.core.Jaxpr):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _jaxprs(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _jaxprs(part)


def _dtype(var: Any) -> np.dtype | None:
    """Of a variable of a jaxpr, if it is a floating-point one."""
    return _floating(getattr(var.aval, "dtype", None))


def _floating(dtype: Any) -> np.dtype | None:
    real = dtype is not None and jax.numpy.issubdtype(dtype, np.floating)
    return np.dtype(dtype) if real else None


def _digits(dtype: np.dtype) -> float:
    return -float(_FINFO(dtype).eps)


def promoted(
    function: OnArrays, own: Sequence[Any], to: str, x64: Callable[[bool], Any]
) -> OnArrays:
    """(fixed, x₁, …, x_k) ↦ the function's values, of float64 arrays and in float64.

    Args:
        function: the caller's, of arrays in their own dtypes.
        own: the dtypes of x₁, …, x_k.
        to: the narrowest dtype that is replaced; wider ones are replaced too.
        x64: makes a context in which x64 is on, or off.

    Raises:
        Exception: what JAX raises on tracing functions that it cannot trace.
    """
    own_x64 = any(str(dtype) == "float64" for dtype in own)
    promotion = Promotion(_digits(np.dtype(jax.numpy.dtype(to))), own_x64, x64)

    def in_float64(fixed: object, *arrays: Any) -> Sequence[Any]:
        leaves, structure = jax.tree_util.tree_flatten(fixed)
        changing = [isinstance(leaf, jax.Array | np.ndarray | np.generic) for leaf in leaves]

        def traced(given: Sequence[Any], *at: Any) -> Sequence[Any]:
            left = iter(given)
            parts = [
                next(left) if changes else leaf
                for leaf, changes in zip(leaves, changing, strict=True)
            ]
            return tuple(function(jax.tree_util.tree_unflatten(structure, parts), *at))

        with x64(own_x64):
            given = [
                _shaped(leaf, own_x64)
                for leaf, changes in zip(leaves, changing, strict=True)
                if changes
            ]
            at = [shaped(array.shape, dtype) for array, dtype in zip(arrays, own, strict=True)]
            closed = jax.make_jaxpr(traced)(given, *at)
        values = [leaf for leaf, changes in zip(leaves, changing, strict=True) if changes]
        with x64(True):
            return promotion.values(closed.jaxpr, closed.consts, [*values, *arrays])

    return in_float64


def _shaped(leaf: Any, own_x64: bool) -> Any:
    """The shape and dtype of an array, as JAX has it with x64 on or off."""
    weak = bool(getattr(getattr(leaf, "aval", None), "weak_type", False))
    dtype = leaf.dtype
    if not own_x64 and dtype.name in ("float64", "int64", "uint64"):
        dtype = np.dtype(dtype.name.replace("64", "32"))
    return shaped(leaf.shape, dtype, weak_type=weak)


@final
@dataclass(frozen=True)
class Promotion:
    """Runs a jaxpr with float64 in place of narrower dtypes.

    Attributes:
        least: minus the machine epsilon of the narrowest dtype that is replaced.
        own_x64: whether x64 is on where the caller's code is traced.
        x64: makes a context in which x64 is on, or off.
    """

    least: float
    own_x64: bool
    x64: Callable[[bool], Any]

    def values(self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        """The values of a jaxpr."""
        known: dict[int, Any] = {}

        def write(variables: Sequence[Any], found: Sequence[Any]) -> None:
            for var, value in zip(variables, found, strict=True):
                known[id(var)] = self._as(var, value)

        def read(var: Any) -> Any:
            literal = isinstance(var, jax.extend.core.Literal)
            return self._as(var, var.val) if literal else known[id(var)]

        write(jaxpr.constvars, consts)
        write(jaxpr.invars, arguments)
        for operation in jaxpr.eqns:
            found = self._operation(operation, [read(var) for var in operation.invars])
            write(operation.outvars, found)
        return [read(var) for var in jaxpr.outvars]

    def _replaced(self, dtype: Any) -> bool:
        real = _floating(dtype)
        return real is not None and self.least <= _digits(real) < _digits(_WIDE)

    def _as(self, var: Any, value: Any) -> Any:
        """A value in the dtype that its variable has now."""
        dtype = getattr(var.aval, "dtype", None)
        if dtype is None or jax.numpy.issubdtype(dtype, jax.dtypes.extended):
            return value
        wanted = _WIDE if self._replaced(dtype) else dtype
        if getattr(value, "dtype", None) == wanted and isinstance(value, jax.Array):
            return value
        return jax.numpy.asarray(value).astype(wanted)

    def _operation(self, operation: Any, inputs: list[Any]) -> Sequence[Any]:
        """The values of one operation."""
        name, params = operation.primitive.name, operation.params
        if name in _INLINE and _INLINE[name] in params:
            inside = params[_INLINE[name]]
            consts = getattr(inside, "consts", ())
            return self.values(getattr(inside, "jaxpr", inside), consts, inputs)
        touched = any(
            self._replaced(getattr(var.aval, "dtype", None))
            for var in (*operation.invars, *operation.outvars)
        )
        inside = list(_jaxprs(params))
        if any(part in name for part in _IN_THEIR_OWN) or not (touched or inside):
            return self._bound(operation, self._own(operation, inputs), params)
        if name.startswith("custom_jvp_call"):
            return self._with_jvp(operation, inputs)
        if name.startswith("custom_vjp_call"):
            return self._with_vjp(operation, inputs)
        return self._bound(
            operation, inputs, {key: self._parameter(each) for key, each in params.items()}
        )

    @staticmethod
    def _own(operation: Any, inputs: Sequence[Any]) -> list[Any]:
        """Inputs in the dtypes in which they were written."""
        own = []
        for var, value in zip(operation.invars, inputs, strict=True):
            dtype = _dtype(var)
            own.append(value if dtype is None else value.astype(dtype))
        return own

    @staticmethod
    def _bound(operation: Any, inputs: Sequence[Any], params: Mapping[str, Any]) -> Sequence[Any]:
        primitive = operation.primitive
        found = primitive.bind(*inputs, **primitive.get_bind_params(dict(params)))
        return list(found) if primitive.multiple_results else [found]

    def _parameter(self, value: Any) -> Any:
        """A parameter of an operation with float64 in place of narrower dtypes."""
        if isinstance(value, jax.extend.core.ClosedJaxpr):
            return self._jaxpr(value.jaxpr, value.consts)
        if isinstance(value, jax.extend.core.Jaxpr):
            return self._jaxpr(value, ()).jaxpr
        if isinstance(value, np.dtype | type) and self._replaced(value):
            return _WIDE
        if isinstance(value, tuple | list):
            parts = [self._parameter(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        return value

    def _jaxpr(self, jaxpr: Any, consts: Sequence[Any]) -> Any:
        """The jaxpr in float64."""
        given = [self._shape(var) for var in jaxpr.invars]
        return jax.make_jaxpr(lambda *at: self.values(jaxpr, consts, at))(*given)

    def _shape(self, var: Any) -> Any:
        dtype = _WIDE if self._replaced(var.aval.dtype) else var.aval.dtype
        return shaped(var.aval.shape, dtype)

    def _with_jvp(self, operation: Any, inputs: Sequence[Any]) -> Sequence[Any]:
        """A function with a tangent rule of its own, and that rule."""
        call = operation.params["call_jaxpr"]

        @jax.custom_jvp
        def function(*at: Any) -> Sequence[Any]:
            return tuple(self.values(call.jaxpr, call.consts, at))

        @function.defjvp
        def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
            def pushed(at: Sequence[Any], along: Sequence[Any]) -> Any:
                return jax.jvp(
                    lambda *at: tuple(self._bound(operation, at, operation.params)), at, along
                )

            found = self._rule(pushed, operation, operation.invars, (primals, tangents))
            return tuple(found[: len(found) // 2]), tuple(found[len(found) // 2 :])

        return list(function(*inputs))

    def _with_vjp(self, operation: Any, inputs: Sequence[Any]) -> Sequence[Any]:
        """A function with a reverse rule of its own, and that rule."""
        call = operation.params["call_jaxpr"]
        real = [_dtype(var) is not None for var in operation.invars]

        @jax.custom_vjp
        def function(*at: Any) -> Sequence[Any]:
            return tuple(self.values(call.jaxpr, call.consts, at))

        def pulled(at: Sequence[Any], weights: Sequence[Any]) -> Any:
            def of_real(*some: Any) -> Sequence[Any]:
                left = iter(some)
                whole = [
                    next(left) if is_real else each for each, is_real in zip(at, real, strict=True)
                ]
                return tuple(self._bound(operation, whole, operation.params))

            _, pull = jax.vjp(
                of_real, *(each for each, is_real in zip(at, real, strict=True) if is_real)
            )
            return pull(tuple(weights))

        def back(at: Sequence[Any], weights: Sequence[Any]) -> tuple[Any, ...]:
            found = iter(self._rule(pulled, operation, operation.outvars, (at, weights)))
            return tuple(next(found) if is_real else None for is_real in real)

        function.defvjp(lambda *at: (function(*at), at), back)
        return list(function(*inputs))

    def _rule(
        self, rule: Callable[..., Any], operation: Any, others: Sequence[Any], given: Any
    ) -> list[Any]:
        """A rule that is traced in the dtypes in which it was written, at its arguments in float64."""
        at = [_own_shape(var, each) for var, each in zip(operation.invars, given[0], strict=True)]
        along = [_own_shape(var, each) for var, each in zip(others, given[1], strict=True)]
        with self.x64(self.own_x64):
            closed = jax.make_jaxpr(rule)(at, along)
        return self.values(closed.jaxpr, closed.consts, [*given[0], *given[1]])


def _own_shape(var: Any, value: Any) -> Any:
    """The shape and dtype in which a variable was written; of a tangent of whole numbers, the tangent's."""
    dtype = _dtype(var)
    return shaped(np.shape(value), value.dtype if dtype is None else dtype)
