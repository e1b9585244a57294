"""λ is put through exp, softplus or the like, and the derivative of that is left out or used twice.

With μ = g(λ), d/dλ = g'(λ)·d/dμ, entry by entry: d/dμ alone is the right hypergradient divided by g'(λ).
"""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Float64

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Setting
from refblo.conformance.diagnosis.trace import numpy_of

Array = np.ndarray

_SIMPLE = 8
"""A factor that is the same in every entry and a multiple of 1/8 says nothing of a function of λ."""


def _sigmoid(lam: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-lam))
    return found


DERIVATIVES: Mapping[str, Callable[[Array], Array]] = {
    "exp(lam)": np.exp,
    "softplus(lam)": _sigmoid,
    "sigmoid(lam)": lambda lam: _sigmoid(lam) * (1 - _sigmoid(lam)),
    "10^lam": lambda lam: math.log(10) * 10**lam,
    "tanh(lam)": lambda lam: 1 - np.tanh(lam) ** 2,
    "lam^2": lambda lam: 2 * lam,
}
"""What λ is commonly put through, with its derivative g'(λ)."""


def candidates(setting: Setting) -> Iterator[Candidate]:
    """The whole, the indirect term or one block of λ without the factor, or with its square."""
    subject = setting.subject
    lam, direct = numpy_of(subject.program.lam), subject.direct
    truth = subject.reference.value if subject.reference.exhaustive else subject.truth
    yield from changed(truth, lam, setting.blocks)
    if np.any(direct):
        for text, times in factors(lam):
            said = f"{text} in the indirect term"
            yield Candidate(Mistake.CHAIN_FACTOR, direct + (truth - direct) * times, said)


def changed(
    truth: Float64[Array, " p"], lam: Float64[Array, " p"], blocks: Mapping[str, slice]
) -> Iterator[Candidate]:
    """A hypergradient, or one block of it, without the factor, or with its square."""
    for text, times in factors(lam):
        yield Candidate(Mistake.CHAIN_FACTOR, truth * times, text)
    for name, part in {**blocks, **_subtrees(blocks)}.items():
        for text, times in factors(lam[part]):
            vector = truth.copy()
            vector[part] *= times
            yield Candidate(Mistake.CHAIN_FACTOR, vector, f"{text} in block {name}")


def _subtrees(blocks: Mapping[str, slice]) -> dict[str, slice]:
    """The parts of λ under one key of its tree that are several tensors, such as lr.w and lr.b."""
    found: dict[str, list[slice]] = {}
    for name, part in blocks.items():
        found.setdefault(name.partition(".")[0], []).append(part)
    return {
        key: slice(parts[0].start, parts[-1].stop)
        for key, parts in found.items()
        if 1 < len(parts) < len(blocks)
    }


@np.errstate(all="ignore")  # a factor that is not finite is not compared
def factors(lam: Float64[Array, " p"]) -> Iterator[tuple[str, Array]]:
    """What each entry is multiplied by where the factor is left out or used twice."""
    for name, derivative in DERIVATIVES.items():
        factor = derivative(lam)
        if lam.size == 0 or not (np.isfinite(factor) & (factor != 0)).all():
            continue
        constant = np.all(factor == factor[0])
        if constant and (name == "lam^2" or _SIMPLE * factor[0] == round(_SIMPLE * factor[0])):
            continue
        yield f"the derivative of {name} by lam is left out", 1 / factor
        yield f"the derivative of {name} by lam is used twice", factor
