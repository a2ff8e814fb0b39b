"""Drops a window of batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._data import ask_to_skip, refuse_without_data_control
from supervisor.remedies._keep import void
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


@REMEDIES.register("skip_batches")
@dataclass(frozen=True)
class SkipBatches:
    """Do not train on this tick's batch, nor on the `count` behind it (Chowdhery et al., 2022: 200 to 500 of them).

    Bad data often come in a row: a broken shard, a corrupted file. No tick passes while they are drawn.
    """

    count: Annotated[int, Field(ge=1, le=100_000, description="further batches that are drawn and dropped")] = 50

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Void the step, and ask for the batches to be dropped."""
        refuse_without_data_control(run, "skip_batches")
        finding, before = decision.finding, run.batches_to_skip
        unvoid, unask = void(run, f"{finding.pathology}: {finding.cause}"), ask_to_skip(run, self.count)

        def undo() -> None:
            unask()
            unvoid()

        return Effect({"batches to skip": (before, run.batches_to_skip)}, undo)
