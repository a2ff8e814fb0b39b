"""Lowers the learning rate, beside whatever schedule the user has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from supervisor.errors import RemedyRefused
from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._rates import movable_rates, multiply
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun
from supervisor.settings import lowered

LEAP: Final = 2.0  # times the usual rate


@REMEDIES.register("lower_lr")
@dataclass(frozen=True)
class LowerLr:
    """Multiply the run's learning-rate multiplier; the optimizer's own rates are never written.

    The multiplier lives on the tick clock: neither a scheduler nor a rollback brings the old rate back.
    """

    factor: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | Literal["auto"],
        Field(description="what the rate is multiplied by; auto: back to the usual one, where it has leapt up"),
    ] = 0.1
    min_lr: Annotated[float, Field(ge=0, description="no group's effective rate is taken below it")] = 1e-7

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:  # noqa: ARG002 - the protocol's signature
        """Lower the multiplier by `factor`, or as far as `min_lr` allows."""
        rates, before = movable_rates(run), run.lr_multiplier
        after = lowered(before, self._factor(run), self.min_lr, rates)
        if not after < before:
            message = (
                f"the learning rate cannot go lower: a group is at {min(rates) * before:.3g}, min_lr is "
                f"{self.min_lr:.3g}; lower min_lr if it should"
            )
            raise RemedyRefused(message)
        return multiply(run, after)

    def _factor(self, run: TrainingRun) -> float:
        """Return what to multiply by. Refused where auto finds that the rate has not leapt."""
        if self.factor != "auto":
            return float(self.factor)
        if run.usual_lr * LEAP <= run.lr:
            return run.usual_lr / run.lr
        message = (
            f"factor: auto brings a rate that has leapt back to the usual one, but it is {run.lr:.3g} and "
            f"{run.usual_lr:.3g} is usual; set a number"
        )
        raise RemedyRefused(message)
