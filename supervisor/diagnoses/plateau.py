"""No progress where there should be some, and what holds the training back.

A loss that stands is no evidence: random labels, label noise, grokking and a finished training stand in good
health. So it is named only together with a mechanism that keeps the training from moving: steps that could not carry
it anywhere, a learning rate that ran out while the loss was falling, units that are all alike, gradients that never
arrive, weights that fade away, an output the loss does not fit. The mechanisms are in `holds`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from supervisor.diagnoses import causes
from supervisor.diagnoses.holds import (
    CERTAIN,
    Hold,
    View,
    alike,
    fading,
    mismatch,
    no_gradient,
    run_out,
    small_steps,
)
from supervisor.diagnoses.movement import weighty
from supervisor.diagnoses.past import LEVEL, Past
from supervisor.records import Finding, Snapshot
from supervisor.registry import DETECTORS


@DETECTORS.register("plateau")
@dataclass(frozen=True)
class Plateau:
    """A training that stands still for a reason that can be shown."""

    stride: Annotated[float, Field(gt=0, le=0.01, description="update norm over weight norm, below: too small")] = 1e-4
    reach: Annotated[
        float, Field(gt=0, le=5, description="share of the loss that 1000 steps could remove at best, below: too small")
    ] = 0.5
    window: Annotated[int, Field(ge=20, le=200, description="ticks without progress of the loss")] = 30
    decay: Annotated[float, Field(gt=0, le=0.1, description="learning rate over its peak, below: run out")] = 5e-4
    decayed_share: Annotated[float, Field(gt=0, le=1, description="share of the run so far that it has run out")] = 0.15
    solved: Annotated[float, Field(gt=0, le=1, description="share of the first losses gone, above: all is well")] = 0.9
    fading: Annotated[float, Field(gt=0, lt=1, description="weight norms over the first ones, below: fading")] = 0.5

    def inspect(self, now: Snapshot, past: Past) -> Finding | None:
        """Return a finding with the mechanisms that hold the training back, the surest first."""
        if now.sample is None or not now.finite or now.tick <= CERTAIN or not weighty(now):
            return None
        view = View.of(now, past)
        if not view.learned < self.solved:
            return None
        with np.errstate(all="ignore"):
            held = [hold for hold in self._holds(view) if hold is not None]
        if not held:
            return None
        ranked = causes.ranked(cause for hold in held for cause in hold.causes)
        surest = max(held, key=lambda hold: max(cause.weight for cause in hold.causes))
        evidence = {**surest.evidence, "loss": past.level(LEVEL), "initial_loss": past.initial_loss, "lr": now.lr}
        severity = 0.9 if view.learned < 0.5 else 0.6
        return Finding("plateau", now.tick, now.step, surest.where, severity, evidence=evidence, **causes.first(ranked))

    def _holds(self, view: View) -> Iterator[Hold | None]:
        yield no_gradient(view)
        yield alike(view)
        yield run_out(view, self.decay, self.decayed_share, self.stride)
        yield small_steps(view, self.stride, self.reach, self.window)
        yield fading(view, self.fading, self.window)
        yield mismatch(view, self.window)
