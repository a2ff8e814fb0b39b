"""Remedies applied by hand, at the onset that only the clinic knows: what could be cured by somebody who sees it all.

Limits and skips hold from the onset on. The rest is done a few ticks later, when the fault has shown itself. Every
treatment also skips steps that are not finite, as every policy's reflex does.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

from supervisor.checkpoints import BufferGuard, Checkpoint, capture, restore
from supervisor.clinic.plain import Hands, grad_norm
from supervisor.records import Decision, Finding
from supervisor.registry import REMEDIES
from supervisor.run import Clip, TrainingRun
from supervisor.signals import Sensor

DELAY: Final = 10  # ticks after the onset: enough for eight samples of which units are silent
WARMUP: Final = 100  # ticks

Operation = tuple[str, Mapping[str, Any], str]  # remedy, its parameters, the pathology that it is to answer


@dataclass(frozen=True)
class Treatment:
    """A remedy, or a pair of them."""

    name: str
    operations: tuple[Operation, ...] = ()
    back: bool = False  # return to the state before the onset first
    lr: float = 1.0  # the learning rate is multiplied by this
    warmup: bool = False  # it rises to that over WARMUP ticks
    clip: float | None = None  # gradient norm, in medians of those before the onset; absolute if it is tick 1
    no_decay: bool = False  # weight decay is set to 0

    @property
    def late(self) -> bool:
        """Whether there is something to do after the onset."""
        return bool(self.operations or self.back or self.lr != 1.0 or self.warmup or self.no_decay)


_WEIGHTS: Final[Operation] = ("reinit_weights", {}, "vanishing_gradients")
_RELU: Final[Operation] = ("swap_activation", {"to": "relu"}, "vanishing_gradients")
_GELU: Final[Operation] = ("swap_activation", {"to": "gelu"}, "vanishing_gradients")
_LEAKY: Final[Operation] = ("swap_activation", {"to": "leaky_relu"}, "dead_units")
_DEAD: Final[Operation] = ("reinit_dead_units", {}, "dead_units")


_ALONE: Final[dict[str, dict[str, Any]]] = {
    "rollback": {"back": True},
    "reinit_weights": {"operations": (_WEIGHTS,)},
    "swap_activation relu": {"operations": (_RELU,)},
    "swap_activation leaky_relu": {"operations": (_LEAKY,)},
    "reinit_dead_units": {"operations": (_DEAD,)},
}
_COURSE: Final[dict[str, dict[str, Any]]] = {
    "lower_lr 0.3": {"lr": 0.3},
    "lower_lr 0.1": {"lr": 0.1},
    "lower_lr 0.01": {"lr": 0.01},
    "raise_lr 10": {"lr": 10.0},
    "raise_lr 100": {"lr": 100.0},
    "raise_lr 1000": {"lr": 1000.0},
    "raise_lr 10000": {"lr": 10000.0},
    "warmup_lr": {"warmup": True},
    "clip_norm usual": {"clip": 1.0},
    "clip_norm usual x 3": {"clip": 3.0},
    "weight_decay 0": {"no_decay": True},
}
_CALMER: Final = ("lower_lr 0.3", "lower_lr 0.1", "warmup_lr", "clip_norm usual", "weight_decay 0")
_PAIRS: Final = {
    "rollback": (*_CALMER, "lower_lr 0.01"),
    "reinit_weights": (*_CALMER, "raise_lr 10", "raise_lr 100"),
    "swap_activation relu": ("lower_lr 0.1", "raise_lr 10"),
    "reinit_dead_units": ("lower_lr 0.3", "lower_lr 0.1"),
}
"""What makes sense together: a new start and a calmer course, or one that gets somewhere."""


def _treatments() -> Iterator[Treatment]:
    yield Treatment("skip_step")
    for name, what in {**_ALONE, **_COURSE}.items():
        yield Treatment(name, **what)
    yield Treatment("swap_activation relu + reinit_weights", (_RELU, _WEIGHTS))
    yield Treatment("swap_activation gelu + reinit_weights", (_GELU, _WEIGHTS))
    yield Treatment("swap_activation leaky_relu + reinit_dead_units", (_LEAKY, _DEAD))
    for name, others in _PAIRS.items():
        for other in others:
            yield Treatment(f"{name} + {other}", **_ALONE[name], **_COURSE[other])


TREATMENTS: Final = {treatment.name: treatment for treatment in _treatments()}


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
        for group in (g for o in run.optimizers for g in o.param_groups if treatment.no_decay):
            group["weight_decay"] = 0.0
        if self._sensor is not None:
            run.silent_units = self._sensor.silent_units()
        for remedy, params, pathology in treatment.operations:
            REMEDIES[remedy](**params).apply(run, self._decision(remedy, params, pathology))
        self._guard.bind(run.model)

    def _warm_up(self) -> None:
        since = self.run.clock.tick - self.onset - DELAY
        if self.treatment.warmup and 0 <= since <= WARMUP:
            self.run.lr_multiplier = self.treatment.lr * max(0.01, since / WARMUP)

    def _decision(self, remedy: str, params: Mapping[str, Any], pathology: str) -> Decision:
        clock, where = self.run.clock, tuple(layer.name for layer in self.run.anatomy.layers)
        finding = Finding(pathology, clock.tick, clock.step, where, 1.0, "known")
        return Decision("d1", remedy, params, finding, 0, "by hand", clock.tick, clock.step)
