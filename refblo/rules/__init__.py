"""Inner optimisers: one formula each, from which transition, tangent, adjoint and ball run are derived."""

from refblo.rules.named import SGD, Adam, AdamW, RMSprop, rule_of
from refblo.rules.numbers import Number
from refblo.rules.rule import Rule

__all__ = ["SGD", "Adam", "AdamW", "Number", "RMSprop", "Rule", "rule_of"]
