"""Known-good states in memory, at ages of about 10, 30, 100 and 300 ticks.

States are taken ever more rarely as the run grows, every 10 ticks at first, so that a rollback loses at most 2 % of the
run and taking them costs next to nothing; in a long run the ages stretch with it. A new state is on trial: it becomes
a target only after QUARANTINE ticks without a finding, because a fault often shows later than it begins. The state
before the first step is good by definition. On a relapse soon after a rollback the next target lies deeper.
"""

from __future__ import annotations

import math
from typing import Final

from supervisor.checkpoints.state import Checkpoint, capture, restore
from supervisor.errors import RemedyRefused
from supervisor.run import TrainingRun

AGES: Final = (10, 30, 100, 300)  # ticks, at least
APART: Final = (1, 3, 6, 10)  # intervals between states, at least
EVERY: Final = 10  # ticks between two states taken, at least
SHARE: Final = 50  # states are at most one part in SHARE of the run apart
QUARANTINE: Final = 10  # healthy ticks that prove a state
RELAPSE: Final = 50  # ticks after a rollback in which another one goes deeper, at least


def interval(tick: int) -> int:
    """Return how many ticks apart states are taken at `tick`."""
    return EVERY * max(1, tick // (SHARE * EVERY))


def ages(tick: int) -> list[int]:
    """Return the ages that are held at `tick`: AGES, spread where states are taken too rarely for them."""
    return [max(age, apart * interval(tick)) for age, apart in zip(AGES, APART, strict=True)]


class Ring:
    """The states a rollback may return to."""

    def __init__(self, run: TrainingRun) -> None:
        """Keep states of `run`; the state it is in now is the first known-good one."""
        self.run = run
        self.states = [capture(run)]
        self.good = {id(self.states[0])}
        self._taken = run.clock.tick  # when the newest state was
        self._last_rollback: tuple[int, int] | None = None  # when, and the tick of the state returned to

    def tick(self, *, healthy: bool) -> None:
        """Note the end of a tick; `healthy` means that no finding is open."""
        tick = self.run.clock.tick
        if len(self.good) < len(self.states):
            if not healthy:
                self.states = [state for state in self.states if id(state) in self.good]
                return
            self.good |= {id(state) for state in self.states if tick - state.tick >= QUARANTINE}
        if healthy and tick % EVERY == 0 and tick - self._taken >= interval(tick):
            spare = self._thin(tick)
            self.states.append(capture(self.run, spare))
            self._taken = tick

    def _thin(self, tick: int) -> Checkpoint | None:
        """Keep one good state of each age, the youngest good one, and all that are still on trial.

        Of the states between two ages the oldest stays, because it is the next to reach the higher age; beyond the
        highest age it is the youngest. Return one that is not kept, if there is any.
        """
        held = self.states
        self.states = [s for s in held if self._stands(s)]
        good = [s for s in self.states if id(s) in self.good]
        keep = {id(s) for s in self.states} - {id(s) for s in good[:-1]}
        marks = ages(tick)
        for low, high in zip(marks, (*marks[1:], math.inf), strict=True):
            between = [s for s in good if low <= tick - s.tick < high]
            keep |= {id(s) for s in (between[:1] if high < math.inf else between[-1:])}
        self.states = [s for s in self.states if id(s) in keep]
        self.good &= keep
        return next((s for s in held if id(s) not in keep), None)

    def _stands(self, state: Checkpoint) -> bool:
        """Return whether every surgery that `state` was taken after is still done."""
        return all(surgery in self.run.surgeries for surgery in state.surgeries)

    def _target(self, before_tick: int) -> Checkpoint | None:
        good = [s for s in self.states if id(s) in self.good and s.tick < before_tick and self._stands(s)]
        tick = self.run.clock.tick
        if self._last_rollback is not None and tick - self._last_rollback[0] <= max(RELAPSE, 5 * interval(tick)):
            deeper = [s for s in good if s.tick < self._last_rollback[1]]
            good = deeper or good[:1]
        return good[-1] if good else None

    def available(self, before_tick: int) -> bool:
        """Return whether a good state older than `before_tick` is held."""
        return self._target(before_tick) is not None

    def rollback(self, before_tick: int) -> tuple[int, int]:
        """Restore the newest good state older than `before_tick` (deeper on a relapse); return its tick and step."""
        target = self._target(before_tick)
        if target is None:
            message = f"no known-good state from before tick {before_tick} is held"
            raise RemedyRefused(message)
        restore(self.run, target)
        self.states = [s for s in self.states if s.tick <= target.tick]
        self.good &= {id(s) for s in self.states}
        self._last_rollback = (self.run.clock.tick, target.tick)
        return target.tick, target.step
