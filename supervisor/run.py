"""What is being trained, and the only door to change it.

Two clocks: `tick` counts attempts and only rises; `step` is the training's own and goes back on a rollback.
What a remedy sets (learning rates, weight decay, clip limit, surgeries) lives on the tick clock, which is why it
is kept here and not in the optimizer's groups, where a scheduler or a restored state would overwrite it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from supervisor.errors import RemedyRefused, UsageError
from supervisor.rates import after_step, clip_, floor_of, in_force, rate_of
from supervisor.records import Anatomy
from supervisor.settings import Clip, Settings

__all__ = ["Clip", "Clock", "KnownGood", "Settings", "Surgery", "TrainingRun"]


class KnownGood(Protocol):
    """The known-good states a rollback may return to."""

    def rollback(self, before_tick: int) -> tuple[int, int]:
        """Restore the newest good state taken before `before_tick`; return its (tick, step)."""

    def available(self, before_tick: int) -> bool:
        """Whether there is such a state."""

    def target_tick(self, before_tick: int) -> int | None:
        """Return the tick of the state that `rollback` would return to, None if there is none."""

    def keep(self) -> Any:  # noqa: ANN401 - its own business
        """Return what `put_back` needs to forget a rollback that was only tried out."""

    def put_back(self, kept: Any) -> None:  # noqa: ANN401
        """Put the bookkeeping back to what `keep` saw; the run itself is put back by whoever tried."""


@dataclass
class Clock:
    """The two clocks of a run."""

    tick: int = 0
    step: int = 0


class Undo(Protocol):
    """What takes a surgery back, and brings it back again."""

    def __call__(self) -> None:
        """Take the surgery back."""

    def redo(self) -> None:
        """Do it again with the very same objects, as if it had never been taken back."""


@dataclass(eq=False)
class Surgery:
    """A change of the model's structure: how to take it back, and as data for `rebuild`."""

    change: Mapping[str, Any]  # {"kind": ..., ...}
    undo: Undo = field(repr=False)


class TrainingRun:
    """A model, its optimizers and scheduler, and everything remedies have set."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: tuple[Optimizer, ...],
        scheduler: LRScheduler | ReduceLROnPlateau | None = None,
    ) -> None:
        self.model, self.optimizers, self.scheduler = model, optimizers, scheduler
        self.clock = Clock()
        self.era = 0  # how often a remedy has changed the model or set it back
        self.renewals = 0  # how often weights were drawn anew or the structure changed
        self.anatomy = Anatomy(())
        self.settings = Settings()  # what remedies have set: no part of a checkpoint
        self.surgeries: list[Surgery] = []
        self.registered: dict[str, Any] = {}  # what else has a state_dict: an EMA, a sampler
        self.scaler: Any = None
        self.known_good: KnownGood | None = None
        self.silent_units: Mapping[str, torch.Tensor] = {}  # site name: (units,) bool, set when something is decided
        self.before_backward: Callable[[torch.Tensor], None] = lambda _loss: None  # the sensor's
        self.usual_norm = math.nan  # the largest gradient norm that is usual, set when something is decided
        self.usual_lr = math.nan  # the median of the effective rate over the last ticks, likewise
        self.replay: Callable[[], torch.Tensor] | None = None  # this tick's batch forward again, without a trace
        self.data_control = False  # whether batches can be skipped: the entry fulfils the two requests below
        self.batches_to_skip = 0  # so many further batches are to be drawn and dropped, without a tick
        self.rewind: tuple[int, int] | None = None  # the batches of these ticks, both included, are to be fed again
        self.can_rewind: Callable[[int], bool] = lambda _tick: False  # whether all batches after a tick are still held
        self._start = (
            None if scheduler is None else copy.deepcopy(scheduler.state_dict()),
            [_scheduled(group) for optimizer in optimizers for group in optimizer.param_groups],
        )
        self.voided = ""  # why this tick's step is not taken
        self.stop_reason = ""
        self.parameters = self.trained_parameters()
        if not self.parameters:
            message = (
                "optimizer: it holds none of the model's trainable parameters, so training would change nothing. "
                "Build it from this model: torch.optim.Adam(model.parameters(), lr=...)"
            )
            raise UsageError(message)

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the model's parameters that require gradients and that an optimizer holds."""
        held = {id(p) for o in self.optimizers for group in o.param_groups for p in group["params"]}
        return [p for p in self.model.parameters() if id(p) in held and p.requires_grad]

    @property
    def device(self) -> torch.device:
        """The device of the first trained parameter."""
        return self.parameters[0].device

    @property
    def lr(self) -> float:
        """The effective learning rate of the first param_group; NaN where it keeps none."""
        group = self.optimizers[0].param_groups[0]
        rate = rate_of(group) * self.settings.rate(self.clock.tick)
        return max(rate, floor_of(group, self.settings.lr_floor)) if self.settings.lr_floor else rate

    @property
    def lr_multiplier(self) -> float:
        """What every learning rate is multiplied by, a warm-up left out."""
        return self.settings.lr_multiplier

    @lr_multiplier.setter
    def lr_multiplier(self, value: float) -> None:
        self.settings = replace(self.settings, lr_multiplier=value)

    @property
    def clip(self) -> Clip | None:
        """The clip limit that was set last."""
        return self.settings.clip

    @clip.setter
    def clip(self, value: Clip | None) -> None:
        self.settings = replace(self.settings, clip=value)

    def void_step(self, why: str) -> None:
        """Do not take this tick's optimizer step: its gradients belong to a state that is no more, or are bad."""
        self.voided = self.voided or why

    def stop(self, reason: str) -> None:
        """Ask the loop to end the training at this tick's boundary."""
        self.stop_reason = self.stop_reason or reason

    def clip_gradients(self, grad_norm: float) -> bool:
        """Clip the gradients if a limit holds at this tick and is exceeded; return whether it fired.

        `grad_norm` is the norm measured before clipping. Below the limit not one bit changes.
        """
        clip = self.settings.clip
        if clip is None or self.clock.tick > clip.until:
            return False
        return clip_(self.parameters, clip.kind, clip.limit, grad_norm)

    def take_step(self, loss: float) -> None:
        """Take the optimizer step under the settings, then step the scheduler and tell a standing controller."""
        with in_force(self.optimizers, self.settings, self.clock.tick):
            for optimizer in self.optimizers:
                optimizer.step()
        self.clock.step += 1
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(loss)
        elif self.scheduler is not None:
            self.scheduler.step()
        self.settings = after_step(self.settings, loss, self.clock.step, self.optimizers)

    def drop_gradients(self) -> None:
        """Set every gradient to None."""
        for optimizer in self.optimizers:
            if type(optimizer).zero_grad is not Optimizer.zero_grad:
                optimizer.zero_grad(set_to_none=True)
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                parameter.grad = None  # all that its own zero_grad does, at a quarter of the price

    def optimizer_of(self, parameter: nn.Parameter) -> Optimizer | None:
        """Return the optimizer that holds `parameter`."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if any(parameter is held for held in group["params"]):
                    return optimizer
        return None

    def state_of(self, parameter: nn.Parameter) -> dict[str, Any]:
        """Return the optimizer's state of `parameter`: {} before its first step."""
        optimizer = self.optimizer_of(parameter)
        return {} if optimizer is None else optimizer.state.get(parameter, {})

    def module(self, path: str) -> nn.Module:
        """Return the submodule at `path` ("" is the model itself)."""
        try:
            return self.model.get_submodule(path)
        except AttributeError:
            message = f"the model has no module {path!r}"
            raise RemedyRefused(message) from None

    def operate(self, surgery: Surgery) -> None:
        """Note a surgery that was done, so that a rollback behind it can take it back first."""
        self.surgeries.append(surgery)

    def undo_surgeries(self, kept: tuple[Surgery, ...]) -> None:
        """Have exactly the surgeries `kept` done: take back all others, the last first, and redo what was taken back.

        A redo hangs the very same objects in again, with the optimizer's state of their parameters.
        """
        for surgery in reversed(self.surgeries):
            if surgery not in kept:
                surgery.undo()
        for surgery in kept:
            if surgery not in self.surgeries:
                surgery.undo.redo()
        self.surgeries = list(kept)

    def restart(self) -> Callable[[], None]:
        """Let step and schedule begin anew; return what puts them back. What was learned stays."""
        step = self.clock.step
        before = None if self.scheduler is None else copy.deepcopy(self.scheduler.state_dict())
        groups = [_scheduled(group) for optimizer in self.optimizers for group in optimizer.param_groups]
        self._schedule(0, *self._start)

        def undo() -> None:
            self._schedule(step, before, groups)

        return undo

    def _schedule(self, step: int, state: dict[str, Any] | None, groups: list[dict[str, Any]]) -> None:
        self.clock.step = step
        if self.scheduler is None or state is None:
            return
        self.scheduler.load_state_dict(copy.deepcopy(state))
        live = (group for optimizer in self.optimizers for group in optimizer.param_groups)
        for group, kept in zip(live, groups, strict=False):
            for key, value in kept.items():
                if isinstance(group[key], torch.Tensor):
                    group[key].copy_(torch.as_tensor(value))
                else:
                    group[key] = value


def _scheduled(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a scheduler may write into a group."""
    return {key: copy.deepcopy(group[key]) for key in ("lr", "initial_lr", "momentum", "betas") if key in group}
