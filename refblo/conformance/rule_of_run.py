"""The inner optimiser of a caller's run: read from the options, checked, and put on flat vectors."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from refblo.conformance.first_calls import own
from refblo.conformance.options import Run
from refblo.conformance.trees import Form, leaves, text
from refblo.errors import ArgumentError, require
from refblo.rules.named import rule_of
from refblo.rules.numbers import Number, arity, is_function, value_of
from refblo.rules.rule import Rule
from refblo.types import Estimand


def rule_of_run(run: Run, estimand: Estimand) -> Rule:
    """The optimiser, with the temperature that is asked for; its functions of λ still take the caller's λ.

    Raises:
        ArgumentError, ArgumentTypeError: if there is none, or the estimand cannot obey it.
    """
    temperature = run.get("temperature")
    if "rule" in run:
        require(
            "step_size" not in run,
            "step_size",
            "be left out beside rule",
            "both",
            "give one of the two",
        )
        rule = rule_of(run["rule"])
        if temperature is not None:
            alone = rule.temperature in (1.0, temperature)
            require(alone, "temperature", "be that of the rule", temperature, "leave it out")
            rule = replace(rule, temperature=temperature)
    elif "step_size" in run:
        rule = Rule(run["step_size"], temperature=temperature or 1.0)
    elif estimand is Estimand.GIBBS:
        rule = Rule(1.0, temperature=temperature or 1.0)
    else:
        raise ArgumentError(
            "step_size must be given (or rule, or step), got none of them; give the step size of the inner "
            "run"
        )
    _check(rule, run, estimand)
    if estimand is Estimand.GIBBS and rule.noise_scale > 0:
        # The chain samples at temperature τκ².
        temperature = rule.temperature * rule.noise_scale**2
        rule = replace(rule, temperature=temperature, noise_scale=0.0)
    return rule


def on_vectors(rule: Rule, lam: Tensor, form: Form, state_form: Form, steps: int) -> Rule:
    """The rule with functions of the flat λ, whose values are numbers or vectors as long as θ.

    Raises:
        ArgumentError, ArgumentTypeError: if a value does not fit θ, or is out of its range at some step.
        LossError: if a function raises.
    """

    def flat(name: str, number: Number) -> Number:
        called = f"rule.{name}"

        def at(vector: Tensor, step: int) -> Any:
            value = own(called, lambda: value_of(called, number, form.unflatten(vector), step))
            return _one_or_vector(called, value, state_form)

        return at

    changed = rule.mapped(flat)
    changed.check_at(lam, steps, state_form.size)
    return changed


def _one_or_vector(name: str, value: Any, state_form: Form) -> Any:
    """A number as it is; a tree of numbers or tensors for the tensors of θ as a vector."""
    if not isinstance(value, Tensor | dict | list | tuple):
        return value
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.reshape(())
    found = leaves(f"{name}(lam)", value)
    must = "return one number, or a number or a tensor for each tensor of theta"
    known = ", ".join(text(path) or "a single tensor" for path in state_form.shapes)
    pieces = []
    for path, shape in state_form.shapes.items():
        piece = found.get(path)
        if piece is None or len(found) != len(state_form.shapes):
            got = ", ".join(text(path) or "a single tensor" for path in found)
            raise ArgumentError(
                f"{name} must {must} ({known}), got {got}; return one number or tensor for each"
            )
        good = piece.numel() == 1 or piece.shape == shape
        got = f"shape {tuple(piece.shape)} for theta{text(path)} of shape {tuple(shape)}"
        require(good, name, must, got, "give it the shape of theta")
        pieces.append(piece.reshape(-1).expand(shape.numel()))
    return torch.cat(pieces)


def _check(rule: Rule, run: Run, estimand: Estimand) -> None:
    """Refuse what the estimand cannot obey."""
    if estimand is Estimand.GIBBS:
        require(
            rule.buffers == 0 and not rule.clips,
            "rule",
            "be plain Langevin dynamics for the Gibbs estimand",
            rule.formula.name if rule.buffers > 0 else "clipping",
            "leave out momentum, betas and clipping: with them the chain samples another density",
        )
    if estimand is Estimand.IMPLICIT and rule.buffers > 0:
        require(
            not (rule.decoupled_decay),
            "rule.decoupled_decay",
            f"be False beside {rule.formula.name} for the implicit estimand",
            True,
            "set it to False, or ask for the unrolled estimand: with it the run ends at no minimiser",
        )
    if estimand is Estimand.IMPLICIT and rule.clips:
        require(
            not rule.has("weight_decay"),
            "rule.weight_decay",
            "be 0 beside clipping for the implicit estimand",
            rule.weight_decay,
            "leave out the decay, or ask for the unrolled estimand: the decay is not clipped, so that the "
            "run may end at no minimiser",
        )
    if estimand in (Estimand.IMPLICIT, Estimand.GIBBS) and is_function(rule.weight_decay):
        require(
            arity("rule.weight_decay", rule.weight_decay) == 1,
            "rule.weight_decay",
            f"be a function of lam alone for the {estimand.value} estimand",
            "a function of lam and the step",
            "make it constant along the run, or ask for the unrolled estimand: otherwise there is no inner "
            "problem",
        )
    if estimand is not Estimand.GIBBS and rule.noise_scale > 0:
        require(
            "noise" in run and estimand is not Estimand.IMPLICIT,
            "rule.noise_scale",
            "be 0 unless the noise of each step is given",
            rule.noise_scale,
            "give noise=…, shape (T, n)" if estimand is not Estimand.IMPLICIT else "leave it out",
        )
