"""Known-good states in memory, at ages of about 10, 30, 100 and 300 ticks.

States are taken ever more rarely as the run grows, every 10 ticks at first, so that a rollback loses at most 2 % of the
run and taking them costs next to nothing; in a long run the ages stretch with it. A new state is on trial: it becomes
a target only after QUARANTINE ticks without a finding, because a fault often shows later than it begins. The state
before the first step is good by definition. On a relapse soon after a rollback the next target lies deeper.

They take at most a quarter of the memory that would be free without them. Where fewer fit, fewer ages are held, the
newest and the oldest good state last; where a device has no room for two, they lie in the host's memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch

from supervisor.checkpoints.memory import free
from supervisor.checkpoints.state import Checkpoint, Hold, capture, restore, state_size
from supervisor.errors import RemedyRefused
from supervisor.run import TrainingRun

AGES: Final = (10, 30, 100, 300)  # ticks, at least
APART: Final = (1, 3, 6, 10)  # intervals between states, at least
EVERY: Final = 10  # ticks between two states taken, at least
SHARE: Final = 50  # states are at most one part in SHARE of the run apart
QUARANTINE: Final = 10  # healthy ticks that prove a state
RELAPSE: Final = 50  # ticks after a rollback in which another one goes deeper, at least
OF_FREE: Final = 4  # states take at most one part in OF_FREE of what is free
HOST: Final = torch.device("cpu")


def interval(tick: int) -> int:
    """Return how many ticks apart states are taken at `tick`."""
    return EVERY * max(1, tick // (SHARE * EVERY))


def ages(tick: int) -> list[int]:
    """Return the ages that are held at `tick`: AGES, spread where states are taken too rarely for them."""
    return [max(age, apart * interval(tick)) for age, apart in zip(AGES, APART, strict=True)]


@dataclass(frozen=True)
class Bookkeeping:
    """What a ring knew at one time. As long as this lives, the memory of its states is not used again."""

    states: tuple[Checkpoint, ...]
    good: frozenset[Checkpoint]
    taken: int
    last_rollback: tuple[int, int] | None
    note: str
    holds: tuple[Hold, ...]


class Ring:
    """The states a rollback may return to."""

    def __init__(self, run: TrainingRun, memory: int | Literal["auto"] = "auto") -> None:
        """Keep states of `run`; the state it is in now is the first known-good one, if there is room for it.

        `memory` is how many bytes the states may take; auto: a quarter of what is free.
        """
        self.run, self.memory = run, memory
        self.note = ""  # a sentence where memory does not allow all ages
        self.states: list[Checkpoint] = []  # oldest first
        self.good: set[Checkpoint] = set()
        self._taken = run.clock.tick  # when the newest state was
        self._last_rollback: tuple[int, int] | None = None  # when, and the tick of the state returned to
        self._take()
        self.good |= set(self.states)

    def tick(self, *, healthy: bool) -> None:
        """Note the end of a tick; `healthy` means that no finding is open."""
        tick = self.run.clock.tick
        if len(self.good) < len(self.states):
            if not healthy:
                self.states = [state for state in self.states if state in self.good]
                return
            self.good |= {state for state in self.states if tick - state.tick >= QUARANTINE}
        if healthy and tick % EVERY == 0 and tick - self._taken >= interval(tick):
            held = self.states
            self._thin(tick)
            self._take(held)
            self._taken = tick

    def _take(self, held: Sequence[Checkpoint] = ()) -> None:
        """Take the state of now where there is room, in the memory of one of `held` that was let go."""
        fit, place, why = self._room()
        wanted = len(self.states)
        self.states = _fewer(self.states, max(1, fit - 1))
        self.good &= set(self.states)
        taken = len(self.states) < fit
        if taken:
            spare = next((s for s in held if s not in self.states and not s.held), None)
            self.states.append(capture(self.run, spare, place))
        self.note = "" if taken and len(self.states) > wanted else why

    def _room(self) -> tuple[int, torch.device | None, str]:
        """Return how many states fit, where they shall lie (None: by their tensors), and that as a sentence."""
        one, own, place = max(1, state_size(self.run)), self.run.device, None
        share = self._share(own)
        if self.memory == "auto" and own.type != "cpu" and share < 2 * one:
            place, share = HOST, self._share(HOST)
        sizes = f"known-good states may take {share / 2**20:.1f} MiB, and one takes {one / 2**20:.1f} MiB"
        return share // one, place, f"{sizes}: fewer of them are held than there are ages"

    def _share(self, device: torch.device) -> int:
        if self.memory != "auto":
            return self.memory
        there = sum(state.size for state in self.states if (state.place or self.run.device) == device)
        return (free(device) + there) // OF_FREE

    def _thin(self, tick: int) -> None:
        """Keep one good state of each age, the youngest good one, and all that are still on trial.

        Of the states between two ages the oldest stays, because it is the next to reach the higher age; beyond the
        highest age it is the youngest. Soon after a rollback nothing that a relapse would return to goes.
        """
        standing = [s for s in self.states if self._stands(s)]
        good = [s for s in standing if s in self.good]
        keep = set(standing) - set(good[:-1])
        marks = ages(tick)
        for low, high in zip(marks, (*marks[1:], math.inf), strict=True):
            between = [s for s in good if low <= tick - s.tick < high]
            keep |= set(between[:1] if high < math.inf else between[-1:])
        keep |= {s for s in good if s.tick < self._relapse_depth(tick)}
        self.states = [s for s in standing if s in keep]
        self.good &= keep

    def _stands(self, state: Checkpoint) -> bool:
        """Return whether every surgery that `state` was taken after is still done."""
        return all(surgery in self.run.surgeries for surgery in state.surgeries)

    def _target(self, before_tick: int) -> Checkpoint | None:
        good = [s for s in self.states if s in self.good and s.tick < before_tick and self._stands(s)]
        depth = self._relapse_depth(self.run.clock.tick)
        if depth >= 0:
            good = [s for s in good if s.tick < depth] or good[:1]
        return good[-1] if good else None

    def _relapse_depth(self, tick: int) -> int:
        """Return the tick of the state that was returned to last if another rollback now is a relapse, else -1."""
        if self._last_rollback is None or tick - self._last_rollback[0] > max(RELAPSE, 5 * interval(tick)):
            return -1
        return self._last_rollback[1]

    def available(self, before_tick: int) -> bool:
        """Return whether a good state older than `before_tick` is held."""
        return self._target(before_tick) is not None

    def target_tick(self, before_tick: int) -> int | None:
        """Return the tick of the state that `rollback` would return to, None if there is none."""
        target = self._target(before_tick)
        return None if target is None else target.tick

    def rollback(self, before_tick: int) -> tuple[int, int]:
        """Restore the newest good state older than `before_tick` (deeper on a relapse); return its tick and step."""
        target = self._target(before_tick)
        if target is None:
            message = f"no known-good state from before tick {before_tick} is held"
            raise RemedyRefused(f"{message} ({self.note})" if self.note else message)
        restore(self.run, target)
        self.states = [s for s in self.states if s.tick <= target.tick]
        self.good &= set(self.states)
        self._last_rollback = (self.run.clock.tick, target.tick)
        return target.tick, target.step

    def keep(self) -> Bookkeeping:
        """Return what the ring knows, so that a rollback can be tried out and `put_back` leave no trace of it."""
        holds = tuple(state.hold() for state in self.states)
        return Bookkeeping(tuple(self.states), frozenset(self.good), self._taken, self._last_rollback, self.note, holds)

    def put_back(self, kept: Bookkeeping) -> None:
        """Know again what `keep` returned. The run itself is not touched."""
        self.states, self.good = list(kept.states), set(kept.good)
        self._taken, self._last_rollback, self.note = kept.taken, kept.last_rollback, kept.note


def _fewer(states: Sequence[Checkpoint], most: int) -> list[Checkpoint]:
    """Return at most `most` states: the newest and the oldest go last."""
    left = list(states)
    while len(left) > max(most, 2):
        del left[-2]
    return left[-most:]
