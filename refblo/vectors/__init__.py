"""Test vectors: hypergradients for implementers in any language, each number with a rigorous radius.

A file holds one problem, in words and in sympy's srepr, with all its numbers as decimal strings, and
questions about it: an estimand, an estimator, and the answers that are known: the valid one, those that
another convention gives (acceptable), and those that a known mistake gives (invalid, flagged with its
name). The data flow one way: `problems` → `run` → `answers` → `document`; `read` and `verify` know the
files alone.
"""
