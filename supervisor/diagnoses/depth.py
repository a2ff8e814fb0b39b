"""The chain rule measured on a network as it is: how gradients change over the depth, and through time.

Backward through layer i multiplies by a factor |dz_{i+1}/dz_i|, which is the activation's slope times the gain of the
weights; over the depth the factors multiply (Glorot & Bengio, 2010), and a recurrent layer multiplies the same one at
every step of time (Pascanu et al., 2013). Both are fitted here in the log domain, so that the loss's scale drops out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from supervisor.diagnoses.past import Past
from supervisor.records import FloatArray, Site, Snapshot

BOUNDS: Final = {"sigmoid": 0.25, "tanh": 1.0, "hardsigmoid": 1 / 6, "hardtanh": 1.0, "softsign": 1.0}
"""The largest derivative of activations that squash."""

MULTIPLYING: Final = ("linear", "conv", "recurrent")
"""Kinds of layers that multiply by a weight matrix."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Decay:
    """A straight line through log10 figures, the earliest layer or step of time first."""

    decades: float  # the rise from the first to the last
    factor: float  # by which one layer (one step) multiplies the gradient on its way back
    r2: float
    points: int


def chain(now: Snapshot) -> list[int]:
    """Return the indices of the layers that multiply by a weight matrix, in the order of the forward pass."""
    return [i for i, layer in enumerate(now.anatomy.layers) if layer.kind in MULTIPLYING]


def fit(logs: Floats) -> Decay | None:
    """Fit log10 figures over their places; None with fewer than four finite ones. An exact zero is no point of it."""
    alive = np.isfinite(logs)
    if alive.sum() < 4:
        return None
    places = np.arange(len(logs), dtype=np.float64)[alive]
    away, rise = places - places.mean(), logs[alive] - logs[alive].mean()
    slope = float(away @ rise) / float(away @ away)  # of the least squares; np.polyfit takes forty times as long
    residual = rise - slope * away
    spread = float(rise @ rise)
    r2 = 1.0 - float(np.sum(residual**2)) / spread if spread > 0 else 0.0
    return Decay(float(slope * (len(logs) - 1)), float(10.0**-slope), r2, int(alive.sum()))


def may_reach(low: float, high: float, decades: float) -> bool:
    """Return whether a line fitted through log10 figures from `low` to `high` may rise or fall by `decades`.

    Least squares through points within a range give at most one and a half times the range (a step in the middle). In
    most trainings that settles it, at a tenth of the price of the fit. What is 0, NaN or infinite may reach anything.
    """
    return not (0.0 < low <= high < math.inf and 1.5 * math.log10(high / low) < decades)


def main_path(logs: Floats) -> Floats:
    """Return the gradients on the main path: the largest that has arrived so far back, from the output's side.

    Where gradients decay towards the input, a layer with less of it than one before it stands beside the path (the
    queries and keys of attention), and says nothing of the layers behind.
    """
    return np.asarray(np.maximum.accumulate(logs))


def log10(values: FloatArray | Floats) -> Floats:
    """Return log10, -inf of zeros."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(values.astype(np.float64))


def log_gradients(now: Snapshot, past: Past, layers: list[int]) -> Floats:
    """Return log10 of the root-mean-square gradient of the layers: the median of the last samples."""
    recent = [shot for shot in list(past.samples)[-4:] if shot.anatomy.layers == now.anatomy.layers and shot.finite]
    sizes = np.array([now.anatomy.layers[i].size for i in layers], dtype=np.float64)
    logs = np.sort(log10(np.array([s.grad_norms[layers] for s in [*recent, now]]) / np.sqrt(sizes)), axis=0)
    half = len(logs) // 2
    return np.asarray(logs[half] if len(logs) % 2 else 0.5 * (logs[half - 1] + logs[half]))  # np.median, but dear


def amplification(now: Snapshot, layers: Sequence[int]) -> dict[str, float]:
    """Return by layer the measured factor |dz_{i+1}/dz_i|: the flow at its output over that at the next one's."""
    if now.sample is None:
        return {}
    flow = now.sample.flow[list(layers)].astype(np.float64)
    names = [now.anatomy.layers[i].name for i in layers]
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = flow[:-1] / flow[1:]
    return {name: float(f) for name, f in zip(names, factors, strict=False) if math.isfinite(f)}


def squashing(now: Snapshot) -> list[tuple[Site, float]]:
    """Return the hidden activations that squash, with the mean derivative measured there: at most their bound."""
    if now.sample is None:
        return []
    slopes = np.nan_to_num(now.sample.slope, nan=1.0)
    pairs = zip(now.anatomy.sites, slopes, strict=True)
    return [(s, BOUNDS[s.function] * float(k)) for s, k in pairs if s.hidden and not s.gate and s.function in BOUNDS]


def chain_rule(now: Snapshot, layers: Sequence[int]) -> dict[str, Any]:
    """Return the chain rule's evidence: the factor of each layer, their product, and what the activations allow."""
    factors, squashed = amplification(now, layers), squashing(now)
    return {
        "amplification": factors,
        "amplification_product": math.prod(factors.values()),
        "activations": ", ".join(sorted({site.function for site, _ in squashed})) or "none that squash",
        "activation_bound": math.prod(BOUNDS[site.function] for site, _ in squashed),
        "activation_slopes": math.prod(slope for _, slope in squashed),
    }


def through_time(now: Snapshot, index: int) -> Decay | None:
    """Return how the gradient decays through the time of a recurrent layer, per step; None where it has no time."""
    if now.sample is None or not 1 < now.sample.time_steps[index] < math.inf:
        return None
    logs = log10(now.sample.time_flow[index])
    found = fit(logs)
    if found is None:
        return None
    steps = float(now.sample.time_steps[index])
    return Decay(found.decades, 10.0 ** (-found.decades / max(1.0, steps * (1 - 1 / len(logs)))), found.r2, int(steps))
