"""Snapshots made by hand, and pasts made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from supervisor.diagnoses.examiner import Examiner, build_detectors
from supervisor.diagnoses.past import Past
from supervisor.records import SILENCE_LENGTHS, Anatomy, Finding, FloatArray, Layer, Sample, Site, Snapshot

LR = float(np.float32(0.1))
NAMES = ("a", "b", "c", "d", "e")
ANATOMY = Anatomy(
    tuple(Layer(name, "linear", 100) for name in NAMES),
    tuple(
        Site(f"act_{a}", "relu", f"act_{a}", (), a, 10, hidden=True, gate=False, consumers=(b,))
        for a, b in pairwise(NAMES)
    ),
)


def full(value: float, *shape: int) -> FloatArray:
    return np.full(shape, value, np.float32)


def sample(moved: float = 0.01, silent: float = 0.0) -> Sample:
    figures = {"weight_norms": full(1.0, 5), "update_norms": full(moved, 5), "zeros": full(0.5, 4)}
    return Sample.blank(5, 4, **figures, silent=full(silent, 4, len(SILENCE_LENGTHS)))


def shot(tick: int, loss: float = 1.0, norm: float = 1.0, **changes: Any) -> Snapshot:
    """Return a snapshot whose gradient is spread evenly over five layers."""
    facts: dict[str, Any] = {
        "tick": tick, "step": tick, "loss": float(np.float32(loss)), "lr": LR, "grad_norm": float(np.float32(norm)),
        "grad_norms": full(norm / math.sqrt(5), 5), "anatomy": ANATOMY, "sample": sample() if tick % 10 == 1 else None,
    }  # fmt: skip
    return Snapshot(**{**facts, **changes})


def usual(ticks: int, seed: int = 0, loss: float = 1.0, norm: float = 1.0) -> list[Snapshot]:
    """Return ticks of a quiet training: 2 % noise on the loss, 10 % on the norm."""
    noise = np.random.default_rng(seed).normal(size=(ticks, 2))
    return [
        shot(t + 1, loss * (1 + 0.02 * float(a)), norm * (1 + 0.1 * float(np.clip(b, -3, 3))))
        for t, (a, b) in enumerate(noise)
    ]


def past_of(snapshots: Iterable[Snapshot]) -> Past:
    past = Past()
    for now in snapshots:
        past.append(now)
    return past


def examined(snapshots: Iterable[Snapshot], **detect: Any) -> list[Finding]:
    """Return all findings of a run, with the default thresholds but for `detect`."""
    examiner = Examiner(build_detectors(detect))
    return [finding for now in snapshots for finding in examiner.examine(now)]
