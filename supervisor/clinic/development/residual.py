"""Faulty trainings of deep networks with skip connections, or without them where they are needed."""

from __future__ import annotations

import torch

from supervisor.clinic.case import Case
from supervisor.clinic.development import _faults as faults
from supervisor.clinic.development._build import Recipe, adam, adamw, faulty, sgd, squared
from supervisor.clinic.development._models import Residual
from supervisor.clinic.tasks import digits, waves
from supervisor.diagnoses import causes as c

skips = Recipe(digits, lambda: Residual(64, 32, 10, depth=10), sgd(0.01), steps=800)
normed = Recipe(digits, lambda: Residual(64, 32, 10, depth=8, norm=True), adamw(1e-3), steps=700)
gated = Recipe(digits, lambda: Residual(64, 32, 10, depth=12, gate=0.1), adam(1e-3), steps=700)
smooth = Recipe(waves, lambda: Residual(5, 32, 1, depth=4, norm=True), adam(2e-3), squared, steps=700)
bent = Recipe(digits, lambda: Residual(64, 32, 10, depth=5, function=torch.tanh), sgd(0.02), steps=800)

CASES: tuple[Case, ...] = (
    faulty(
        "residual/20-layers-without-skips", skips, ("vanishing_gradients",), {c.NO_SKIPS, c.DEPTH, c.INITIALIZATION},
        model=lambda: Residual(64, 32, 10, depth=10, skip=False),
    ),
    faulty(
        "residual/branches-not-scaled-down", skips, ("exploding_gradients", "unstable_training", "non_finite"),
        {c.INITIALIZATION, c.LARGE_WEIGHTS, c.LARGE_LR}, prepare=faults.scaled(1.5, faults.he),
    ),
    faulty(
        "residual/weights-x30-at-300", bent, ("saturation", "exploding_gradients", "unstable_training"),
        {c.LARGE_WEIGHTS}, onset=300, fault=faults.accident(300, faults.scaled(30.0)),
    ),
    faulty(
        "residual/ten-batches-of-targets-x1000-at-350", smooth, ("exploding_gradients", "unstable_training", "plateau"),
        {c.BAD_TARGET, c.BAD_BATCH}, onset=350,
        distort=faults.batch_at(range(350, 360), faults.targets(lambda y: y * 1000)),
    ),
    faulty(
        "residual/first-moment-garbage-at-350", normed,
        ("exploding_gradients", "unstable_training", "dead_units", "plateau"),
        {c.LARGE_LR, c.BAD_OPTIMIZER}, onset=350, fault=faults.corrupt_state(350, "exp_avg", 100.0),
    ),
    faulty(
        "residual/nan-parameter-at-250", gated, ("non_finite",), {c.BAD_PARAMETERS}, onset=250,
        fault=faults.accident(250, lambda m: faults.weights(m)[7].view(-1)[3:4].fill_(float("nan"))),
    ),
    faulty(
        "residual/rate-decays-too-early", skips, ("plateau",), {c.DECAYED_LR, c.SMALL_LR}, onset=15,
        schedule=faults.rate(lambda tick: 0.7**tick),
    ),
    faulty(
        "residual/sigmoid-huge-weights", bent, ("saturation",), {c.INITIALIZATION, c.LARGE_WEIGHTS, c.ACTIVATION},
        model=lambda: Residual(64, 32, 10, depth=5, skip=False, function=torch.sigmoid), prepare=faults.normal(5.0),
    ),
    faulty(
        "residual/rate-too-high-sgd", bent, ("unstable_training", "exploding_gradients", "saturation"), {c.LARGE_LR},
        optimizer=sgd(0.2),
    ),
    faulty(
        "residual/branches-die", normed, ("dead_units",), {c.NEGATIVE_BIAS, c.INITIALIZATION},
        model=lambda: Residual(64, 32, 10, depth=8, skip=False), prepare=faults.biased(-3.0),
    ),
)  # fmt: skip
