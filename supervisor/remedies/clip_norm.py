"""Bounds the gradient norm for this tick and a while after."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from supervisor.errors import RemedyRefused
from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies.base import Effect
from supervisor.run import Clip, TrainingRun


@REMEDIES.register("clip_norm")
@dataclass(frozen=True)
class ClipNorm:
    """Scale the gradients down to `max_norm` where their L2 norm exceeds it (Pascanu et al., 2013).

    Gradients that are not finite cannot be clipped: inf scaled down is NaN.
    """

    max_norm: Annotated[
        Annotated[float, Field(gt=0)] | Literal["auto"],
        Field(description="L2 norm; auto: the largest that is usual, 3 sigma above the median of accepted ticks"),
    ] = "auto"
    hold: Annotated[int | None, Field(ge=0, description="further ticks the limit holds; left out: the probation")] = (
        None
    )

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Set the limit; the loop clips, in this tick and the following ones."""
        if run.voided and not self.hold:
            message = f"this tick's step is not taken ({run.voided}), so there is nothing to clip"
            raise RemedyRefused(message)
        limit = self._limit(decision)
        if not run.voided and not _finite_gradients(run):
            message = "the gradients are not finite: scaled down, an Inf becomes a NaN"
            raise RemedyRefused(message)
        before, until = run.clip, run.clock.tick + (self.hold or 0)
        run.clip = Clip("norm", limit, until)

        def undo() -> None:
            run.clip = before

        changes = {
            "max_norm": (before.limit if before else None, limit),
            "clipped until tick": (before.until if before else None, until),
        }
        return Effect(changes, undo)

    def _limit(self, decision: Decision) -> float:
        if self.max_norm != "auto":
            return float(self.max_norm)
        usual_max = decision.finding.evidence.get("usual_max")
        if isinstance(usual_max, (int, float)) and math.isfinite(usual_max) and usual_max > 0:
            return float(usual_max)
        message = f"max_norm: auto needs the largest usual norm, the finding has {usual_max!r}; set a number"
        raise RemedyRefused(message)


def _finite_gradients(run: TrainingRun) -> bool:
    """Read whether this tick's gradients are finite: one host sync, on ticks with a decision only."""
    gradients = [p.grad for p in run.parameters if p.grad is not None]
    if not gradients:
        return True
    norms = torch._foreach_norm(gradients)  # noqa: SLF001 - the fused form has no public name
    return math.isfinite(float(torch.stack([norm.to(run.device) for norm in norms]).sum()))
