"""Bounds every single gradient element for this tick and a while after."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._clips import Hold, arm, refuse_if_pointless, usual_elements, usual_norm
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


@REMEDIES.register("clip_value")
@dataclass(frozen=True)
class ClipValue:
    """Clamp every gradient element to [-clip_value, clip_value] (Mikolov, 2012).

    It bends the direction of the step, which clip_norm keeps: for a few wild elements among many sound ones. With
    n elements that are not 0 and the largest usual norm u, auto is u / sqrt(n) * sqrt(2 ln n): the largest that n
    normal elements of that norm have. So usual gradients stay whole, and no clamped one has a norm above
    sqrt(2 ln n) u, 5 times the usual one for a million elements.
    """

    clip_value: Annotated[
        Annotated[float, Field(gt=0)] | Literal["auto"],
        Field(description="largest magnitude of an element; auto: the largest of normal elements of usual norm"),
    ] = "auto"
    hold: Hold = None

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Set the limit; the loop clamps, in this tick and the following ones."""
        refuse_if_pointless(run, self.hold)
        limit = self._auto(run, decision) if self.clip_value == "auto" else float(self.clip_value)
        return arm(run, "value", limit, self.hold)

    @staticmethod
    def _auto(run: TrainingRun, decision: Decision) -> float:
        norm, count = usual_norm(run, decision, "clip_value"), usual_elements(run)
        return norm * min(1.0, math.sqrt(max(1.0, 2.0 * math.log(count)) / count))
