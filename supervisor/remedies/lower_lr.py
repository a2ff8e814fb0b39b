"""Lowers the learning rate, beside whatever schedule the user has."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from supervisor.errors import RemedyRefused
from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


@REMEDIES.register("lower_lr")
@dataclass(frozen=True)
class LowerLr:
    """Multiply the run's learning-rate multiplier; the optimizer's own rates are never written.

    The multiplier lives on the tick clock: neither a scheduler nor a rollback brings the old rate back.
    """

    factor: Annotated[float, Field(gt=0, lt=1, description="what the rate is multiplied by")] = 0.1
    min_lr: Annotated[float, Field(ge=0, description="no group's effective rate goes below it")] = 1e-7

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:  # noqa: ARG002 - the protocol's signature
        """Lower the multiplier by `factor`, or as far as `min_lr` allows."""
        rates = [float(group["lr"]) for optimizer in run.optimizers for group in optimizer.param_groups]
        before, lr = run.lr_multiplier, run.lr
        after = max([before * self.factor, *(_least(rate, self.min_lr) for rate in rates if rate > 0)])
        if not after < before:
            lowest = min((rate * before for rate in rates if rate > 0), default=0.0)
            message = f"the learning rate cannot go lower: a group is at {lowest:.3g}, min_lr is {self.min_lr:.3g}"
            raise RemedyRefused(message)
        run.lr_multiplier = after
        changes = {"lr": (lr, run.lr), "lr_multiplier": (before, after)}
        return Effect(changes, _undo(run, before, after))


def _least(rate: float, min_lr: float) -> float:
    """Return the least multiplier that keeps `rate` at `min_lr` or above, rounding included."""
    multiplier = min_lr / rate
    while rate * multiplier < min_lr:
        multiplier = math.nextafter(multiplier, math.inf)
    return multiplier


def _undo(run: TrainingRun, before: float, after: float) -> Callable[[], None]:
    def undo() -> None:
        later = run.lr_multiplier / after if run.lr_multiplier != after else 1.0
        run.lr_multiplier = before * later  # what another remedy has set since then stays

    return undo
