"""Who is to blame for gradients that exploded: the batch, its targets, the steps, the weights or the recurrence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from supervisor.diagnoses import causes, upset
from supervisor.diagnoses.past import Past
from supervisor.records import Cause, Snapshot


def of_level(now: Snapshot, past: Past, where: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the ranked causes of gradients that are too large for good, as keyword arguments of a finding."""
    return causes.first(causes.ranked(upset.suspects(now, past, where)))


def of_spike(now: Snapshot, past: Past, where: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the ranked causes of a spike: its batch is a suspect too."""
    return causes.first(causes.ranked([*upset.suspects(now, past, where), *_data(now, past)]))


def _data(now: Snapshot, past: Past) -> list[Cause]:
    """Return what speaks for one bad batch: all was usual up to the tick before, steps and rate included.

    An outlying target shows in the loss as its square, in the gradients as itself; an input out of scale shows in
    both alike, and in the signal of the first layers.
    """
    norms = past.log_grad_norm
    if not (len(norms) and past.losses and now.grad_norm > 0.0 and now.loss > 0.0):
        return []
    usual = norms.outliers == 0 and norms.values[-1] <= norms.upper(4.0, math.log10(2.0))
    sudden = usual and past.losses[-1] <= past.loss.upper(4.0, 0.25 * abs(past.loss.centre))
    steady = upset.rate_rise(now, past) < 2.0 and not upset.update_ratio(now, past) >= upset.REWRITING
    if not (sudden and steady) or upset.diverging(past):
        return []
    square, signal = _square(now, past), _signal(now, past)
    target = 0.75 if 1.7 < square < 2.3 and not signal > 2.0 else 0.3
    batch = 0.9 if signal > 2.0 else 0.7
    figures = {"loss_per_gradient": square, "signal": signal}
    return [causes.suspect(causes.BAD_BATCH, batch, **figures), causes.suspect(causes.BAD_TARGET, target, **figures)]


def _square(now: Snapshot, past: Past) -> float:
    """Return the power of the gradient's jump that the loss's jump is; NaN where neither can be told."""
    jump = math.log10(now.grad_norm) - past.log_grad_norm.centre
    if not (past.loss.centre > 0.0 and jump > 0.0):
        return math.nan
    return math.log10(now.loss / past.loss.centre) / jump


def _signal(now: Snapshot, past: Past) -> float:
    """Return the largest signal of a layer over its usual one; NaN on a tick without a sample."""
    shots = [shot for shot in upset.shown(now, past) if shot is not now][-8:]
    if now.sample is None or not shots:
        return math.nan
    earlier = np.array([shot.sample.signal for shot in shots if shot.sample is not None], np.float64)
    with np.errstate(all="ignore"):
        ratios = now.sample.signal / np.median(earlier, axis=0)
    known = ratios[np.isfinite(ratios)]
    return float(known.max()) if known.size else math.nan
