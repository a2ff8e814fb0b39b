"""Returns to a state known to be good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from supervisor.errors import RemedyRefused, UsageError
from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._data import ask_to_skip, refuse_without_data_control
from supervisor.remedies._keep import void
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


@REMEDIES.register("rollback")
@dataclass(frozen=True)
class Rollback:
    """Restore the newest good state from before the finding, and void the step.

    The data stay where they are, which leaves the suspect batches out: the same ones seldom do harm from another state,
    and the same state seldom with others (Chowdhery et al., 2022). Its undo withdraws what it asked of the data; the
    loop itself keeps the state before every rung that changes the course.
    """

    margin: Annotated[int, Field(ge=0, description="ticks before the finding that are not trusted either")] = 0
    skip_batches: Annotated[int, Field(ge=0, le=100_000, description="further batches dropped after it")] = 0
    rewind: Annotated[bool, Field(description="feed the batches since that state again, where they are held")] = False

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.rewind and self.skip_batches:
            message = (
                f"rollback: rewind feeds the batches again that skip_batches, here {self.skip_batches}, leaves behind; "
                "set one of the two"
            )
            raise UsageError(message)

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:
        """Go back. Refused where no good state from before the finding is kept, or the data cannot be had so."""
        before_tick = decision.finding.tick - self.margin
        target = self._target(run, before_tick)
        assert run.known_good is not None
        left, asked = run.clock.step, (run.batches_to_skip, run.rewind)
        tick, step = run.known_good.rollback(before_tick)
        run.clock.step = step
        void(run, f"rolled back to step {step}: these gradients belong to the state that was left")
        changes = {"step": (left, step), "state of tick": (run.clock.tick, tick)}
        if self.skip_batches:
            ask_to_skip(run, self.skip_batches)
            changes["batches to skip"] = (asked[0], run.batches_to_skip)
        if self.rewind:
            run.rewind = (target + 1, run.clock.tick)
            changes["batches fed again, of ticks"] = run.rewind

        def undo() -> None:
            run.batches_to_skip, run.rewind = asked

        return Effect(changes, undo)

    def _target(self, run: TrainingRun, before_tick: int) -> int:
        """Return the tick of the state to return to; refused where something stands against it."""
        target = None if run.known_good is None else run.known_good.target_tick(before_tick)
        if target is None:
            message = f"rollback: no known-good state from before tick {before_tick} is kept; lower_lr needs none"
            raise RemedyRefused(message)
        if self.skip_batches:
            refuse_without_data_control(run, "rollback.skip_batches")
        if self.rewind and not run.can_rewind(target):
            message = f"rollback.rewind: the batches since tick {target} are not held any more; leave rewind out"
            raise RemedyRefused(message)
        return target
