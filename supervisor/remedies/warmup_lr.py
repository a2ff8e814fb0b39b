"""Warms the learning rate up anew, beside whatever schedule the user has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._rates import movable_rates
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun
from supervisor.settings import Ramp


@REMEDIES.register("warmup_lr")
@dataclass(frozen=True)
class WarmupLr:
    """Let every rate rise linearly from a share of itself to all of it (Goyal et al., 2017).

    For steps that are too large while the optimizer's moments, or weights that were just changed, settle. The factor
    multiplies whatever the schedule says at each tick; one that still runs is replaced.
    """

    ticks: Annotated[int, Field(ge=1, le=100_000, description="ticks until the rate is whole again")] = 100
    start: Annotated[float, Field(gt=0, lt=1, description="share of the rate that it starts at")] = 0.01

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:  # noqa: ARG002 - the protocol's signature
        """Begin the warm-up with this tick's step."""
        movable_rates(run)
        before, lr, tick = run.settings.ramp, run.lr, run.clock.tick
        ramp = Ramp(self.start, tick, tick + self.ticks)
        run.settings = replace(run.settings, ramp=ramp)

        def undo() -> None:
            if run.settings.ramp is ramp:  # else a later one stands
                run.settings = replace(run.settings, ramp=before)

        running = before.until if before is not None and before.until > tick else None
        return Effect({"lr": (lr, run.lr), "warmed up at tick": (running, ramp.until)}, undo)
