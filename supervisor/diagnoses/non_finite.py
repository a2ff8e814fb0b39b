"""NaN or Inf in loss, gradients or what is kept between the ticks: seen in the tick in which it happens.

The sensor says where it began; here that is weighed against the course of the training. What overflows in a loss that
had been climbing for ticks is not the loss's fault but the steps'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from supervisor.diagnoses import causes, upset
from supervisor.diagnoses.past import Past
from supervisor.records import BAD_DATA, RUINED_STATE, Cause, Finding, Snapshot
from supervisor.registry import DETECTORS

PERSISTENT: Final = 3  # ticks in a row: two bad batches may follow each other

DIRECT: Final = {
    "input": ((causes.BAD_BATCH, 0.95),),
    "target": ((causes.BAD_TARGET, 0.95), (causes.BAD_BATCH, 0.5)),
    "parameters": ((causes.BAD_PARAMETERS, 0.7),),
    "optimizer": ((causes.BAD_OPTIMIZER, 0.9), (causes.BAD_PARAMETERS, 0.4)),
    "buffers": ((causes.BAD_BUFFERS, 0.9),),
    "forward": ((causes.FORWARD_OVERFLOW, 0.7),),
    "loss": ((causes.LOSS_OVERFLOW, 0.7), (causes.FORWARD_OVERFLOW, 0.3)),
    "backward": ((causes.BACKWARD_OVERFLOW, 0.7),),
}
"""What each origin points to by itself."""


@DETECTORS.register("non_finite")
@dataclass(frozen=True)
class NonFinite:
    """NaN or Inf in loss, gradients or what is kept between ticks: a fact, with nothing to set."""

    def inspect(self, now: Snapshot, past: Past) -> Finding | None:
        """Return a finding if the loss, a gradient or (on sampled ticks) what is kept between ticks is NaN or Inf."""
        healthy = now.finite and not now.origin
        if healthy and now.sample is None and math.isfinite(sum(now.grad_norms.tolist())):
            return None
        hit = ~np.isfinite(now.grad_norms)
        ruined = _ruined(now, past)
        if healthy and not hit.any() and not ruined.any():
            return None
        layers = tuple(layer.name for layer, bad in zip(now.anatomy.layers, hit | ruined, strict=True) if bad)
        origin = now.origin or ("parameters" if ruined.any() else "backward" if math.isfinite(now.loss) else "loss")
        in_a_row = 0 if now.finite else past.non_finite + 1
        evidence = {
            "loss": now.loss,
            "grad_norm": now.grad_norm,
            "layers_hit": len(layers),
            "origin": origin,
            "origin_layer": now.origin_layer,
            "in_a_row": in_a_row,
            "persistent": origin in RUINED_STATE or in_a_row >= PERSISTENT,
            "typical_loss": past.loss.centre,
            "last_loss": past.losses[-1] if past.losses else math.nan,
        }
        where = (now.origin_layer,) if now.origin_layer else layers
        found = causes.first(causes.ranked(_suspects(origin, now, past)))
        return Finding("non_finite", now.tick, now.step, where, 1.0, evidence=evidence, **found)


def _suspects(origin: str, now: Snapshot, past: Past) -> list[Cause]:
    facts = {"origin": origin, "layer": now.origin_layer}
    direct = [causes.suspect(name, weight, **facts) for name, weight in DIRECT[origin]]
    if origin in BAD_DATA or origin == "buffers":
        return direct
    if past.non_finite and origin in RUINED_STATE:  # what non-finite steps before this one have left behind
        return [replace(direct[0], weight=0.95), *direct[1:]]
    return [*direct, *upset.suspects(now, past, (now.origin_layer,) if now.origin_layer else ())]


def _ruined(now: Snapshot, past: Past) -> npt.NDArray[np.bool_]:
    """Return which layers hold NaN, or Inf where they held none before: a parameter may be born as -Inf, a mask."""
    if now.sample is None:
        return np.zeros(len(now.anatomy.layers), dtype=np.bool_)
    norms = now.sample.weight_norms
    if np.isfinite(norms).all():
        return np.zeros(len(norms), dtype=np.bool_)
    shots = [shot for shot in past.samples if shot.anatomy.layers == now.anatomy.layers]
    earlier = [shot.sample.weight_norms for shot in shots if shot.sample is not None]
    born = np.isfinite(earlier).any(0) if earlier else np.ones_like(norms, dtype=np.bool_)
    return np.isnan(norms) | (np.isinf(norms) & born)
