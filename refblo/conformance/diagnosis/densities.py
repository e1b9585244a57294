"""Gibbs hypergradients of another density."""

from collections.abc import Iterator

from refblo.conformance.diagnosis.gibbs import hypergradient
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.types import Estimand


def candidates(subject: Subject) -> Iterator[Candidate]:
    """Other temperatures, the density without the weight decay, and both."""
    losses, program = subject.program.losses, subject.program
    if subject.estimand is not Estimand.GIBBS or losses is None:
        return
    rule = losses.rule
    tau, gamma = rule.temperature, rule.constant_step_size or 1.0
    if rule.has("weight_decay"):
        yield Candidate(
            Mistake.DECAY_FORGOTTEN,
            hypergradient(program, decay=0.0),
            "the weight decay is missing from the density",
        )
    if tau != 1:
        for decay, more in ((None, ""), (0.0, ", and the weight decay is forgotten")):
            if decay is not None and not rule.has("weight_decay"):
                continue
            for mistake, other, text in (
                (Mistake.TEMPERATURE_INVERTED, 1 / tau, "1/τ stands for τ"),
                (Mistake.TEMPERATURE_IGNORED, 1.0, "the density is at τ = 1"),
            ):
                vector = hypergradient(program, temperature=other, decay=decay)
                yield Candidate(mistake, vector, text + more)
    for other, text in (
        (tau / gamma, "τ/γ"),
        (tau / gamma**2, "τ/γ²"),
        (tau * gamma / 2, "τγ/2"),
        (tau / 2, "τ/2"),
        (tau * 2, "2τ"),
    ):
        yield Candidate(
            Mistake.NOISE_SCALED,
            hypergradient(program, temperature=other),
            f"the noise is multiplied by {(other / tau) ** 0.5:.6g}: the density is at {text}",
        )
