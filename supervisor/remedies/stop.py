"""Ends the training."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


@REMEDIES.register("stop")
@dataclass(frozen=True)
class Stop:
    """Ask the loop to end the training at this tick's boundary; the record is closed as usual."""

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Ask for the end, in the finding's words."""
        finding, before = decision.finding, run.stop_reason
        where = f" in {', '.join(finding.where)}" if finding.where else ""
        run.stop(f"{finding.pathology} at tick {finding.tick}{where}: {finding.cause}")

        def undo() -> None:
            run.stop_reason = before

        return Effect({"stop_reason": (before, run.stop_reason)}, undo)
