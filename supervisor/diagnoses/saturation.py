"""Units pinned at the ends of a squashing function, in hidden layers, with the gradient they cost.

At the ends of sigmoid, tanh, a gate or an attention's softmax the derivative is nearly 0: what is pinned passes no
gradient on. Many networks pin some of their units in good health, because they learned to; and an output that is pinned
because the task is solved is the goal. So only hidden places count, most of one must be pinned in sample after
sample, and the training must pay for it: its loss stands unsolved, or has got nowhere since it began with them pinned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from supervisor.diagnoses import causes
from supervisor.diagnoses.past import Past
from supervisor.diagnoses.progress import standing
from supervisor.records import Cause, Finding, FloatArray, Sample, Site, Snapshot
from supervisor.registry import DETECTORS

ROW_NORM: Final = 3.0
"""Weights of a unit above this norm turn inputs of unit variance into sums that pin it; He's initialization has 1.4."""

USUAL_INPUT: Final = 2.0  # root mean square: standardized inputs have 1
"""Inputs ten times as large pin units whose weights are as they should be."""


@DETECTORS.register("saturation")
@dataclass(frozen=True)
class Saturation:
    """Most of a hidden layer's activations pinned in several samples, and no progress."""

    share: Annotated[float, Field(ge=0.3, le=0.99, description="share of pinned activations")] = 0.6
    samples: Annotated[int, Field(ge=2, le=20, description="samples in a row that show it")] = 3
    window: Annotated[int, Field(ge=20, le=200, description="ticks without progress of the loss")] = 30

    def inspect(self, now: Snapshot, past: Past) -> Finding | None:
        """Return a finding naming the layers that are pinned."""
        if now.sample is None or not now.finite or not now.anatomy.sites:
            return None
        pinned = _lasting(now, past, self.samples)
        if pinned is None:
            return None
        hit = [(s, float(p)) for s, p in zip(now.anatomy.sites, pinned, strict=True) if s.hidden and p > self.share]
        stands = standing(past, self.window) if hit else ""
        if stands == "below it":  # it may have learned, and pinned them for it: only what began pinned counts
            first = _first(now, past).pinned
            hit = [(site, p) for site, p in hit if first[now.anatomy.sites.index(site)] > self.share]
        if not hit or not stands:
            return None
        worst = max(hit, key=lambda pair: pair[1])
        where = tuple(dict.fromkeys(site.producer or site.name for site, _ in hit))
        evidence = {
            "value": worst[1],
            "limit": self.share,
            "loss_stands": stands,
            "figure": "share of pinned activations",
            "shares": {site.name: share for site, share in hit},
            **_cost(now),
            "samples": self.samples,
            "window": self.window,
        }
        found = causes.first(_causes(now, past, hit))
        return Finding("saturation", now.tick, now.step, where, min(1.0, worst[1]), evidence=evidence, **found)


def _first(now: Snapshot, past: Past) -> Sample:
    """Return the earliest sample at hand of the network as it is now."""
    shot = next((shot for shot in past.samples if shot.anatomy.sites == now.anatomy.sites), now)
    assert shot.sample is not None
    return shot.sample


def _lasting(now: Snapshot, past: Past, samples: int) -> FloatArray | None:
    """Return the smallest pinned share of each site over the last samples; None with too few of them."""
    recent = [shot for shot in list(past.samples)[-(samples - 1) :] if shot.anatomy.sites == now.anatomy.sites]
    shares = [shot.sample.pinned for shot in [*recent, now] if shot.sample is not None]
    return np.min(shares, axis=0) if len(shares) >= samples else None  # NaN stays NaN, and is no finding


def _cost(now: Snapshot) -> dict[str, Any]:
    """Return the share of the gradient that each squashing place lets through, relative to its best."""
    assert now.sample is not None
    pairs = zip(now.anatomy.sites, now.sample.slope, strict=True)
    slopes = {site.name: float(slope) for site, slope in pairs if site.hidden and math.isfinite(slope)}
    return {"slopes": slopes, "gradient_passed": min(slopes.values(), default=1.0)}


def _causes(now: Snapshot, past: Past, hit: list[tuple[Site, float]]) -> tuple[Cause, ...]:
    """Large weights pin units; from the first sample on they are the initialization's, later the learning rate's."""
    assert now.sample is not None
    index = {layer.name: i for i, layer in enumerate(now.anatomy.layers)}
    site = max(hit, key=lambda pair: pair[1])[0]
    first = _first(now, past)
    at_first = float(first.pinned[now.anatomy.sites.index(site)])
    suspects = [causes.suspect(causes.ACTIVATION, 0.2, function=site.function)]
    i = index.get(site.producer or "")
    if i is not None:
        row = float(first.weight_norms[i]) / math.sqrt(max(1, site.units))  # weights of a unit
        given = float(first.signal[i]) / max(row, 1e-30)  # inputs' rms: an output's is that times the unit's weights
        outside = min(1.0, max(0.0, math.log10(max(given, 1e-30) / USUAL_INPUT)))
        heavy, grown = min(1.0, row / ROW_NORM), _ratio(now.sample.weight_norms[i], first.weight_norms[i])
        born = (1.0 - outside) * heavy * at_first
        suspects += [
            causes.suspect(causes.INITIALIZATION, born, row_norm=row, pinned_at_first=at_first),
            causes.suspect(causes.INPUT_SCALE, outside * at_first, input_rms=given, row_norm=row),
            causes.suspect(causes.LARGE_WEIGHTS, min(1.0, grown - 1.0) * (1.0 - 0.5 * at_first), grown=grown),
            causes.suspect(causes.LARGE_LR, 1.0 - at_first if grown > 1.5 else 0.5 * (1.0 - at_first), grown=grown),
        ]
    return causes.ranked(suspects)


def _ratio(later: float, earlier: float) -> float:
    return float(later) / float(earlier) if earlier > 0 else 1.0
