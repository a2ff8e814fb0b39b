"""The last good state of a run, on disk: from time to time, and wherever a run does not end as it was asked to."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch

from supervisor.checkpoints import Checkpoint, Ring, capture, named, restore
from supervisor.checkpoints.store import Store
from supervisor.journal import Tape
from supervisor.run import TrainingRun

EVERY: Final = 600.0  # seconds: what is lost at most if the machine goes down; a save costs seconds at most
FOLDER: Final = "checkpoints"


class Keeping:
    """Saves the newest known-good state of a ring into the run's folder."""

    def __init__(
        self, run: TrainingRun, ring: Ring | None, tape: Tape, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Nothing is kept where there is no ring: the policy never rolls back."""
        self.run, self.ring, self.tape, self.clock = run, ring, tape, clock
        self._saved_tick = -1
        self._last = clock()

    def now_and_then(self) -> None:
        """Save if the last time is long ago."""
        if self.clock() - self._last >= EVERY:
            self._last = self.clock()
            self.save()

    def save(self) -> Path | None:
        """Save the newest good state, unless it is on disk already; return the file, None where there is none."""
        good = self._good()
        if good is None or good.tick <= self._saved_tick:
            return None
        saved = Store(self.tape.run_dir / FOLDER).save(self.run, good)
        facts = {"of_tick": good.tick, "of_step": good.step, "status": saved.status, "why": saved.why}
        self.tape.line("checkpoint", {**facts, "path": str(saved.path) if saved.path else None})
        if saved.status != "saved":
            self.tape.note(f"the last good state could not be saved: {saved.why}")
            return None
        self._saved_tick = good.tick
        return saved.path

    def at_the_end(self) -> str:
        """Save, and leave no ruin behind; return what the reader should know of it, or nothing."""
        path, good, told = self.save(), self._good(), ""
        if path is not None:
            told = f"the last good state, of tick {self._saved_tick}, is in {path}"
        if good is not None and any(not _finite(value) for _, value in named(self.run, capture(self.run))):
            restore(self.run, good)
            told = f"{told}; model and optimizer were not finite, and are left as they were at tick {good.tick}"
        if told:
            self.tape.note(told.removeprefix("; "))
        return told.removeprefix("; ")

    def _good(self) -> Checkpoint | None:
        return max(self.ring.good, key=lambda state: state.tick, default=None) if self.ring is not None else None


def _finite(value: object) -> bool:
    floats = isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())
    return bool(value.isfinite().all()) if floats else True  # type: ignore[attr-defined]
