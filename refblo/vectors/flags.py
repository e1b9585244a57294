"""What the flags of test vectors mean: a mistake's name is the one that a diagnosis gives it."""

from collections.abc import Mapping

FLAGS: Mapping[str, tuple[str, str]] = {
    "missing direct term": (
        "MISSING_TERM",
        "the derivative of the outer loss by lambda is left out",
    ),
    "missing indirect term": (
        "MISSING_TERM",
        "only the derivative of the outer loss by lambda is there",
    ),
    "initial point not differentiated": (
        "MISSING_TERM",
        "theta^0 depends on lambda, which is ignored",
    ),
    "missing transitions": ("MISSING_TERM", "only the path through the initial point is there"),
    "first-order": ("MISSING_TERM", "no second-order product at all"),
    "wrong sign": ("WRONG_SIGN", "the whole has the wrong sign"),
    "wrong sign of the direct term": ("WRONG_SIGN", "the direct term has the wrong sign"),
    "wrong sign of the indirect term": ("WRONG_SIGN", "the indirect term has the wrong sign"),
    "factor 2": ("WRONG_FACTOR", "the whole is doubled"),
    "factor 1/2": ("WRONG_FACTOR", "the whole is halved"),
    "factor 2 in the indirect term": ("WRONG_FACTOR", "the indirect term is doubled"),
    "factor 1/2 in the indirect term": ("WRONG_FACTOR", "the indirect term is halved"),
    "step size left out in the indirect term": (
        "WRONG_FACTOR",
        "the indirect term lacks its factor, the step size",
    ),
    "step size twice in the indirect term": (
        "WRONG_FACTOR",
        "the indirect term has the step size as a factor once too often",
    ),
    "sum instead of mean": ("WRONG_FACTOR", "the samples are summed and not averaged"),
    "divided by all steps": (
        "WRONG_FACTOR",
        "the sum over the samples is divided by the number of steps",
    ),
    "truncated": ("TRUNCATION", "too few of the last transitions are differentiated"),
    "last transition not differentiated": (
        "TRUNCATION",
        "the step that leads to the last iterate is missing from the sum",
    ),
    "identity for the transition Jacobian": (
        "WRONG_JACOBIAN",
        "every derivative of theta^{t+1} by theta^t is replaced by the identity",
    ),
    "HPO-SGLD recursion": (
        "WRONG_JACOBIAN",
        "the recursion of HPO-SGLD stands where the exact derivative is asked for",
    ),
    "wrong sign of the inner Hessian": ("WRONG_JACOBIAN", "I + gamma H stands for I - gamma H"),
    "one transition Jacobian too many": (
        "WRONG_JACOBIAN",
        "each term is pulled through its own transition as well",
    ),
    "stale theta": ("STALE", "every second-order product is taken at theta^0"),
    "off by one step": ("OFF_BY_ONE", "the run has one step fewer than asked for"),
    "noise not shared": ("RANDOMNESS", "the run is made without the frozen noise"),
    "minibatch not shared": (
        "RANDOMNESS",
        "the inner loss sees all data instead of the frozen batch",
    ),
    "another estimand": ("OTHER_ESTIMAND", "it is right for another estimand of the same problem"),
    "identity for the inverse Hessian": (
        "SOLVER",
        "the inverse Hessian is replaced by the identity",
    ),
    "one-step approximation": ("SOLVER", "the inverse Hessian is replaced by the step size"),
    "damping left in": ("SOLVER", "the solve is with H + I/16"),
    "inner solver not converged": ("SOLVER", "the implicit formula is applied at theta^T"),
    "series not scaled": ("SERIES", "the factor in front of the Neumann series is left out"),
    "series with one term fewer": ("SERIES", "the Neumann series has K - 1 terms"),
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
