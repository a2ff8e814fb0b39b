"""NaN or Inf in loss, gradients or parameters: seen in the tick in which it happens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from supervisor.diagnoses.past import Past
from supervisor.records import Finding, Snapshot
from supervisor.registry import DETECTORS

CAUSES: Final = {
    "batch": "bad batch",
    "parameters": "non-finite parameters",
    "loss": "numerical overflow in the forward pass or the loss",
    "gradients": "numerical overflow in the backward pass",
}


@DETECTORS.register("non_finite")
@dataclass(frozen=True)
class NonFinite:
    """Not a threshold but a fact, so there is nothing to set."""

    def inspect(self, now: Snapshot, past: Past) -> Finding | None:
        """Return a finding if the loss, a gradient or (on sampled ticks) a parameter is NaN or Inf."""
        hit = ~np.isfinite(now.grad_norms)
        ruined = _ruined(now, past)
        if now.finite and not hit.any() and not ruined.any():
            return None
        where = [layer.name for layer, bad in zip(now.anatomy.layers, hit | ruined, strict=True) if bad]
        origin = now.origin or ("parameters" if ruined.any() else "gradients" if math.isfinite(now.loss) else "loss")
        evidence = {
            "loss": now.loss,
            "grad_norm": now.grad_norm,
            "layers_hit": len(where),
            "origin": origin,
            "typical_loss": past.loss.centre,
        }
        cause = CAUSES.get(origin, "unknown")
        return Finding("non_finite", now.tick, now.step, tuple(where), 1.0, cause, evidence)


def _ruined(now: Snapshot, past: Past) -> npt.NDArray[np.bool_]:
    """Return which layers hold NaN, or Inf where they held none before: a parameter may be born as -Inf, a mask."""
    if now.sample is None:
        return np.zeros(len(now.anatomy.layers), dtype=np.bool_)
    norms = now.sample.weight_norms
    shots = [shot for shot in past.samples if shot.anatomy.layers == now.anatomy.layers]
    earlier = [shot.sample.weight_norms for shot in shots if shot.sample is not None]
    born = np.isfinite(earlier).any(0) if earlier else np.ones_like(norms, dtype=np.bool_)
    return np.isnan(norms) | (np.isinf(norms) & born)
