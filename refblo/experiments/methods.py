"""The methods of Tables 2 and 3 with the settings of Supplement D.1, each in both forms."""

from dataclasses import dataclass
from typing import final

from refblo.chain import Langevin, Schedule
from refblo.estimators import (
    FMD,
    HPOSGLD,
    RMD,
    AmIGO,
    Estimator,
    IFTConjugateGradient,
    IFTNeumann,
    NeumannScaling,
    RMDFirstOrder,
)
from refblo.estimators.evolution import EvolutionStrategies, Variant
from refblo.experiments import recursions
from refblo.experiments.recursions import Method, WarmMethod

STEP_SIZE = 0.005
"""γ of D.1, "inner iterations (learning rate 0.005)"."""
NEUMANN_SCALE, NEUMANN_TERMS = 0.99, 11
"""α = 0.99; "length i = 10" is read as j = 0 … 10, since eleven terms give the printed row."""
CG_DAMPING, CG_ITERATIONS = 0.01, 10
TEMPERATURE = 1e-6


@final
@dataclass(frozen=True)
class Competitor:
    """One method: the estimator, the same written out, and the settings they share.

    Attributes:
        label: the row's name.
        dynamics: the step rule.
        estimator: the package's; None where no estimator of the package has these equations.
        written_out: the scalar recursion.
        setting: every setting of the method.
    """

    label: str
    dynamics: Langevin
    estimator: Estimator | None
    written_out: Method | WarmMethod
    setting: str


def hpo_sgld(
    label: str,
    temperature: float = TEMPERATURE,
    step_size: float = STEP_SIZE,
    burn_in: int = 50,
    samples: int = 50,
    half: float = 0.5,
    noise_scale: float = 1.0,
) -> Competitor:
    """HPO-SGLD; `half` other than ½ is the misreading of (22) that has no estimator here."""
    dynamics = Langevin(step_size, temperature, noise_scale)
    estimator = HPOSGLD(dynamics, Schedule(burn_in, samples)) if half == 0.5 else None
    misread = "" if half == 0.5 else f", {half:g} ε instead of ε/2 in (22)"
    setting = (
        f"γ = {step_size:g}, τ = {temperature:g}, κ = {noise_scale:g}, B = {burn_in}, M = {samples}"
    )
    written_out = recursions.hpo_sgld(burn_in, samples, half)
    return Competitor(label, dynamics, estimator, written_out, setting + misread)


def neumann(
    label: str,
    scaling: NeumannScaling = NeumannScaling.UNSCALED,
    steps: int = 100,
    terms: int = NEUMANN_TERMS,
) -> Competitor:
    """IFT-Neumann; the printed row is the series without its factor α."""
    dynamics = Langevin(STEP_SIZE)
    scale = NEUMANN_SCALE
    return Competitor(
        label,
        dynamics,
        IFTNeumann(dynamics, steps, scale, terms, scaling),
        recursions.ift_neumann(steps, scale, terms, scaling),
        f"γ = {STEP_SIZE:g}, {steps} inner steps, α = {scale:g}, {terms} terms, {scaling.value}",
    )


def conjugate_gradient(label: str, steps: int = 100, hessian_noise: bool = True) -> Competitor:
    """IFT-CG; `hessian_noise` off is a question to the noisy problem, not a method."""
    dynamics = Langevin(STEP_SIZE)
    estimator = IFTConjugateGradient(dynamics, steps, CG_ITERATIONS, CG_DAMPING)
    clean = "" if hessian_noise else ", Hessian at e₁ = 0"
    return Competitor(
        label,
        dynamics,
        estimator if hessian_noise else None,
        recursions.ift_conjugate_gradient(steps, CG_DAMPING, hessian_noise),
        f"γ = {STEP_SIZE:g}, {steps} inner steps, damping {CG_DAMPING:g}, "
        f"{CG_ITERATIONS} CG iterations{clean}",
    )


def unrolled(kind: str, label: str, steps: int) -> Competitor:
    """RMD, RMD-FO or FMD over `steps` inner steps.

    Raises:
        KeyError: for another kind.
    """
    dynamics, last = Langevin(STEP_SIZE), Schedule.last(steps)
    forms: dict[str, tuple[Estimator, Method]] = {
        "RMD": (RMD(dynamics, last), recursions.rmd(steps)),
        "RMD-FO": (RMDFirstOrder(dynamics, last), recursions.rmd_first_order(steps)),
        "FMD": (FMD(dynamics, last), recursions.fmd(steps)),
    }
    estimator, written_out = forms[kind]
    setting = f"γ = {STEP_SIZE:g}, {steps} inner steps, no noise of its own"
    return Competitor(label, dynamics, estimator, written_out, setting)


AMIGO_ITERATIONS = 10
"""E.2: "up to 10 SGD/CG iterations"."""
ES_SIGMA, ES_DIRECTIONS = 0.001, 100
"""E.4."""


def amigo(label: str, solve_step: float | None, steps: int = 100) -> Competitor:
    """AmIGO-SGD with this α, or AmIGO-CG for None; no α is printed."""
    dynamics = Langevin(STEP_SIZE)
    solve = "CG" if solve_step is None else f"α = {solve_step:g}"
    return Competitor(
        label,
        dynamics,
        AmIGO(dynamics, steps, AMIGO_ITERATIONS, solve_step),
        recursions.WarmAmIGO(steps, AMIGO_ITERATIONS, solve_step),
        f"γ = {STEP_SIZE:g}, {steps} inner steps, {AMIGO_ITERATIONS} iterations a call, {solve}",
    )


def evolution(label: str, *, paired: bool = False, steps: int = 100) -> Competitor:
    """Evolutionary search as printed, or with pairs z, −z."""
    dynamics = Langevin(STEP_SIZE)
    variant = Variant.ANTITHETIC if paired else Variant.PRINTED
    return Competitor(
        label,
        dynamics,
        EvolutionStrategies(dynamics, Schedule.last(steps), ES_SIGMA, ES_DIRECTIONS, variant),
        recursions.evolution(steps, ES_SIGMA, ES_DIRECTIONS, paired=paired),
        f"γ = {STEP_SIZE:g}, {steps} inner steps, σ = {ES_SIGMA:g}, {ES_DIRECTIONS} draws, "
        f"{variant.value}, the inner loss's noise the same for all draws",
    )
