"""Returns to a state known to be good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from supervisor.errors import RemedyRefused
from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._keep import void
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


@REMEDIES.register("rollback")
@dataclass(frozen=True)
class Rollback:
    """Restore the newest good state from before the finding, and void the step.

    Its undo is a no-op: the loop itself keeps the state before every rung that changes the course.
    """

    margin: Annotated[int, Field(ge=0, description="ticks before the finding that are not trusted either")] = 0

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Go back. Refused where no good state from before the finding is kept."""
        before_tick = decision.finding.tick - self.margin
        if run.known_good is None or not run.known_good.available(before_tick):
            message = f"no known-good state from before tick {before_tick} is kept"
            raise RemedyRefused(message)
        left = run.clock.step
        tick, step = run.known_good.rollback(before_tick)
        run.clock.step = step
        void(run, f"rolled back to step {step}: these gradients belong to the state that was left")
        return Effect({"step": (left, step), "state of tick": (run.clock.tick, tick)})
