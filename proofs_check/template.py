"""What may stand in a sentence outside its holes: words and names, no number and no hypothesis.

A digit, an index, an exponent or a hypothesis that stands in the template itself is read by no check,
so an error in it would go unseen.
"""

import re

from proofs_check.errors import ClaimRefusedError

NAMES = (
    r"\((?:\d+|[A-Z]\d)\)",  # references to an equation or an assumption: (22), (A3)
    r"(?:Theorem|Table|Figure|Algorithm|Section|Supplement) [A-Z]?\d+(?:\.\d+)*",
    r"Synth-1D",
    r"ViT-B/16",
    r"CIFAR-100?",
    r"L1-Reg",
    r"[15]-shot",
    r"θ⁰",  # the initial point, by its name
)
"""The names and references that contain a digit, as regular expressions."""

HYPOTHESES = (
    "linear", "quadratic", "convex", "compact", "continuous", "lipschitz", "scalar", "symmetric",
    "definite", "bounded", "unique", "singleton", "independent", "constant", "smooth", "contraction",
    "monotone", "stationary", "isotropic", "invertible", "differentiable", "noiseless", "nondegenerate",
)  # fmt: skip
"""Words that assume something; they belong to a scope, to an assumption or to a hole."""

NUMBERS = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "half", "halves", "third",
    "quarter", "twice", "double", "triple",
)  # fmt: skip
"""Numbers in words; *one* and *zero* are left out: an article, and where something starts or vanishes."""

_HOLE = re.compile(r"\{[^{}]*\}")
_LITERAL = re.compile(r"[0-9⁰¹²³⁴-⁹₀-₉½⅓¼⅙^√∞]|_\(|[+·/=<>≤≥≃≈]")


def literals(template: str) -> list[str]:
    """What stands outside the holes of a template and is neither a word nor a name.

    Args:
        template: the sentence with its holes.

    Returns:
        Digits, exponents, indices, operators and relations, then numbers in words and hypotheses.
    """
    bare = _HOLE.sub(" ", template)
    for name in NAMES:
        bare = re.sub(name, " ", bare)
    found = _LITERAL.findall(bare)
    words = re.findall(r"[a-z]+", bare.lower())
    return found + [word for word in words if word in HYPOTHESES or word in NUMBERS]


def refuse_literals(key: str, template: str, file: str) -> None:
    """Refuse a template that says something no check can read.

    Args:
        key: the claim.
        template: its sentence.
        file: where it stands.

    Raises:
        ClaimRefusedError: something stands outside the holes.
    """
    found = literals(template)
    if found:
        raise ClaimRefusedError(
            f"claim {key!r} in {file} must have no number, index, exponent, relation or hypothesis "
            f"outside the holes of its sentence, got {found}; put each into a hole that a check reads"
        )
