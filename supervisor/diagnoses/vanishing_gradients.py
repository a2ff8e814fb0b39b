"""Gradients that decay exponentially towards the input while the loss stands.

The chain rule multiplies one factor |dz_{i+1}/dz_i| a layer; where each is below one the product shrinks
exponentially with depth (Glorot & Bengio, 2010). So the judge fits log10 of the root-mean-square gradient
over the layers in the order of the forward pass: the slope is the factor a layer, scale and depth drop out.
A steep slope in a training that makes progress is architecture; only together with a loss that stands near
where it began is it an illness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from supervisor.diagnoses.past import Past
from supervisor.records import Finding, Snapshot
from supervisor.registry import DETECTORS

BOUNDS: Final = {"sigmoid": 0.25, "tanh": 1.0, "hardsigmoid": 1 / 6, "softsign": 1.0}
"""The largest derivative of activations that squash."""


@DETECTORS.register("vanishing_gradients")
@dataclass(frozen=True)
class VanishingGradients:
    """An exponential decay over the depth, seen in several samples, and no progress."""

    decades: Annotated[float, Field(ge=1, le=8, description="log10 of the decay over the depth")] = 3.0
    fit: Annotated[float, Field(ge=0, le=1, description="r squared of the exponential fit, at least")] = 0.6
    window: Annotated[int, Field(ge=20, le=200, description="ticks without progress of the loss")] = 40
    min_norm: Annotated[float | None, Field(gt=0, description="a limit on the first layer's norm instead")] = None

    def inspect(self, now: Snapshot, past: Past) -> Finding | None:
        """Return a finding if the fitted decay exceeds the limit and the loss stands where it began."""
        if now.sample is None or not now.finite or len(past.samples) < 3:
            return None
        if self.min_norm is not None:
            return self._absolute(now, self.min_norm)
        chain = _chain(now)
        if len(chain) < 4 or not self._stuck(past):
            return None
        decay = _decay(now, past, chain)
        if decay is None or decay["decades"] < self.decades or decay["r2"] < self.fit:
            return None
        evidence = {"value": decay["decades"], "limit": self.decades, **decay, **_bound(now), "window": self.window}
        first = [now.anatomy.layers[i].name for i in chain[: max(1, len(chain) // 2)]]
        severity = min(1.0, decay["decades"] / (2 * self.decades))
        return Finding("vanishing_gradients", now.tick, now.step, tuple(first), severity, _cause(now), evidence)

    def _stuck(self, past: Past) -> bool:
        if not past.stands(self.window):
            return False
        level = float(np.median(list(past.losses)[-self.window // 2 :]))
        return not level < 0.5 * past.initial_loss

    def _absolute(self, now: Snapshot, limit: float) -> Finding | None:
        chain = _chain(now)
        if not chain or not now.grad_norms[chain[0]] < limit:
            return None
        figure = "gradient norm of the first layer"
        evidence = {"value": float(now.grad_norms[chain[0]]), "limit": limit, "figure": figure}
        name = now.anatomy.layers[chain[0]].name
        return Finding("vanishing_gradients", now.tick, now.step, (name,), 0.7, _cause(now), evidence)


def _chain(now: Snapshot) -> list[int]:
    """Return the indices of the layers that multiply by a weight matrix, in the order of the forward pass."""
    kinds = ("linear", "conv", "recurrent")
    return [i for i, layer in enumerate(now.anatomy.layers) if layer.kind in kinds]


def _log_rms(shot: Snapshot, chain: list[int]) -> npt.NDArray[np.float64]:
    sizes = np.array([shot.anatomy.layers[i].size for i in chain], dtype=np.float64)
    norms = shot.grad_norms[chain].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(norms / np.sqrt(sizes))


def _decay(now: Snapshot, past: Past, chain: list[int]) -> dict[str, Any] | None:
    """Fit log10 rms gradient over depth, on the median of the last samples; None without enough layers."""
    recent = [shot for shot in list(past.samples)[-4:] if shot.anatomy.layers == now.anatomy.layers and shot.finite]
    logs = np.median([_log_rms(shot, chain) for shot in [*recent, now]], axis=0)
    alive = np.isfinite(logs)  # an exact zero is no point of a decay; it is counted beside it
    if alive.sum() < 4:
        return None
    depth = np.arange(len(chain), dtype=np.float64)
    slope, intercept = np.polyfit(depth[alive], logs[alive], 1)
    residual = logs[alive] - (slope * depth[alive] + intercept)
    spread = float(np.sum((logs[alive] - logs[alive].mean()) ** 2))
    return {
        "decades": float(slope * (len(chain) - 1)),
        "factor_per_layer": float(10.0**-slope),
        "r2": 1.0 - float(np.sum(residual**2)) / spread if spread > 0 else 0.0,
        "layers": len(chain),
        "zero_layers": int((~alive).sum()),
        "first_layer_rms": float(10.0 ** logs[0]) if math.isfinite(logs[0]) else 0.0,
        "last_layer_rms": float(10.0 ** logs[-1]) if math.isfinite(logs[-1]) else 0.0,
    }


def _squashing(now: Snapshot) -> list[str]:
    return [site.function for site in now.anatomy.sites if site.hidden and site.function in BOUNDS]


def _bound(now: Snapshot) -> dict[str, Any]:
    """Return what the activations alone allow to arrive: the product of their largest derivatives."""
    squashing = _squashing(now)
    bound = math.prod(BOUNDS[name] for name in squashing)
    return {"activations": ", ".join(sorted(set(squashing))) or "none that squash", "activation_bound": bound}


def _cause(now: Snapshot) -> str:
    return "activation functions" if _squashing(now) else "poor initialization"
