"""Gradients far above what this training is used to, with harm to show for it.

A fixed norm mistakes the scale of the loss for health, and a large gradient alone hurts nobody. So the limit
comes from the training's own accepted past (median and MAD of log10 norms), and a finding needs harm beside
it: the loss leaves its own noise in the same tick and gives back what was learned, or the weights are being
overwritten rather than adjusted (update-to-weight ratio). Without a past, from the first ticks on, the overwriting
alone has to show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from supervisor.diagnoses.past import Past
from supervisor.records import Finding, Snapshot
from supervisor.registry import DETECTORS


@DETECTORS.register("exploding_gradients")
@dataclass(frozen=True)
class ExplodingGradients:
    """Spikes against the accepted past, and divergence from the first ticks on."""

    z: Annotated[float, Field(ge=3, le=20, description="robust sigmas of log10 norms above the median")] = 6.0
    ratio: Annotated[float, Field(ge=2, le=1000, description="at least this many times the median norm")] = 10.0
    history: Annotated[int, Field(ge=8, le=100, description="accepted ticks before spikes are judged")] = 20
    update_ratio: Annotated[float, Field(ge=0.1, le=10, description="update norm over weight norm of a layer")] = 0.5
    max_norm: Annotated[float | None, Field(gt=0, description="an absolute limit on the norm instead")] = None

    def inspect(self, now: Snapshot, past: Past) -> Finding | None:
        """Return a finding for a harmful spike, or for layers whose weights are being overwritten."""
        if not now.finite:
            return None  # non_finite's
        if self.max_norm is not None:
            return self._absolute(now, past, self.max_norm)
        return self._spike(now, past) or self._overwriting(now, past)

    def _spike(self, now: Snapshot, past: Past) -> Finding | None:
        series = past.log_grad_norm
        if len(series) < self.history or not now.grad_norm > 0.0:
            return None
        limit = series.upper(self.z, math.log10(self.ratio))
        value = math.log10(now.grad_norm)
        loss_limit = max(past.loss.upper(self.z, 0.5 * abs(past.loss.centre)), _given_back(past))
        if value <= limit or now.loss <= loss_limit:
            return None
        evidence = {
            "value": now.grad_norm,
            "limit": 10.0**limit,
            **_usual(past),
            "sigmas": (value - series.centre) / max(series.scale, 1e-6),
            "loss": now.loss,
            "loss_limit": loss_limit,
            "window": len(series),
        }
        severity = min(1.0, (value - series.centre) / 6.0 + 0.3)
        return Finding("exploding_gradients", now.tick, now.step, _loudest(now), severity, _cause(now), evidence)

    def _overwriting(self, now: Snapshot, past: Past) -> Finding | None:
        """Judge actual updates: several layers rewritten in one step while the loss is above where it began."""
        if now.sample is None or not past.losses:
            return None
        ratios = np.nan_to_num(now.sample.update_ratios, nan=0.0)
        hit = _weighty(now) & (ratios > self.update_ratio)
        worse = now.loss > past.initial_loss + max(0.5 * abs(past.initial_loss), self.z * _early_noise(past))
        if not hit.any() or not worse:
            return None
        where = tuple(layer.name for layer, bad in zip(now.anatomy.layers, hit, strict=True) if bad)
        evidence = {
            "value": float(ratios[hit].max()),
            "limit": self.update_ratio,
            "figure": "update norm / weight norm",
            **_usual(past),
            "grad_norm": now.grad_norm,
            "loss": now.loss,
            "initial_loss": past.initial_loss,
        }
        return Finding("exploding_gradients", now.tick, now.step, where, 0.9, "large learning rate", evidence)

    def _absolute(self, now: Snapshot, past: Past, limit: float) -> Finding | None:
        if now.grad_norm <= limit:
            return None
        evidence = {
            "value": now.grad_norm,
            "limit": limit,
            **_usual(past),
            "usual_max": limit,
            "window": len(past.log_grad_norm),
        }
        return Finding("exploding_gradients", now.tick, now.step, _loudest(now), 0.7, _cause(now), evidence)


def _usual(past: Past) -> dict[str, float]:
    """Return the median norm of the accepted past, and the largest usual one: 3 sigma, at least twice the median."""
    series = past.log_grad_norm
    if not len(series):
        return {}
    return {"typical": 10.0**series.centre, "usual_max": 10.0 ** series.upper(3.0, math.log10(2.0))}


def _weighty(now: Snapshot) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    kinds = ("linear", "conv", "recurrent")
    return np.fromiter((layer.kind in kinds for layer in now.anatomy.layers), dtype=np.bool_)


def _given_back(past: Past) -> float:
    """Return the loss a quarter of the way back from 0, or from a level below it, to where the training began.

    In a task that is nearly solved one hard input is many times the usual loss and gradient, and does no harm.
    """
    return 0.25 * past.first_loss + 0.75 * min(past.loss.centre, 0.0)


def _early_noise(past: Past) -> float:
    return past.loss.scale if len(past.loss) else 0.0


def _loudest(now: Snapshot) -> tuple[str, ...]:
    """Return up to three layers that carry most of the gradient."""
    order = np.argsort(now.grad_norms)[::-1][:3]
    return tuple(now.anatomy.layers[i].name for i in order if now.grad_norms[i] > 0.1 * now.grad_norm)


def _cause(now: Snapshot) -> str:
    loudest = {layer.name: layer.kind for layer in now.anatomy.layers}
    if any(loudest[name] == "recurrent" for name in _loudest(now)):
        return "recurrent network"
    return "bad batch or large learning rate"
