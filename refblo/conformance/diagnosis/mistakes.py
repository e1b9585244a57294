"""Every mistake that a diagnosis can name: its printed name, what it is, its cause, its remedy.

H is the Hessian of the inner loss with respect to θ, C = ∂²L_T/∂θ∂λ, γ the step size, T the number of inner
steps.
"""

from enum import Enum
from typing import final


@final
class Place(Enum):
    """Which part of a hypergradient a factor or a sign is wrong in."""

    WHOLE = ""
    DIRECT = "the direct term"
    INDIRECT = "the indirect term"


@final
class Mistake(Enum):
    """A mistake of an implementation.

    Attributes:
        printed: the name as a report prints it.
        what: what the wrong hypergradient is.
        cause: how it comes about.
        remedy: what to do.
    """

    def __init__(self, printed: str, what: str, cause: str, remedy: str) -> None:
        self.printed, self.what, self.cause, self.remedy = printed, what, cause, remedy

    @property
    def paragraph(self) -> str:
        """What it is, how it comes about and how to mend it."""
        return f"{self.what} {self.cause} {self.remedy}"

    def at(self, place: Place) -> str:
        """The name with the part of the hypergradient it is in."""
        if place is Place.WHOLE:
            return self.printed
        joint = "of" if self is Mistake.WRONG_SIGN else "in"
        return f"{self.printed} {joint} {place.value}"

    @staticmethod
    def named(name: str) -> "Mistake":
        """The mistake whose printed name this is, with a place or without.

        Raises:
            KeyError: if no mistake has that name.
        """
        return _BY_NAME[name]

    # Terms, signs and factors.
    MISSING_DIRECT = (
        "missing direct term",
        "∂_λ f is left out.",
        "The outer loss was differentiated with respect to θ only, or λ was detached inside it.",
        "Differentiate the outer loss with respect to λ as well, and add the result.",
    )
    MISSING_INDIRECT = (
        "missing indirect term",
        "Only ∂_λ f is there; the dependence of θ on λ is left out.",
        "The inner run was made without a graph, or θ was detached before the outer loss.",
        "Keep the graph of the inner run (create_graph=True), or add the term of the adjoint.",
    )
    ZERO = (
        "zero",
        "Every entry is zero.",
        "The graph from λ to the outer loss is cut: a detach, a copy, .item(), or unused inputs that are "
        "replaced by zeros.",
        "Follow the graph from the outer loss back to λ and remove the cut.",
    )
    INITIAL_NOT_DIFFERENTIATED = (
        "initial point not differentiated",
        "The path through θ⁰(λ) is left out.",
        "θ⁰ was computed from λ and then detached, or copied with .data or .clone().detach().",
        "Start the run from θ⁰(λ) with its graph.",
    )
    MISSING_TRANSITIONS = (
        "missing transitions",
        "Only the path through θ⁰(λ) is there; the effect of λ inside the steps is left out.",
        "λ was detached in the inner loss, or the mixed products were not added.",
        "Use λ itself in the inner loss of every step.",
    )
    FIRST_ORDER = (
        "first-order",
        "There is no second-order product: the inner gradients are treated as constants.",
        "The inner gradient was taken without create_graph=True, as in first-order MAML.",
        "Take the inner gradients with create_graph=True, or call the result first-order.",
    )
    WRONG_SIGN = (
        "wrong sign",
        "The whole hypergradient, or the named term, has the wrong sign.",
        "The minus sign of −γ ∂_θ L_T or of −H⁻¹C was lost or applied twice.",
        "Derive the sign again: dθ*/dλ = −H⁻¹C.",
    )
    FACTOR_TWO = (
        "factor 2",
        "The whole hypergradient, or the named term, is doubled.",
        "A term was added twice, or the 2 of a squared loss was counted twice.",
        "Compare with a one-dimensional problem computed by hand.",
    )
    FACTOR_HALF = (
        "factor 1/2",
        "The whole hypergradient, or the named term, is halved.",
        "A loss with and without its factor 1/2 were mixed, or ε/2 is used instead of γ.",
        "Use the same loss and the same step size in the run and in its derivative.",
    )
    SUM_FOR_MEAN = (
        "sum instead of mean",
        "The sum over the samples, or over the examples of a loss, is used instead of their mean.",
        "The sum was not divided by the number M of samples, or a loss was given reduction='sum'.",
        "Divide by the number of samples or examples, or use the same reduction in both losses.",
    )
    DIVIDED_BY_ALL_STEPS = (
        "divided by all steps",
        "The sum over the M samples is divided by the number T of steps.",
        "The burn-in was counted in the divisor.",
        "Divide by M = T − B.",
    )
    DIVIDED_BY_ONE_MORE = (
        "divided by M + 1",
        "The sum over the M samples is divided by M + 1.",
        "A loop counter that had already been advanced was used as the divisor.",
        "Divide by M.",
    )
    DIVIDED_BY_ONE_FEWER = (
        "divided by M - 1",
        "The sum over the M samples is divided by M − 1.",
        "The divisor of an unbiased variance was used for a mean.",
        "Divide by M.",
    )
    EPSILON_FOR_GAMMA = (
        "epsilon for gamma",
        "A factor 2τ too much: ε = 2τγ is used instead of γ.",
        "SGLD's step ε was used as the step size of the gradient.",
        "Use γ = ε / (2τ) in front of every inner gradient.",
    )
    GAMMA_FOR_EPSILON = (
        "gamma for epsilon",
        "A factor 1 / (2τ) too much: γ is used instead of ε.",
        "γ = ε / (2τ) was divided by 2τ once more.",
        "Convert between ε and γ in one place only.",
    )
    TEMPERATURE_LEFT_IN = (
        "temperature left in",
        "A factor τ too much.",
        "The energy L_T / τ and the loss L_T were mixed.",
        "Use γ with ∂L_T, or ε/2 with ∂(L_T / τ).",
    )
    TEMPERATURE_TWICE = (
        "temperature twice",
        "A factor 1/τ too much.",
        "The loss was divided by τ, and the step size as well.",
        "Divide by τ once.",
    )
    STEP_SIZE_TWICE = (
        "step size twice",
        "A factor γ too much.",
        "The step size was applied to the inner gradient and again to its derivative.",
        "The derivative of −γ ∂_θ L_T contains γ once.",
    )
    STEP_SIZE_LEFT_OUT = (
        "step size left out",
        "A factor γ is missing.",
        "The mixed product was taken of L_T, not of γ L_T.",
        "Multiply the mixed products by γ.",
    )
    SERIES_SCALED_TWICE = (
        "series scaled twice",
        "The factor α of the Neumann series is applied twice.",
        "α is in the recursion and in front of its result.",
        "H⁻¹ ≈ α Σ (I − αH)^j contains α in front of the sum only once.",
    )
    SERIES_NOT_SCALED = (
        "series not scaled",
        "The factor α in front of the Neumann series is left out.",
        "Σ (I − αH)^j was used for H⁻¹.",
        "Multiply the sum by α.",
    )
    DIFFERENCE_TIMES_EPS_SQUARED = (
        "indirect term times eps^2",
        "The indirect term is multiplied by ε², the square of a difference quotient's step.",
        "In a difference quotient such as that of DARTS, (p − n) / 2ε was written (p − n) / 2 · ε.",
        "Put the divisor in parentheses: (p − n) / (2 · ε).",
    )
    DIFFERENCE_NOT_DIVIDED = (
        "difference not divided by its step",
        "The indirect term is multiplied by ε or by 2ε, the step of a difference quotient.",
        "The difference of two gradients was not divided by 2ε.",
        "Divide the difference by 2ε.",
    )
    SCALED = (
        "scaled",
        "The whole hypergradient, or the named term, is multiplied by a factor that has no name.",
        "A learning rate, a number of examples or a weight was applied one time too many or too few.",
        "Compare the factor that is printed with the constants of the code.",
    )
    ONES_IN_EVERY_ENTRY = (
        "derivative along ones in every entry",
        "Every entry is the derivative along the vector of ones: the sum, or the mean, of the right entries.",
        "A forward-mode derivative with a tangent of ones was taken for the gradient.",
        "Push one unit vector for each entry, or use reverse mode.",
    )
    ONE_ENTRY = (
        "one entry wrong",
        "One entry of λ has a wrong derivative, all others are right.",
        "An index, a mask or a special case changes only this entry.",
        "Check what the code does with the printed entry.",
    )
    ONE_BLOCK = (
        "one block wrong",
        "One named part of λ has a wrong derivative, all others are right.",
        "One tensor was left out of, or entered twice, the list that is differentiated.",
        "Check what the code does with the printed part.",
    )
    PERMUTED = (
        "entries in another order",
        "The entries are right, but in another order.",
        "A matrix was transposed before it was flattened, a list of tensors was joined in another "
        "order than that of λ, or was sorted by name.",
        "Join the hypergradient in the order of λ.",
    )
    # Between calls.
    CHAIN_FACTOR = (
        "chain factor of lambda",
        "The derivative of a function applied to λ, such as exp(λ) or softplus(λ), is left out or used "
        "twice.",
        "The derivative was taken with respect to exp(λ) instead of λ, or it was multiplied by hand although "
        "automatic differentiation had done so already.",
        "Differentiate with respect to λ itself, or multiply the derivative with respect to exp(λ) by "
        "exp(λ) once.",
    )
    SOME_ZERO = (
        "some entries zero",
        "Several entries are zero, the others are right.",
        "Some hyperparameters are not part of the graph: a mask, a slice, or a tensor that was copied.",
        "Follow the graph from the outer loss back to these entries of λ and remove the cut.",
    )
    ACCUMULATED = (
        "accumulated over calls",
        "The results of earlier calls are added, or averaged in.",
        ".grad was not set to zero between calls.",
        "Use torch.autograd.grad, or clear .grad before every call.",
    )
    STALE_LAMBDA = (
        "stale lambda",
        "Everything, or the part that is printed, is evaluated at the λ of an earlier call.",
        "A closure or a cache kept λ, or a value that was computed from it.",
        "Compute everything from the λ that is passed in.",
    )
    GRADIENT_LEFT_IN_BUFFER = (
        "inner loss's gradient left in the buffer",
        "∂_λ L_T of some iterates is added.",
        "backward() of the inner loss wrote to λ.grad, which was not cleared.",
        "For the inner loss use torch.autograd.grad with respect to θ alone.",
    )
    FLOAT32 = (
        "float32 inside",
        "The error is rounding noise of single precision.",
        "A computation in float64 contains a constant, a buffer or a cast in float32.",
        "Make every tensor in the dtype of λ.",
    )
    HALF_PRECISION = (
        "half precision inside",
        "The error is rounding noise of float16 or bfloat16.",
        "The answer, or a computation in float64, was cast to half precision.",
        "Make every tensor in the dtype of λ.",
    )
    DIFFERENCE_NOISE = (
        "noise of a difference quotient",
        "The error is rounding noise of float64, multiplied by 1/h.",
        "The derivative was computed as (f(λ + h) − f(λ − h)) / 2h with a small h.",
        "Use automatic differentiation, or declare the error of the differences as tolerance.",
    )
    ANSWER_CHANGES = (
        "another answer at the same lambda",
        "Calls at the same λ return hypergradients that differ by about as much as they are wrong.",
        "Random numbers without a fixed seed (minibatches, dropout, probes of a solver), or a state that is "
        "kept between calls.",
        "Fix every seed inside the function, and start each call from the same state.",
    )
    # The derivative of a step.
    IDENTITY_FOR_JACOBIAN = (
        "identity for the transition Jacobian",
        "Every ∂θ^{t+1}/∂θ^t is replaced by the identity.",
        "The mixed products were kept and the Hessian products were left out.",
        "Multiply by I − γH when going through a step.",
    )
    HPO_SGLD = (
        "HPO-SGLD recursion",
        "The recursion of HPO-SGLD: the identity for every ∂θ^{t+1}/∂θ^t, and outer gradients along the run.",
        "An approximation is judged as if it were the exact derivative.",
        "Check it against its own estimand, or multiply by the transition Jacobians.",
    )
    TRANSPOSED_JACOBIAN = (
        "transposed transition Jacobian",
        "The transition's Jacobian (or the matrix of the solve) is transposed.",
        "A vector-Jacobian product was used instead of a Jacobian-vector product, or the reverse; with a "
        "symmetric Jacobian the two are equal.",
        "Use jvp for tangents and vjp for adjoints.",
    )
    TRANSPOSED_MIXED = (
        "transposed mixed product",
        "C·v is used instead of v·C.",
        "With as many hyperparameters as parameters both shapes fit.",
        "Differentiate ⟨v, ∂_θ L_T⟩ with respect to λ.",
    )
    HESSIAN_SIGN = (
        "wrong sign of the inner Hessian",
        "I + γH is used instead of I − γH.",
        "The sign of the step was lost in the recursion.",
        "A descent step has the Jacobian I − γH.",
    )
    JACOBIAN_TOO_MANY = (
        "one transition Jacobian too many",
        "Each term has one factor ∂θ^{t+1}/∂θ^t too many.",
        "The adjoint was advanced before the mixed product was taken.",
        "Take the mixed product of step t with the adjoint of θ^{t+1}.",
    )
    JACOBIAN_TOO_FEW = (
        "one transition Jacobian too few",
        "Each term has one factor ∂θ^{t+1}/∂θ^t too few.",
        "The mixed product was taken with the adjoint of a later step.",
        "Take the mixed product of step t with the adjoint of θ^{t+1}.",
    )
    GAUSS_NEWTON = (
        "Gauss-Newton matrix for the Hessian",
        "The second derivative of the model with respect to θ is left out of the Hessian.",
        "A Gauss-Newton product was used for a Hessian product.",
        "Use the full Hessian product, or call the result an approximation.",
    )
    FISHER = (
        "empirical Fisher matrix for the Hessian",
        "Outer products of the gradients of the examples are used as the Hessian.",
        "An optimiser's curvature estimate was used for a Hessian product.",
        "Use the full Hessian product, or call the result an approximation.",
    )
    CONTINUOUS_ADJOINT = (
        "continuous adjoint for a discrete run",
        "The adjoint differential equation of the gradient flow is integrated for a run of finite steps.",
        "The adjoint method for neural differential equations was applied to gradient descent.",
        "Use the adjoint of the discrete steps, at the states of the run.",
    )
    REPTILE = (
        "Reptile's displacement",
        "The displacement of θ over the run, scaled or not, is returned as the hypergradient.",
        "Reptile's update was used as the gradient with respect to the initial point.",
        "Differentiate the outer loss, or call the result Reptile's.",
    )
    INNER_FOR_OUTER = (
        "inner loss used as outer loss",
        "The support (inner) loss after the run is differentiated, not the outer loss.",
        "The wrong batch or the wrong loss was passed to the outer step.",
        "Evaluate the outer loss on its own data.",
    )
    NORMALISER_CONSTANT = (
        "normaliser treated as constant",
        "A normaliser (of a softmax, of clipping, of a batch, Adam's second moment) is not differentiated.",
        "The norm, the sum or the statistic was computed under no_grad, or detached.",
        "Let the graph go through the normaliser.",
    )
    # How far back.
    TRUNCATED = (
        "truncated",
        "Only the last K transitions are differentiated.",
        "The state was detached K steps before the end.",
        "Differentiate all steps, or call the result truncated.",
    )
    LAST_TRANSITION = (
        "last transition not differentiated",
        "The step that leads to θ^T is missing from the sum.",
        "The last step was made outside the graph.",
        "Differentiate the last step as well.",
    )
    DETACHED_SAMPLE = (
        "detached through the sample",
        "Each sample is differentiated through one transition only.",
        "θ was detached after every step.",
        "Keep the graph between the steps.",
    )
    TRUNCATED_AT_SAMPLE = (
        "truncated at each sample",
        "Each sample is differentiated through K transitions only.",
        "The graph was cut K steps before each sample.",
        "Differentiate all steps, or call the result truncated.",
    )
    # Indices.
    OFF_BY_ONE = (
        "off by one step",
        "An index of a step, an iterate or a sample is one too large or too small.",
        "A loop runs one time too many or too few, or combines a state with the derivative at the next one.",
        "Compare the indices with a run of one and of two steps.",
    )
    STATE_TOO_FAR = (
        "state advanced one too far",
        "The run, or the outer loss alone, uses a state after one step too many.",
        "The state was changed in place, or a step was made to try the code out.",
        "Copy the state before it is advanced.",
    )
    BATCH_TOO_FAR = (
        "batch advanced one too far",
        "A step or an iterate uses the batch of the next one.",
        "An iterator was advanced before it was read, or one time too many.",
        "Index the batches by the step.",
    )
    STALE_THETA = (
        "stale theta",
        "All products or gradients are taken at θ⁰, or at θ^T.",
        "When the derivative was taken, the parameters of the model had not been updated, or were "
        "overwritten.",
        "Evaluate each derivative at the θ of its own step.",
    )
    TASK_DROPPED = (
        "one task or block of theta dropped",
        "The contribution of one task, or of one tensor of θ, to the outer loss is missing.",
        "A loop over tasks or tensors stops early, or skips one.",
        "Sum over all tasks and tensors.",
    )
    # Randomness.
    NOISE_NOT_SHARED = (
        "noise not shared",
        "The noise is left out, shifted, reversed or repeated.",
        "The noise was drawn again, or in another order, for the derivative.",
        "Use the frozen noise of each step.",
    )
    NOISE_SCALED = (
        "noise scaled",
        "The noise is multiplied by a constant c.",
        "Its standard deviation is √(2τγ); γ, √γ or 1/√γ was written, or the temperature left out.",
        "Multiply standard normal noise by √(2τγ) κ.",
    )
    DRIFT_SCALED = (
        "drift gamma/2 (the eps/2 convention)",
        "The gradient step is halved (or doubled) while the noise is right.",
        "θ ← θ − (ε/2) ∂L_T + √ε z was combined with noise of size √(2γ).",
        "With noise √(2τγ) z the gradient step is γ.",
    )
    MINIBATCH_NOT_SHARED = (
        "minibatch not shared",
        "Steps or outer losses use other batches than those of the run.",
        "The batches (or dropout masks) were drawn again for the derivative.",
        "Use the frozen batch of each step.",
    )
    TEMPERATURE_INVERTED = (
        "temperature inverted",
        "1/τ is used instead of τ.",
        "The inverse temperature was passed as the temperature.",
        "The density is exp(−L_T/τ).",
    )
    TEMPERATURE_IGNORED = (
        "temperature ignored",
        "τ = 1 is used.",
        "The temperature was not passed on.",
        "Use τ in the density and in the noise.",
    )
    # The optimiser.
    OPTIMISER_DETACHED = (
        "optimiser state detached",
        "The optimiser's buffers are treated as constants.",
        "Momentum or moments were kept without a graph.",
        "Compute the derivatives of the buffers together with those of θ.",
    )
    THETA_DETACHED = (
        "theta detached at each step",
        "The dependence of θ on the θ of the previous step is left out; the gradient or the buffers of the "
        "optimiser keep their graph.",
        "θ was detached before or inside the update, and the buffers were not.",
        "Keep the graph of θ from step to step.",
    )
    DAMPENED = (
        "dampened momentum",
        "Momentum uses (1 − μ)g instead of g.",
        "The average of gradients, or `dampening` of torch.optim.SGD, was used instead of plain momentum.",
        "Use v ← μv + g, or check the run that has dampening.",
    )
    OTHER_NUMBERS = (
        "another number of the optimiser",
        "The run has another step size, momentum, β₁, β₂, ε or number of steps.",
        "A default of another library is used instead of the number of this run.",
        "Give the optimiser the same numbers in both places.",
    )
    RULE_NUMBERS_CONSTANT = (
        "optimiser's numbers treated as constants",
        "A learning rate, momentum, decay or other number that depends on λ is not differentiated.",
        "It was read with .item(), detached, or put into an optimiser that takes floats.",
        "Keep the number as a tensor with its graph, and use a differentiable form of the optimiser.",
    )
    CLIPPING_IGNORED = (
        "clipping ignored",
        "The run, or its derivative, uses gradients that are not clipped.",
        "Clipping was left out, or applied to .data.",
        "Clip inside the differentiated step.",
    )
    EPSILON_INSIDE = (
        "epsilon on the other side of the root",
        "ε is added under the square root of v instead of outside it, or the other way round.",
        "Libraries differ: torch adds it to the root, optax's RMSprop to v.",
        "Use the form of the optimiser that the run has (eps, or eps_root).",
    )
    MOMENTUM_IGNORED = (
        "momentum ignored",
        "The run is without momentum.",
        "A plain gradient step was written instead of the step of the optimiser.",
        "Use the optimiser's own update.",
    )
    NESTEROV = (
        "Nesterov",
        "Nesterov's momentum is used instead of plain momentum, or the reverse.",
        "θ ← θ − γ(g + μv) was written for θ ← θ − γv, or the reverse.",
        "Use the form of momentum that the rule states.",
    )
    DECAY_NOT_DIFFERENTIATED = (
        "weight decay not differentiated",
        "The run has weight decay, its derivative does not.",
        "The decay was applied under no_grad, or left out of the Hessian.",
        "Add w to the Hessian's diagonal, or let the graph go through the decay.",
    )
    DECAY_FORGOTTEN = (
        "weight decay forgotten",
        "The optimiser's weight decay is missing from the run or from the density.",
        "The decay (the prior) was not added to the inner gradient.",
        "Add w·θ to the inner gradient.",
    )
    DECAY_BEFORE_RUN = (
        "weight decay applied before the run",
        "The weights decay once before the first step.",
        "The buffers were filled by a step with a zero gradient.",
        "Fill the buffers without a step.",
    )
    DECOUPLED_DECAY = (
        "decoupled weight decay",
        "AdamW's decay θ ← (1 − γw) θ is used instead of decay as part of the gradient, or the reverse.",
        "AdamW was used instead of Adam with weight decay, or the reverse.",
        "Use the form of decay that the rule states.",
    )
    DECOUPLED_DECAY_MISPLACED = (
        "decoupled weight decay misplaced",
        "The factor 1 − γw of AdamW's decay is applied after the step, or is 1 − w.",
        "The weights were decayed after the optimiser's step, or w was not multiplied by the learning rate.",
        "Set θ ← (1 − γw) θ, then subtract the step.",
    )
    ADAM_EPSILON_EARLY = (
        "Adam's epsilon before the bias correction",
        "√v + ε is divided by √(1 − β₂ᵗ).",
        "ε was added before the second moment's bias was corrected.",
        "Divide m̂ by √v̂ + ε.",
    )
    ADAM_ROOT = (
        "Adam's root left out",
        "v is used instead of √v.",
        "The square root of the second moment was forgotten.",
        "Divide m̂ by √v̂ + ε.",
    )
    ADAM_EPSILON = (
        "Adam's epsilon not differentiated",
        "∂√v/∂v is taken as 1 / 2(√v + ε).",
        "ε was put into the derivative of the root.",
        "Differentiate √v and add ε afterwards.",
    )
    ADAM_CORRECTION = (
        "Adam's bias correction left out",
        "The moments are used without their bias corrections.",
        "m is used instead of m / (1 − β₁ᵗ), v instead of v / (1 − β₂ᵗ), or one of the two.",
        "Divide the moments by 1 − βᵗ.",
    )
    STATE_NOT_KEPT = (
        "optimiser's state not kept between steps",
        "The optimiser's moments, or its step count, start anew at every step.",
        "The optimiser was made inside the loop, or its step count was never advanced.",
        "Keep the moments and the step count from step to step.",
    )
    # The estimand.
    ANOTHER_ESTIMAND = (
        "another estimand",
        "The hypergradient is right for another estimand of the same problem.",
        "Unrolled, pathwise, implicit and Gibbs hypergradients differ.",
        "Check it against the estimand that the code computes, or compute the estimand that you want.",
    )
    # The implicit solve.
    IDENTITY_FOR_INVERSE = (
        "identity for the inverse Hessian",
        "The inverse Hessian is replaced by the identity.",
        "The solve was left out (T1-T2 without its step size).",
        "Solve H q = ∂_θ f.",
    )
    ONE_STEP = (
        "one-step approximation",
        "γ is used instead of H⁻¹ (T1-T2).",
        "The inner solution was differentiated through its last step alone.",
        "Solve H q = ∂_θ f, or call the result an approximation.",
    )
    HESSIAN_BLOCKS = (
        "Hessian's blocks between tensors left out",
        "The Hessian is taken for each tensor of θ separately.",
        "Products were formed tensor by tensor.",
        "Form the product with the whole of θ at once.",
    )
    CG_LAST_DROPPED = (
        "dropped last CG iterate",
        "The solve returns the iterate before its last.",
        "The loop ends before its last update is stored.",
        "Return the updated iterate.",
    )
    CG_EARLY = (
        "CG stopped early",
        "Conjugate gradients end before they have converged.",
        "Too few iterations, or too large a tolerance.",
        "Iterate until the residual is small.",
    )
    CG_OLD_RESIDUAL = (
        "CG direction from an old residual",
        "A direction is made from the residual of an earlier iteration.",
        "The residual was updated after the direction.",
        "Use p ← r_new + β p.",
    )
    DAMPING = (
        "damping left in",
        "The linear system is solved with a damped Hessian, H + δI or H + δ diag H.",
        "A damping that was added for stability changes the result.",
        "Lower δ, or correct for it.",
    )
    SERIES_SHORT = (
        "series cut short",
        "The Neumann series has too few terms.",
        "K is too small for the condition of H.",
        "Take more terms, or a solve.",
    )
    SERIES_ONE_MORE = (
        "series with one term more",
        "The Neumann series has K + 1 terms.",
        "K was counted in products with the Hessian.",
        "Take K terms: powers 0 … K − 1.",
    )
    SERIES_ONE_FEWER = (
        "series with one term fewer",
        "The Neumann series has K − 1 terms.",
        "The loop starts at 1.",
        "Take K terms: powers 0 … K − 1.",
    )
    NOT_CONVERGED = (
        "inner solver not converged",
        "The implicit formula is applied at an iterate that is not the solution.",
        "Too few inner steps were made.",
        "Make more inner steps before the formula is applied.",
    )


_BY_NAME = {mistake.at(place): mistake for mistake in Mistake for place in Place}
