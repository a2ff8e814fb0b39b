"""Does not take this tick's optimizer step."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._keep import void
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


@REMEDIES.register("skip_step")
@dataclass(frozen=True)
class SkipStep:
    """Void the step: the gradients are dropped and the buffers return to what they were before the forward pass."""

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Void this tick's step. Where it is void already there is nothing to add."""
        before = "void" if run.voided else "to be taken"
        undo = void(run, f"{decision.finding.pathology}: {decision.finding.cause}")
        return Effect({"optimizer step": (before, "skipped")}, undo)
