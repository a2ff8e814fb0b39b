"""Bounds the gradient norm for this tick and a while after."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._clips import Hold, arm, refuse_if_pointless, usual_norm
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


@REMEDIES.register("clip_norm")
@dataclass(frozen=True)
class ClipNorm:
    """Scale the gradients down to `max_norm` where their L2 norm exceeds it (Pascanu et al., 2013).

    Gradients that are not finite cannot be clipped: inf scaled down is NaN. A tighter limit that holds is kept. One
    that is `auto` and holds to the end of the run follows what is usual as the training goes on.
    """

    max_norm: Annotated[
        Annotated[float, Field(gt=0)] | Literal["auto"],
        Field(description="L2 norm; auto: the largest that is usual, 3 sigma above the median of accepted ticks"),
    ] = "auto"
    hold: Hold = None

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Set the limit; the loop clips, in this tick and the following ones."""
        refuse_if_pointless(run, self.hold)
        if self.max_norm != "auto":
            return arm(run, "norm", float(self.max_norm), self.hold)
        lasting = self.hold == "run"
        limit = usual_norm(run, decision, "max_norm", otherwise=math.inf if lasting else None)
        return arm(run, "norm", limit, self.hold, auto=True)
