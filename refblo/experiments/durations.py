"""How long a table or figure takes, from measurements that are committed beside this file.

durations.json has processor seconds of one thread, by experiment and scale: of one training run for each
method and option, and of everything else under `REST`. The runs that a plan makes are counted, so that the
sum follows `--seeds`. `python -m refblo.experiments.durations SCALE NAME ...` measures again and rewrites the
file; a method's run is timed at its first outer rate, once, after one that is not counted.
"""

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from refblo.experiments.registry import find
from refblo.experiments.report import Experiment, Scale, silent
from refblo.experiments.run_options import RunOptions
from refblo.experiments.store import Store
from refblo.experiments.study import Arm, StudyPlan, TrainingStudy, Trial, TrialPlace
from refblo.experiments.twins import SEEDS as TWIN_SEEDS
from refblo.experiments.twins import run_twins
from refblo.files import write_atomically

FILE = Path(__file__).with_suffix(".json")
REST = "everything else"
Measured = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Experiment → scale → what → processor seconds."""


def measured() -> Measured:
    """The committed measurements."""
    content: Measured = json.loads(FILE.read_text(encoding="utf-8"))
    return content


def of_one_run(arm: Arm) -> str:
    """What a run's duration is measured for: rows that differ by their data set alone take as long."""
    return f"{arm.method} {arm.option}".strip()


def runs(plan: StudyPlan, seeds: int | None = None) -> dict[str, int]:
    """How many training runs a plan makes of each method and option."""
    count: dict[str, int] = {}
    pairs = plan.seeds if seeds is None else seeds
    tuned: set[str] = set()
    for arm in plan.arms:
        number = plan.seeds_of(arm, pairs)
        if arm.rated and arm.tuned_as not in tuned:
            tuned.add(arm.tuned_as)
            number += len(plan.rates) * plan.tuning_seeds
        if arm.rated and arm.printed_rate is not None:
            number += min(plan.at_printed_rates, pairs)
        count[of_one_run(arm)] = count.get(of_one_run(arm), 0) + number
    return count


def duration(experiment: Experiment, scale: Scale, options: RunOptions) -> float | None:
    """Seconds that the experiment takes with nothing in the store; None if it was not measured."""
    known = measured().get(experiment.name, {}).get(scale.value)
    if known is None:
        return None
    if not isinstance(experiment, TrainingStudy):
        return known[REST]
    counted = runs(experiment.plan(scale), options.seeds)
    if not counted.keys() <= known.keys():
        return None
    training = math.fsum(number * known[name] for name, number in counted.items())
    return training / options.jobs + known[REST]


def in_words(seconds: float) -> str:
    """Seconds below two minutes, minutes below two hours, hours from there on."""
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def announcement(experiments: Sequence[Experiment], scale: Scale, options: RunOptions) -> str:
    """What is said before anything starts."""
    known = {each.name: duration(each, scale, options) for each in experiments}
    parts = [
        f"{name} {'not measured' if seconds is None else in_words(seconds)}"
        for name, seconds in known.items()
    ]
    cores = "one free core" if options.jobs == 1 else f"{options.jobs} free cores"
    text = f"Time at the {scale.value} scale on {cores}, by processor time as measured: {', '.join(parts)}"
    if len(known) > 1:
        total = math.fsum(seconds for seconds in known.values() if seconds is not None)
        whole = None not in known.values()
        text += f"; {in_words(total)} {'in all' if whole else 'for those that were measured'}"
    return f"{text}. Finished parts are not run again."


def seconds_of(work: Callable[[], object]) -> float:
    """Processor seconds."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(experiment: Experiment | TrainingStudy, scale: Scale, output: Path) -> dict[str, float]:
    """Time one run of each method and option, and everything else.

    Args:
        experiment: the table or figure.
        scale: how much of it would be run.
        output: an empty folder.
    """
    if not isinstance(experiment, TrainingStudy):
        return {REST: round(seconds_of(lambda: experiment.run(scale, output)), 2)}
    plan, store = experiment.plan(scale), Store(output, experiment.name, scale, 0, silent)
    experiment.require_data(scale, None)
    place = TrialPlace(store, None, plan.settings)

    def train(arm: Arm, seed: int) -> float:
        return seconds_of(lambda: experiment.train(Trial(arm, plan.rates[0], seed), place))

    # What a process makes once (data, pretrained weights) is in the run that is not counted.
    once = train(plan.arms[0], 1)
    found: dict[str, float] = {}
    for arm in plan.arms:
        if of_one_run(arm) not in found:
            found[of_one_run(arm)] = round(train(arm, 0), 2)
    twin = experiment.twin
    if twin is not None:
        make = twin.make
        once += seconds_of(lambda: run_twins(store, make, {}, seeds=1)) * TWIN_SEEDS[scale]
    return {**found, REST: round(once, 2)}


def main(arguments: Sequence[str]) -> None:
    """Measure the named experiments at a scale, and rewrite the file."""
    scale, names = Scale(arguments[0]), arguments[1:]
    torch.set_num_threads(1)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(find(name), scale, Path(folder))
        content = {key: dict(of) for key, of in measured().items()}
        content[name] = {**content.get(name, {}), scale.value: found}
        write_atomically(FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        sys.stdout.write(f"{name}, {scale.value}: {sum(found.values()):.1f} s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
