"""NaN or Inf in loss, gradients or parameters: seen in the tick in which it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

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
        """Return a finding if the loss or any gradient of this tick is NaN or Inf."""
        if now.finite:
            return None
        where = [layer.name for layer, norm in zip(now.anatomy.layers, now.grad_norms, strict=True) if not _ok(norm)]
        evidence = {
            "loss": now.loss,
            "grad_norm": now.grad_norm,
            "layers_hit": len(where),
            "origin": now.origin,
            "typical_loss": past.loss.centre,
        }
        cause = CAUSES.get(now.origin, "unknown")
        return Finding("non_finite", now.tick, now.step, tuple(where), 1.0, cause, evidence)


def _ok(norm: np.float32) -> bool:
    return bool(np.isfinite(norm))
