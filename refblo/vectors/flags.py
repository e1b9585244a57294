"""What the flags of test vectors mean: a mistake is named as a diagnosis names it; two are conventions."""

from collections.abc import Mapping

from refblo.conformance.diagnosis.mistakes import Mistake, Place

FLAGS: Mapping[str, tuple[str, str]] = {
    Mistake.MISSING_DIRECT.printed: (
        "MISSING_TERM",
        "the derivative of the outer loss by lambda is left out",
    ),
    Mistake.MISSING_INDIRECT.printed: (
        "MISSING_TERM",
        "only the derivative of the outer loss by lambda is there",
    ),
    Mistake.INITIAL_NOT_DIFFERENTIATED.printed: (
        "MISSING_TERM",
        "theta^0 depends on lambda, which is ignored",
    ),
    Mistake.MISSING_TRANSITIONS.printed: (
        "MISSING_TERM",
        "only the path through the initial point is there",
    ),
    Mistake.FIRST_ORDER.printed: ("MISSING_TERM", "no second-order product at all"),
    Mistake.WRONG_SIGN.printed: ("WRONG_SIGN", "the whole has the wrong sign"),
    Mistake.WRONG_SIGN.at(Place.DIRECT): ("WRONG_SIGN", "the direct term has the wrong sign"),
    Mistake.WRONG_SIGN.at(Place.INDIRECT): ("WRONG_SIGN", "the indirect term has the wrong sign"),
    Mistake.FACTOR_TWO.printed: ("WRONG_FACTOR", "the whole is doubled"),
    Mistake.FACTOR_HALF.printed: ("WRONG_FACTOR", "the whole is halved"),
    Mistake.FACTOR_TWO.at(Place.INDIRECT): ("WRONG_FACTOR", "the indirect term is doubled"),
    Mistake.FACTOR_HALF.at(Place.INDIRECT): ("WRONG_FACTOR", "the indirect term is halved"),
    Mistake.STEP_SIZE_LEFT_OUT.at(Place.INDIRECT): (
        "WRONG_FACTOR",
        "the indirect term lacks its factor, the step size",
    ),
    Mistake.STEP_SIZE_TWICE.at(Place.INDIRECT): (
        "WRONG_FACTOR",
        "the indirect term has the step size as a factor once too often",
    ),
    Mistake.SUM_FOR_MEAN.printed: ("WRONG_FACTOR", "the samples are summed and not averaged"),
    Mistake.DIVIDED_BY_ALL_STEPS.printed: (
        "WRONG_FACTOR",
        "the sum over the samples is divided by the number of steps",
    ),
    Mistake.TRUNCATED.printed: ("TRUNCATION", "too few of the last transitions are differentiated"),
    Mistake.LAST_TRANSITION.printed: (
        "TRUNCATION",
        "the step that leads to the last iterate is missing from the sum",
    ),
    Mistake.IDENTITY_FOR_JACOBIAN.printed: (
        "WRONG_JACOBIAN",
        "every derivative of theta^{t+1} by theta^t is replaced by the identity",
    ),
    Mistake.HPO_SGLD.printed: (
        "WRONG_JACOBIAN",
        "the recursion of HPO-SGLD stands where the exact derivative is asked for",
    ),
    Mistake.HESSIAN_SIGN.printed: ("WRONG_JACOBIAN", "I + gamma H stands for I - gamma H"),
    Mistake.JACOBIAN_TOO_MANY.printed: (
        "WRONG_JACOBIAN",
        "each term is pulled through its own transition as well",
    ),
    Mistake.STALE_THETA.printed: ("STALE", "every second-order product is taken at theta^0"),
    Mistake.OFF_BY_ONE.printed: ("OFF_BY_ONE", "the run has one step fewer than asked for"),
    Mistake.NOISE_NOT_SHARED.printed: ("RANDOMNESS", "the run is made without the frozen noise"),
    Mistake.MINIBATCH_NOT_SHARED.printed: (
        "RANDOMNESS",
        "the inner loss sees all data instead of the frozen batch",
    ),
    Mistake.ANOTHER_ESTIMAND.printed: (
        "OTHER_ESTIMAND",
        "it is right for another estimand of the same problem",
    ),
    Mistake.IDENTITY_FOR_INVERSE.printed: (
        "SOLVER",
        "the inverse Hessian is replaced by the identity",
    ),
    Mistake.ONE_STEP.printed: ("SOLVER", "the inverse Hessian is replaced by the step size"),
    Mistake.DAMPING.printed: ("SOLVER", "the solve is with H + I/16"),
    Mistake.NOT_CONVERGED.printed: ("SOLVER", "the implicit formula is applied at theta^T"),
    Mistake.SERIES_NOT_SCALED.printed: (
        "SERIES",
        "the factor in front of the Neumann series is left out",
    ),
    Mistake.SERIES_ONE_FEWER.printed: ("SERIES", "the Neumann series has K - 1 terms"),
    "K + 1 terms": (
        "CONVENTION",
        "K counts the products with the Hessian, so the series has K + 1 terms",
    ),
    "K + 1 transitions": (
        "CONVENTION",
        "K counts the transition Jacobians, so K + 1 transitions are differentiated",
    ),
}
"""Name ↦ (type of bug, what it means)."""
