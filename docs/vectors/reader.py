"""Compute the quadratic test vectors in plain NumPy: python reader.py DIRECTORY > results.json."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def numbers(strings: object) -> Any:
    """Decimal strings, nested as they are, as an array."""
    return np.array(strings, dtype=object).astype(np.float64)


def hypergradient(file: dict[str, Any], averaged: bool) -> Any:
    """Differentiate the run forwards: s is d theta/d lambda, which each step takes along."""
    a = {name: numbers(entry) for name, entry in file["problem"]["arrays"].items()}
    lam, theta = numbers(file["lambda"]), numbers(file["theta0"])
    settings, n, p = file["settings"], theta.size, lam.size
    step_size = float(settings["step_size"])
    weights, s = (a.get(name, np.zeros((n, p))) for name in ("weights", "start_jacobian"))
    mixed, direct = a.get("outer_mixed", np.zeros((n, p))), a.get("direct", np.zeros((p, p)))
    theta = theta + s @ lam
    noise = np.zeros((settings["steps"], n)) if file["noise"] is None else numbers(file["noise"])
    total, count = np.zeros(p), settings["samples"] if averaged else 1
    for t in range(settings["steps"]):
        # Without an array `weights` there is no such term in the inner loss at all.
        curvature = np.exp(weights @ lam) if "weights" in a else np.zeros(n)
        hessian = a["hessian"] + np.diag(curvature)
        cross = -a["coupling"] + (curvature * theta)[:, None] * weights
        gradient = hessian @ theta - a["coupling"] @ lam - a["shift"]
        s = s - step_size * (hessian @ s + cross)
        theta = theta - step_size * gradient + noise[t]
        if t + 1 > settings["steps"] - count:
            by_theta = a["outer_hessian"] @ theta + a["outer_slope"] + mixed @ lam
            by_lam = direct @ lam + a.get("direct_slope", np.zeros(p)) + theta @ mixed
            total += (by_lam + by_theta @ s) / count
    return total


results = {}
for path in sorted(Path(sys.argv[1]).glob("*.json")):
    file = json.loads(path.read_text(encoding="utf-8"))
    for vector in file["vectors"]:
        asked = vector["estimand"] in ("unrolled", "pathwise") and vector["estimator"] == "exact"
        if asked and file["problem"]["kind"] == "quadratic":
            value = hypergradient(file, vector["estimand"] == "pathwise")
            results[vector["id"]] = [repr(float(entry)) for entry in value]
print(json.dumps(results, indent=1))
