"""Changes the weight decay: more of it where weights grow, none where it is what crushes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from supervisor.errors import RemedyRefused
from supervisor.rates import decay_of, rate_of
from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun
from supervisor.settings import Decay


@REMEDIES.register("weight_decay")
@dataclass(frozen=True)
class WeightDecay:
    """Turn each group's own decay d into d * factor + add, beside whatever schedules it; 0 * d is no decay at all.

    A group of 0 beside groups that decay (biases, norms) is so by intention and stays so. Where no group decays, only
    an `add` above 0 asks for it, and then all do. The optimizer's own numbers are never written to stay.
    """

    factor: Annotated[float, Field(ge=0, le=1000, description="what each group's decay is multiplied by")] = 10.0
    add: Annotated[float, Field(ge=0, le=10, description="what is added to it, in the optimizer's own unit")] = 0.0

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:  # noqa: ARG002 - the protocol's signature
        """Set the decay for the steps to come."""
        own, before = _own(run), run.settings.decay or Decay()
        after = before.then(self.factor, self.add, bare=not any(own))
        was, now = [before.of(decay) for decay in own], [after.of(decay) for decay in own]
        if now == was:
            advice = "set factor or add" if any(was) else "set add above 0 to have one"
            message = f"weight_decay: no group's decay would change (the largest is {max(was):.3g}); {advice}"
            raise RemedyRefused(message)
        _refuse_overshoot(run, now)
        return Effect({"weight_decay": (_span(was), _span(now))}, _set(run, after))


def _own(run: TrainingRun) -> list[float]:
    """Return the user's decay of every group that has one. Refused where none has, or where no step is taken."""
    groups = [group for optimizer in run.optimizers for group in optimizer.param_groups]
    own = [decay for decay in map(decay_of, groups) if not math.isnan(decay)]
    names = ", ".join(type(optimizer).__name__ for optimizer in run.optimizers)
    if not own:
        message = f"weight_decay: no param_group of {names} has that key; take an optimizer that knows it"
        raise RemedyRefused(message)
    if all(rate_of(group) == 0 for group in groups):
        message = f"weight_decay: every learning rate of {names} is 0, so that nothing decays; raise it first"
        raise RemedyRefused(message)
    return own


def _refuse_overshoot(run: TrainingRun, decays: list[float]) -> None:
    """Refuse a decay that takes a whole weight or more in one step: it would turn weights over."""
    groups = [group for optimizer in run.optimizers for group in optimizer.param_groups]
    rates = [rate_of(group) * run.lr_multiplier for group in groups if not math.isnan(decay_of(group))]
    worst = max((rate * decay for rate, decay in zip(rates, decays, strict=True) if not math.isnan(rate)), default=0.0)
    if worst >= 1.0:
        message = f"weight_decay: rate x decay would be {worst:.3g}, all of a weight at one step; lower factor or add"
        raise RemedyRefused(message)


def _span(decays: list[float]) -> float | str:
    """Return the decays as one number, or from the least to the largest."""
    least, largest = min(decays), max(decays)
    return least if least == largest else f"{least:.3g} to {largest:.3g}"


def _set(run: TrainingRun, decay: Decay) -> Callable[[], None]:
    """Set `decay`; return what takes it back, unless a later one stands on it."""
    before = run.settings.decay
    run.settings = replace(run.settings, decay=decay)

    def undo() -> None:
        if run.settings.decay is decay:
            run.settings = replace(run.settings, decay=before)

    return undo
