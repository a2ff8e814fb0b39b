"""Remedies applied by hand, at the onset that only the clinic knows: what could be cured by somebody who sees it all.

Limits and skips hold from the onset on. The rest is done a few ticks later, when the fault has shown itself. Every
treatment also skips steps that are not finite, as every policy's reflex does.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Final

from torch import Tensor

from supervisor.checkpoints import BufferGuard, Checkpoint, capture, restore
from supervisor.clinic.plain import Hands, grad_norm
from supervisor.clinic.treatments import Treatment
from supervisor.errors import RemedyRefused
from supervisor.records import Decision, Finding
from supervisor.registry import REMEDIES
from supervisor.run import Clip, TrainingRun
from supervisor.signals import Sensor

DELAY: Final = 10  # ticks after the onset: enough for eight samples of which units are silent
WARMUP: Final = 100  # ticks


class ByHand(Hands):
    """Applies one treatment to a training whose onset is known. A remedy that does not fit raises RemedyRefused."""

    def __init__(self, treatment: Treatment, onset: int) -> None:
        self.treatment, self.onset = treatment, onset
        self._usual: list[float] = []
        self._before: Checkpoint | None = None

    def begin(self, run: TrainingRun) -> None:
        """Look at the model."""
        super().begin(run)
        self._guard = BufferGuard(run.model)
        self._sensor = Sensor(run, 1) if self.treatment.operations else None

    @property
    def _due(self) -> bool:
        return self.treatment.late and self.run.clock.tick == self.onset + DELAY

    def _watched(self) -> Sensor | None:
        near = self.onset <= self.run.clock.tick <= self.onset + DELAY
        return self._sensor if near else None

    def tick(self) -> AbstractContextManager[None]:
        """Keep the state before the onset, and the buffers before every tick."""
        if self.run.clock.tick == self.onset:
            self._arm()
        self.run.voided = ""
        self._guard.remember()
        sensor = self._watched()
        return nullcontext() if sensor is None else sensor.watching()

    def _arm(self) -> None:
        """Do what holds from the onset on."""
        if self.treatment.back:
            self._before = capture(self.run)
        if self.treatment.clip is not None:
            usual = statistics.median(self._usual) if self._usual else 1.0
            self.run.clip = Clip("norm", self.treatment.clip * usual, until=2**62)

    def allows(self, losses: list[Tensor], batches: list[Any]) -> bool:
        """Treat where it is due, clip, and skip what is not finite."""
        if (sensor := self._watched()) is not None:
            sensor.snapshot(losses, batches)
        norm = grad_norm(self.run)
        finite = math.isfinite(norm) and all(bool(loss.isfinite()) for loss in losses)
        if finite and self.run.clock.tick < self.onset:
            self._usual.append(norm)
        if self._due:
            self._treat()
        self._warm_up()
        if not finite or self.run.voided:
            self.run.drop_gradients()
            if not self.run.voided:  # else the treatment put them where they belong
                self._guard.put_back()
            return False
        self.run.clip_gradients(norm)
        return True

    def _treat(self) -> None:
        """Apply the treatment; a changed model voids the tick's step."""
        run, treatment = self.run, self.treatment
        if treatment.back or treatment.operations:
            self._guard.put_back()
        if self._before is not None:
            restore(run, self._before)
            run.void_step("rolled back")
        run.lr_multiplier = treatment.lr
        if treatment.hold:
            self._hold_rate()
        for group in (g for o in run.optimizers for g in o.param_groups if treatment.no_decay):
            group["weight_decay"] = 0.0
        if self._sensor is not None:
            run.silent_units = self._sensor.silent_units()
        for remedy, params, pathology in treatment.operations:
            REMEDIES[remedy](**params).apply(run, self._decision(remedy, params, pathology))
        if self._sensor is not None:
            self._sensor.refresh()
        self._guard.bind(run.model)

    def _hold_rate(self) -> None:
        """Hold the rate up from now on, also where its schedule has not yet taken it down. Refused without one."""
        groups = (group for optimizer in self.run.optimizers for group in optimizer.param_groups)
        if not any("initial_lr" in group for group in groups):
            message = "no schedule steers the learning rate: there is nothing to hold it up against"
            raise RemedyRefused(message)
        self.run.settings = replace(self.run.settings, lr_floor=1.0)

    def _warm_up(self) -> None:
        since = self.run.clock.tick - self.onset - DELAY
        if self.treatment.warmup and 0 <= since <= WARMUP:
            self.run.lr_multiplier = self.treatment.lr * max(0.01, since / WARMUP)

    def _decision(self, remedy: str, params: Mapping[str, Any], pathology: str) -> Decision:
        clock, where = self.run.clock, tuple(layer.name for layer in self.run.anatomy.layers)
        finding = Finding(pathology, clock.tick, clock.step, where, 1.0, "known")
        return Decision("d1", remedy, params, finding, 0, "by hand", clock.tick, clock.step)
