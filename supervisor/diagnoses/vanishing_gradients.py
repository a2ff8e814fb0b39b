"""Gradients that decay exponentially towards the input, or into the past, while the loss stands.

The judge fits log10 of the root-mean-square gradient over the layers in the order of the forward pass: the slope is
the factor a layer, scale and depth drop out, and an optimizer that rescales its steps (Adam) hides nothing. A steep
slope in a training that makes progress is architecture; only together with a loss that stands near where it began
is it an illness. Through time the limit is float32's: what arrives from a step below 1e-7 of the sum is rounded away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from supervisor.diagnoses import causes
from supervisor.diagnoses.depth import (
    Decay,
    chain,
    chain_rule,
    fit,
    log_gradients,
    main_path,
    may_reach,
    squashing,
    through_time,
)
from supervisor.diagnoses.past import Past
from supervisor.diagnoses.progress import standing
from supervisor.records import Cause, Finding, Snapshot
from supervisor.registry import DETECTORS

SURE: Final = 1.5
"""How much more decay it takes where the loss stands below where it began."""


@DETECTORS.register("vanishing_gradients")
@dataclass(frozen=True)
class VanishingGradients:
    """An exponential decay over the depth or through time, seen in several samples, and no progress."""

    decades: Annotated[float, Field(ge=1, le=8, description="log10 of the decay over the depth")] = 3.0
    fit: Annotated[float, Field(ge=0, le=1, description="r squared of the exponential fit, at least")] = 0.6
    window: Annotated[int, Field(ge=20, le=200, description="ticks without progress of the loss")] = 30
    time_decades: Annotated[float, Field(ge=3, le=20, description="log10 of the decay through time")] = 7.0
    time_window: Annotated[int, Field(ge=20, le=200, description="ticks without progress, for a decay in time")] = 150
    min_norm: Annotated[float | None, Field(gt=0, description="a limit on the first layer's norm instead")] = None

    def inspect(self, now: Snapshot, past: Past) -> Finding | None:
        """Return a finding if the fitted decay exceeds the limit and the loss stands where it began."""
        if now.sample is None or not now.finite or len(past.samples) < 3:
            return None
        if self.min_norm is not None:
            return self._absolute(now, self.min_norm)
        return self._in_depth(now, past) or self._in_time(now, past)

    def _in_depth(self, now: Snapshot, past: Past) -> Finding | None:
        layers = chain(now)
        if len(layers) < 4 or not (stands := standing(past, self.window)):
            return None
        limit = self.decades * (1.0 if stands == "where it began" else SURE)
        logs = log_gradients(now, past, layers)
        path = main_path(logs)  # it only rises
        decay = fit(path) if may_reach(10.0 ** path[0], 10.0 ** path[-1], limit) else None
        if decay is None or not (decay.decades >= limit and decay.r2 >= self.fit):
            return None
        evidence = {
            "value": decay.decades,
            "limit": limit,
            "loss_stands": stands,
            "decades": decay.decades,
            "factor_per_layer": decay.factor,
            "r2": decay.r2,
            "layers": len(layers),
            "zero_layers": int((~np.isfinite(logs)).sum()),
            "first_layer_rms": float(10.0 ** logs[0]),
            "last_layer_rms": float(10.0 ** logs[-1]),
            **_moves(now, layers),
            **chain_rule(now, layers),
            "window": self.window,
        }
        first = tuple(now.anatomy.layers[i].name for i in layers[: max(1, len(layers) // 2)])
        severity = min(1.0, decay.decades / (2 * self.decades))
        found = causes.first(_depth_causes(now, decay, len(layers)))
        return Finding("vanishing_gradients", now.tick, now.step, first, severity, evidence=evidence, **found)

    def _in_time(self, now: Snapshot, past: Past) -> Finding | None:
        assert now.sample is not None
        if not (now.sample.time_steps > 1).any():
            return None
        decays = {i: decay for i in chain(now) if (decay := through_time(now, i)) is not None}
        hit = {i: d for i, d in decays.items() if d.decades >= self.time_decades and d.r2 >= self.fit}
        if not hit or len(hit) < len(decays) or standing(past, self.time_window) != "where it began":
            return None  # one layer that remembers is enough
        worst = max(hit.values(), key=lambda decay: decay.decades)
        evidence = {
            "value": worst.decades,
            "limit": self.time_decades,
            "figure": "decades lost through time",
            "factor_per_step": worst.factor,
            "time_steps": worst.points,
            "r2": worst.r2,
            "window": self.time_window,
        }
        names = tuple(now.anatomy.layers[i].name for i in hit)
        found = causes.first(_time_causes(now, worst))
        severity = min(1.0, worst.decades / (2 * self.time_decades))
        return Finding("vanishing_gradients", now.tick, now.step, names, severity, evidence=evidence, **found)

    def _absolute(self, now: Snapshot, limit: float) -> Finding | None:
        layers = chain(now)
        if not layers or not now.grad_norms[layers[0]] < limit:
            return None
        figure = "gradient norm of the first layer"
        evidence = {"value": float(now.grad_norms[layers[0]]), "limit": limit, "figure": figure}
        name = now.anatomy.layers[layers[0]].name
        cause = causes.ACTIVATION if squashing(now) else causes.INITIALIZATION
        return Finding("vanishing_gradients", now.tick, now.step, (name,), 0.7, cause, evidence)


def _moves(now: Snapshot, layers: list[int]) -> dict[str, Any]:
    """Return how far the first and the last layer moved in the last step, relative to their weights."""
    assert now.sample is not None
    ratios = now.sample.update_ratios
    return {"first_update_ratio": float(ratios[layers[0]]), "last_update_ratio": float(ratios[layers[-1]])}


def _depth_causes(now: Snapshot, decay: Decay, layers: int) -> tuple[Cause, ...]:
    """Split the decades among what the activations take, what the weights take, and the number of layers."""
    squashed = squashing(now)
    by_activation = -sum(math.log10(max(slope, 1e-12)) for _, slope in squashed)
    by_weights = decay.decades - by_activation
    suspects = [
        causes.suspect(causes.ACTIVATION, by_activation / decay.decades, decades=by_activation, sites=len(squashed)),
        causes.suspect(causes.INITIALIZATION, by_weights / decay.decades, decades=by_weights),
        causes.suspect(causes.DEPTH, decay.factor * layers / 20, layers=layers, factor_per_layer=decay.factor),
    ]
    if now.anatomy.skips == 0 and layers > 10:
        suspects.append(causes.suspect(causes.NO_SKIPS, 0.02 * layers, layers=layers, skip_connections=0))
    return causes.ranked(suspects)


def _time_causes(now: Snapshot, decay: Decay) -> tuple[Cause, ...]:
    assert now.sample is not None
    pinned = [float(p) for site, p in zip(now.anatomy.sites, now.sample.pinned, strict=True) if site.gate and p == p]  # noqa: PLR0124 - NaN
    worst = max(pinned, default=0.0)
    return causes.ranked(
        [
            causes.suspect(causes.RECURRENCE, 0.5 + 0.5 * min(1.0, decay.points / 100), time_steps=decay.points),
            causes.suspect(causes.INITIALIZATION, 1.0 - decay.factor, factor_per_step=decay.factor),
            causes.suspect(causes.ACTIVATION, worst, pinned=worst),
        ],
    )
