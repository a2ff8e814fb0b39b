"""Says what was found, and leaves the training alone."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


@REMEDIES.register("advise")
@dataclass(frozen=True)
class Advise:
    """Change nothing: the decision's record is the advice."""

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:  # noqa: ARG002 - the protocol's signature
        """Return an empty effect."""
        return Effect()
