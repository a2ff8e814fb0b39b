"""A rival for the clinic: AutoTrainer's procedure, re-implemented from its published description.

Zhang et al., "AutoTrainer: An Automatic DNN Training Problem Detection and Repair System", ICSE 2021: the monitor
sees a symptom, and the training is begun anew with one remedy of that symptom's list after another, until the monitor
is silent. Where this re-implementation had a choice, it took what is better for the rival:

- its monitor is ours (the default policy's detectors, which do nothing): its own misses many symptoms in real programs;
- a training that is rejected is paid for only until its symptom is seen, but at least 30 % of it, because it judges
  after 30 to 50 %; the last one is paid for in full;
- where nothing silences the monitor, the last training stands;
- remedies that do not fit a network cost nothing; six retrainings are the most.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from supervisor.clinic.case import Case, Program
from supervisor.clinic.runs import Ran, build, run_reported
from supervisor.entry import Training, supervise
from supervisor.errors import RemedyRefused
from tests.benchmarks.autotrainer_remedies import REMEDIES

MOST: Final = 6  # retrainings of a case
JUDGED: Final = 0.3  # share of a training that passes before it is judged

SYMPTOMS: Final = {
    "vanishing_gradients": "vanishing gradients",
    "saturation": "vanishing gradients",
    "exploding_gradients": "exploding gradients",
    "non_finite": "exploding gradients",
    "dead_units": "dying ReLU",
    "unstable_training": "oscillating loss",
    "plateau": "slow convergence",
}
"""What AutoTrainer calls what our detectors find: it has no name for saturation, and counts a NaN as an explosion."""

ORDER: Final = {
    "vanishing gradients": ("selu", "relu", "batch norm"),
    "exploding gradients": ("selu", "relu", "clip", "tanh", "batch norm"),
    "dying ReLU": ("selu", "batch norm", "initializer", "leaky relu"),
    "oscillating loss": ("adam", "lower rate", "rate on plateau", "batch size", "momentum", "noise", "initializer"),
    "slow convergence": ("optimizer", "raise rate", "initializer"),
}
"""The remedies of each symptom, in the published order."""


def autotrainer(case: Case, seed: int) -> Ran:
    """Train a case again and again until nothing is found; the cost is that of all trainings."""
    program = build(case.build, seed)
    came, spent, tried = _trained(program, program.training), 0, list[str]()
    symptom = SYMPTOMS[came.findings[0].pathology] if came.findings else ""
    for name in ORDER.get(symptom, ()):
        if not came.findings or len(tried) == MOST:
            break
        program = build(case.build, seed)
        try:
            training = REMEDIES[name](program.training)
        except RemedyRefused:
            continue
        spent += _until_judged(came)
        tried.append(name)
        came = _trained(program, training)
    return replace(came, ticks=spent + came.ticks, interventions=tuple(tried))


def _trained(program: Program, training: Training) -> Ran:
    """Train to the end under a monitor that does nothing. Passes are counted in batches of the program's own size."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "run"
        report = supervise(replace(training, policy="observe", tracking=None, run_dir=where, progress=False))
    ran, larger = run_reported(program, report), training.accumulate // program.training.accumulate
    findings = tuple(replace(seen, tick=seen.tick * larger) for seen in ran.findings)
    return replace(ran, ticks=ran.ticks * larger, findings=findings)


def _until_judged(ran: Ran) -> int:
    """Return how many passes a rejected training took until it was ended."""
    return min(ran.ticks, max(round(JUDGED * ran.planned), ran.findings[0].tick))
