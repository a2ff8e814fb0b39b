"""How far single steps carry the weights, and whether a schedule moves the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import Final

import numpy as np

from supervisor.diagnoses.movement import weighty
from supervisor.diagnoses.past import LEVEL, Past
from supervisor.records import Snapshot

BEGINNING: Final = 21  # ticks in which a training can be thrown off


def in_motion(past: Past, window: int) -> bool:
    """Return whether a schedule is moving the learning rate: it took on new values in most of the last ticks."""
    recent = list(islice(past.lrs, max(0, len(past.lrs) - window), None))
    return len(set(recent)) > len(recent) // 2


def stride(shot: Snapshot) -> float:
    """Return update norm over weight norm of all layers that multiply; 0 where unknown. Small layers weigh little."""
    if shot.sample is None:
        return 0.0
    rows = weighty(shot)
    moved, weights = (a[rows].astype(np.float64) for a in (shot.sample.update_norms, shot.sample.weight_norms))
    known = np.isfinite(moved) & np.isfinite(weights)
    total = math.sqrt(float(weights[known] @ weights[known]))
    return math.sqrt(float(moved[known] @ moved[known])) / total if total > 0.0 else 0.0


def since_best(past: Past, now: Snapshot) -> Iterable[Snapshot]:
    """Return the sampled ticks since the loss was best, `now` among them."""
    return (shot for shot in (*past.samples, now) if shot.tick > past.best_tick - LEVEL)


def largest(shots: Iterable[Snapshot]) -> float:
    """Return the largest known stride of `shots`."""
    return max((stride(shot) for shot in shots), default=0.0)


def opening(past: Past) -> float:
    """Return the largest stride of the beginning."""
    return largest(shot for shot in islice(past.samples, 8) if shot.tick <= BEGINNING)
