"""How far a training's steps carry it: what tells a training that cannot move from one that has nowhere to go.

Three figures, none of which knows a scale. The *stride* is the last step's length relative to the weights. The
*sensitivity* is the relative change of the loss with the weights, sum |g_l| |w_l| / |loss|: around 1 in a fresh
network, some hundreds in a trained one. The *reach* is the share of the loss that a thousand such steps could
remove if every one of them went straight downhill: sum |g_l| |u_l| / |loss|, by the Cauchy-Schwarz inequality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from supervisor.diagnoses.past import LEVEL, REFRESH, Past
from supervisor.records import FloatArray, Snapshot

Array = npt.NDArray[np.float64]

HORIZON: Final = 1000  # steps that the reach looks ahead
RECENT: Final = 4  # samples whose median is the figure of now
_WEIGHTY: Final = ("linear", "conv", "recurrent")


@dataclass(frozen=True, slots=True)
class Movement:
    """What the recent steps were worth: medians over the last samples; NaN where nothing is known."""

    stride: float  # |update| / |weights|, over all layers with a weight matrix
    reach: float  # share of the loss that HORIZON such steps could remove at best
    sensitivity: float  # sum over the layers of |gradient| |weights| / |loss|


def weighty(now: Snapshot) -> list[int]:
    """Return the indices of the layers that multiply by a weight matrix, in the order of the forward pass."""
    return [i for i, layer in enumerate(now.anatomy.layers) if layer.kind in _WEIGHTY]


def shots(now: Snapshot, past: Past) -> list[Snapshot]:
    """Return the sampled ticks of the same network up to and with `now`, the oldest first."""
    alike = [shot for shot in past.samples if shot.anatomy.layers == now.anatomy.layers and shot.finite]
    return [*alike, now]


def movement(seen: Sequence[Snapshot]) -> Movement:
    """Return the movement of the last RECENT of the sampled ticks `seen`."""
    with np.errstate(all="ignore"):
        figures = np.array([_figures(shot) for shot in seen[-RECENT:]], np.float64)
        known = figures[np.isfinite(figures).all(1)]
    if not len(known):
        return Movement(math.nan, math.nan, math.nan)
    return Movement(*(float(value) for value in np.median(known, axis=0)))


def _figures(shot: Snapshot) -> tuple[float, float, float]:
    rows = weighty(shot)
    if shot.sample is None or not rows:
        return math.nan, math.nan, math.nan
    weights = shot.sample.weight_norms.astype(np.float64)
    updates = shot.sample.update_norms.astype(np.float64)
    gradients = shot.grad_norms.astype(np.float64)
    stride = np.linalg.norm(updates[rows]) / np.linalg.norm(weights[rows])
    loss = max(abs(shot.loss), 1e-30)
    return float(stride), HORIZON * float(gradients @ updates) / loss, float(gradients @ weights) / loss


def path(seen: Sequence[Snapshot]) -> FloatArray:
    """Return how far each layer went over `seen`, relative to its weights: steps times ticks, summed, (layers,).

    An upper bound: steps that go to and fro count in full.
    """
    legs = [(shot.tick - before.tick, shot.sample) for before, shot in pairwise(seen) if shot.sample is not None]
    if not legs:
        return np.zeros(len(seen[-1].anatomy.layers), np.float32)
    ratios = np.nan_to_num(np.array([sample.update_ratios for _, sample in legs]), nan=0.0)
    return np.asarray(np.array([ticks for ticks, _ in legs], np.float32) @ ratios)


def learned(past: Past) -> tuple[float, float]:
    """Return the share of the first losses that is gone by now, and two standard errors of it; NaN where unknown."""
    initial = abs(past.initial_loss)
    if not initial > 0.0 or not past.losses:
        return math.nan, math.nan
    error = 2.0 * 1.2533 * past.loss.scale * math.sqrt(1.0 / (2 * REFRESH) + 1.0 / LEVEL) / initial
    return (past.initial_loss - past.level(LEVEL)) / initial, min(error, 0.3) if math.isfinite(error) else 0.0


def course(now: Snapshot, past: Past) -> tuple[Array, Array, Array]:
    """Return ticks, rates and losses before `now`, as far back as known: each late tick, and the sampled ones before.

    Losses are those of single batches.
    """
    count, last = min(len(past.lrs), len(past.losses)), now.tick - 1
    rates, losses = (np.fromiter(islice(s, len(s) - count, None), np.float64, count) for s in (past.lrs, past.losses))
    ticks = np.arange(last - count + 1, last + 1, dtype=np.float64)
    earlier = [shot for shot in past.samples if shot.tick <= last - count and shot.finite]
    old = np.array([(shot.tick, shot.lr, shot.loss) for shot in earlier], np.float64).reshape(-1, 3)
    return np.r_[old[:, 0], ticks], np.r_[old[:, 1], rates], np.r_[old[:, 2], losses]
