"""What is being trained, and the only door to change it.

Two clocks: `tick` counts attempts and only rises; `step` is the training's own and goes back on a rollback.
What a remedy sets (learning-rate multiplier, clip limit, surgeries) lives on the tick clock, which is why it
is kept here and not in the optimizer's groups, where a scheduler or a restored state would overwrite it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from supervisor.errors import RemedyRefused, UsageError
from supervisor.records import Anatomy


class KnownGood(Protocol):
    """The known-good states a rollback may return to."""

    def rollback(self, before_tick: int) -> tuple[int, int]:
        """Restore the newest good state taken before `before_tick`; return its (tick, step)."""

    def available(self, before_tick: int) -> bool:
        """Whether there is such a state."""


@dataclass
class Clock:
    """The two clocks of a run."""

    tick: int = 0
    step: int = 0


@dataclass(frozen=True)
class Clip:
    """A clip limit that holds up to and including the tick `until`."""

    kind: str  # "norm" or "value"
    limit: float
    until: int


@dataclass(eq=False)
class Surgery:
    """A change of the model's structure: how to take it back, and as data for `rebuild`."""

    change: Mapping[str, Any]  # {"kind": ..., ...}
    undo: Callable[[], None] = field(repr=False)


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
        self.anatomy = Anatomy(())
        self.lr_multiplier = 1.0
        self.clip: Clip | None = None
        self.surgeries: list[Surgery] = []
        self.known_good: KnownGood | None = None
        self.silent_units: Mapping[str, torch.Tensor] = {}  # site name: (units,) bool, set when something is decided
        self.before_backward: Callable[[torch.Tensor], None] = lambda _loss: None  # the sensor's
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
        """The effective learning rate of the first param_group."""
        return float(self.optimizers[0].param_groups[0]["lr"]) * self.lr_multiplier

    def void_step(self, why: str) -> None:
        """Do not take this tick's optimizer step: its gradients belong to a state that is no more, or are bad."""
        self.voided = self.voided or why

    def stop(self, reason: str) -> None:
        """Ask the loop to end the training at this tick's boundary."""
        self.stop_reason = self.stop_reason or reason

    @contextmanager
    def effective_lr(self) -> Iterator[None]:
        """Apply the multiplier to every group, and put the very same objects back.

        The user's own float returns untouched (lr * 0.1 / 0.1 != lr for many values), so schedulers that multiply what
        they find, and those that recompute, both go on as if nothing had happened.
        """
        if self.lr_multiplier == 1.0:
            yield
            return
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        own = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr"] * self.lr_multiplier
        try:
            yield
        finally:
            for group, lr in zip(groups, own, strict=True):
                group["lr"] = lr

    def clip_gradients(self, grad_norm: float) -> bool:
        """Clip the gradients if a limit holds at this tick and is exceeded; return whether it fired.

        `grad_norm` is the norm measured before clipping. Below the limit not one bit changes.
        """
        clip = self.clip
        if clip is None or self.clock.tick > clip.until:
            return False
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if clip.kind == "value":
            largest = max((float(g.abs().max()) for g in gradients), default=0.0)
            if not largest > clip.limit:
                return False
            torch._foreach_clamp_max_(gradients, clip.limit)
            torch._foreach_clamp_min_(gradients, -clip.limit)
            return True
        if not (math.isfinite(grad_norm) and grad_norm > clip.limit):
            return False
        torch._foreach_mul_(gradients, clip.limit / grad_norm)
        return True

    def take_step(self, loss: float) -> None:
        """Take the optimizer step with the effective learning rate, then step the scheduler."""
        with self.effective_lr():
            for optimizer in self.optimizers:
                optimizer.step()
        self.clock.step += 1
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(loss)
        elif self.scheduler is not None:
            self.scheduler.step()

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
        """Take back every surgery that is not among `kept`, the last one first."""
        for surgery in reversed(self.surgeries):
            if surgery not in kept:
                surgery.undo()
        self.surgeries = [surgery for surgery in self.surgeries if surgery in kept]
