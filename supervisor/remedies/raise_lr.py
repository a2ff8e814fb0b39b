"""Raises the learning rate, beside whatever schedule the user has."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from supervisor.errors import RemedyRefused
from supervisor.rates import floor_of, rate_of
from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._rates import movable_rates, multiply
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


@REMEDIES.register("raise_lr")
@dataclass(frozen=True)
class RaiseLr:
    """Multiply the run's learning-rate multiplier, for a training that stands because its steps are too small.

    With `floor`, hold the rate up instead, where a schedule has taken it down too soon: a multiple of what falls on
    falls on as well. Both live on the tick clock: neither a scheduler nor a rollback brings the old rate back.
    """

    factor: Annotated[float, Field(gt=1, le=1e5, description="what the rate is multiplied by")] = 3.0
    max_lr: Annotated[float, Field(gt=0, description="no group's effective rate goes above it")] = 1.0
    floor: Annotated[
        float | None, Field(gt=0, le=1, description="share of the rate before the schedule to hold; left out: factor")
    ] = None

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:  # noqa: ARG002 - the protocol's signature
        """Raise the multiplier by `factor`, or as far as `max_lr` allows; or hold the rate at `floor`."""
        if self.floor is not None:
            return _hold(run, self.floor)
        rates, before = movable_rates(run), run.lr_multiplier
        after = min(before * self.factor, _most(max(rates), self.max_lr))
        if not after > before:
            message = (
                f"the learning rate cannot go higher: a group is at {max(rates) * before:.3g}, max_lr is "
                f"{self.max_lr:.3g}; raise max_lr if it should"
            )
            raise RemedyRefused(message)
        return multiply(run, after)


def _most(rate: float, max_lr: float) -> float:
    """Return the largest multiplier that keeps `rate` at `max_lr` or below, rounding included."""
    multiplier = max_lr / rate
    while rate * multiplier > max_lr:
        multiplier = math.nextafter(multiplier, 0.0)
    return multiplier


def _hold(run: TrainingRun, floor: float) -> Effect:
    """Keep every group's rate at `floor` of what it was before its schedule began."""
    groups = [group for optimizer in run.optimizers for group in optimizer.param_groups]
    rate = run.settings.rate(run.clock.tick)
    if not any(rate_of(group) * rate < floor_of(group, floor) for group in groups):
        message = (
            f"no group's learning rate is below {floor:.3g} of what it was before a schedule began, so there is "
            "nothing to hold up; raise it by a factor"
        )
        raise RemedyRefused(message)
    before, lr = run.settings.lr_floor, run.lr
    run.settings = replace(run.settings, lr_floor=max(before, floor))

    def undo() -> None:
        run.settings = replace(run.settings, lr_floor=before)

    return Effect({"lr": (lr, run.lr), "lr_floor": (before, run.settings.lr_floor)}, undo)
