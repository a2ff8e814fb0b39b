"""Faulty trainings of residual networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out._build import (
    EXPLODING,
    NON_FINITE,
    PLATEAU,
    SATURATION,
    UNSTABLE,
    VANISHING,
    Recipe,
    adam,
    sgd,
    sick,
)
from supervisor.clinic.held_out._dense import Residual
from supervisor.clinic.held_out._faults import jump, normal
from supervisor.diagnoses import causes as by

residual = Recipe(tasks.digits, lambda: Residual((64, 48, 10), 6), sgd(0.05), steps=500)
physics = Recipe(tasks.waves, lambda: Residual((5, 48, 1), 4, torch.tanh), adam(3e-3), F.mse_loss, steps=700)


CASES: tuple[Case, ...] = (
    sick(
        "residual/30-branches-no-norm-normal-0.4",
        "residual",
        residual,
        (EXPLODING, NON_FINITE, UNSTABLE),
        {by.INITIALIZATION, by.LARGE_WEIGHTS, by.DEPTH, by.LARGE_LR},
        model=lambda: Residual((64, 48, 10), 30, norm=False),
        init=normal(0.4),
        optimizer=sgd(0.01),
        steps=400,
    ),
    sick(
        "residual/nesterov-rate-0.2",
        "residual",
        residual,
        (EXPLODING, NON_FINITE, UNSTABLE),
        {by.LARGE_LR, by.LARGE_WEIGHTS},
        optimizer=sgd(0.2, nesterov=True),
    ),
    sick(
        "residual/tanh-regression-rate-x100-at-300",
        "residual",
        physics,
        (UNSTABLE, EXPLODING, SATURATION),
        {by.LARGE_LR},
        onset=300,
        rate=jump(300, 100.0),
    ),
    sick(
        "residual/weight-decay-1-sgd",
        "residual",
        residual,
        (PLATEAU, VANISHING),
        {by.WEIGHT_DECAY},
        optimizer=sgd(0.05, weight_decay=1.0),
    ),
)
