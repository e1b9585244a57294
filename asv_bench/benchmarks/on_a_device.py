"""Rows on a device that is not there: its host synchronisations and transfers, `python -m` this file as JSON.

For a process of its own: torch cannot take a registered device back.
"""

import json
import sys
from dataclasses import asdict

import torch

from refblo.cost import measure
from refblo.estimators import Estimator

from .counted import ESTIMATORS, ON_A_DEVICE, STEPS, Row, counts, key, posed

PROBLEM = ON_A_DEVICE.split(",", maxsplit=1)[0]


def row_on_a_device(method: Estimator) -> Row:
    """One row; without numbers it has no error."""
    from refblo.cost import pretend_device  # asv imports this file on commits that lack it

    setting = posed(PROBLEM)
    with pretend_device(adopt=True) as device:
        lam = torch.empty_like(setting.lam, device=device)
        return counts(measure(lambda: method.estimate(setting.problem, lam)))


if __name__ == "__main__":
    steps = STEPS[0]
    rule = posed(PROBLEM).rule
    found = {
        key(ON_A_DEVICE, name, steps): asdict(row_on_a_device(make(rule, steps)))
        for name, make in ESTIMATORS.items()
    }
    json.dump(found, sys.stdout)
