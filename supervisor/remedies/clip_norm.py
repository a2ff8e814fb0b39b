"""Bounds the gradient norm for this tick and a while after."""

from __future__ import annotations

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

    Gradients that are not finite cannot be clipped: inf scaled down is NaN. A tighter limit that holds is kept.
    """

    max_norm: Annotated[
        Annotated[float, Field(gt=0)] | Literal["auto"],
        Field(description="L2 norm; auto: the largest that is usual, 3 sigma above the median of accepted ticks"),
    ] = "auto"
    hold: Hold = None

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Set the limit; the loop clips, in this tick and the following ones."""
        refuse_if_pointless(run, self.hold)
        limit = usual_norm(run, decision, "max_norm") if self.max_norm == "auto" else float(self.max_norm)
        return arm(run, "norm", limit, self.hold)
