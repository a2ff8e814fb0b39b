"""The limits that gradient norms are measured against: what is usual, of the whole network and of each layer."""

from __future__ import annotations

import math
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from supervisor.diagnoses.past import MAD_TO_SIGMA, Past
from supervisor.records import Snapshot

Floats = npt.NDArray[np.float64]

FAR: Final = 2.0  # times `z`: a spike this far out need only be
NEAR: Final = 2.0  # times the usual norm
TAIL: Final = 0.9  # quantile of the last accepted norms
LEAP: Final = 3.0  # times the rise of the last ticks
RECENT: Final = 40  # accepted ticks in which a fallen level shows
LAYER_SAMPLES: Final = 12  # sampled ticks before a layer is judged by its own past


def limit(past: Past, z: float, ratio: float) -> float:
    """Return the limit of log10 norms: `z` sigmas and `ratio` times the usual, or farther out and NEAR times.

    The usual is that of the whole accepted past or of its last ticks, whichever is lower: a level may have fallen. Over
    what every tenth of the last ticks reached it must be as well: near the edge of stability norms swing by decades.
    """
    series = past.log_grad_norm
    if len(series) <= RECENT:
        return _limit(series.centre, series.scale, z, ratio)
    recent = np.fromiter(islice(reversed(series.values), RECENT), np.float64)
    centre, scale = robust(recent)
    most = min(_limit(series.centre, series.scale, z, ratio), _limit(float(centre), float(scale), z, ratio))
    return max(most, float(np.quantile(recent, TAIL)) + math.log10(NEAR))


def _limit(centre: float, scale: float, z: float, ratio: float) -> float:
    near = max(FAR * z * scale, math.log10(NEAR))
    return centre + max(z * scale, min(math.log10(ratio), near))


def layer_limits(now: Snapshot, past: Past, z: float, ratio: float) -> Floats | None:
    """Return the limit of each layer's log10 norm, by its own past, (layers,); None without enough samples."""
    shots = [shot for shot in past.samples if shot.anatomy.layers == now.anatomy.layers and shot.finite]
    if len(shots) < LAYER_SAMPLES:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        centres, scales = robust(np.log10(np.array([shot.grad_norms for shot in shots], np.float64)))
        return np.asarray(centres + np.fmax(z * scales, math.log10(ratio)))


def robust(values: Floats) -> tuple[Floats, Floats]:
    """Return median and robust standard deviation over the first dimension."""
    centre = np.median(values, axis=0)
    return np.asarray(centre), np.asarray(MAD_TO_SIGMA * np.median(np.abs(values - centre), axis=0))


def loss_leapt(now: Snapshot, past: Past) -> bool:
    """Return whether the loss rose at once, or well beyond where it began; what builds up mostly dies down again."""
    risen = max(islice(reversed(past.losses), 3)) - past.loss.centre
    beyond = now.loss > past.initial_loss + 0.5 * abs(past.initial_loss)
    return beyond or not now.loss - past.loss.centre < LEAP * risen


def usual(past: Past) -> dict[str, float]:
    """Return the median norm of the accepted past, and the largest usual one: 3 sigma, at least twice the median."""
    series = past.log_grad_norm
    if not len(series):
        return {}
    return {"typical": 10.0**series.centre, "usual_max": 10.0 ** series.upper(3.0, math.log10(2.0))}


def given_back(past: Past) -> float:
    """Return the loss a quarter of the way back from 0, or from a level below it, to where the training began.

    In a task that is nearly solved one hard input is many times the usual loss and gradient, and does no harm.
    """
    return 0.25 * past.first_loss + 0.75 * min(past.loss.centre, 0.0)
