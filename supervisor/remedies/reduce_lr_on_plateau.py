"""Sets up a standing controller that lowers the learning rate whenever the loss stands still."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field
from torch.optim.lr_scheduler import ReduceLROnPlateau as UsersOwn

from supervisor.errors import RemedyRefused
from supervisor.records import Decision
from supervisor.registry import REMEDIES
from supervisor.remedies._rates import movable_rates
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun
from supervisor.settings import Plateau, lowered


@REMEDIES.register("reduce_lr_on_plateau")
@dataclass(frozen=True)
class ReduceLrOnPlateau:
    """Multiply the rate by `factor` each time the loss had no better level for `patience` steps.

    A level is the median of up to 50 losses, so that the noise of batches does not decide; NaN and Inf are no losses.
    It begins at this tick, lives on the tick clock, and starts to look anew after a rollback.
    """

    factor: Annotated[float, Field(gt=0, lt=1, description="what the rate is multiplied by")] = 0.5
    patience: Annotated[int, Field(ge=1, le=1_000_000, description="steps without a better level")] = 200
    min_lr: Annotated[float, Field(ge=0, description="no group's effective rate is taken below it")] = 1e-7

    def apply(self, run: TrainingRun, decision: Decision) -> Effect:  # noqa: ARG002 - the protocol's signature
        """Set the controller up; it acts after the steps to come."""
        self._refuse(run)
        run.settings = replace(run.settings, on_plateau=Plateau(self.factor, self.patience, self.min_lr))

        def undo() -> None:
            run.settings = replace(run.settings, on_plateau=None)

        rule = f"rate x {self.factor:g} after {self.patience} steps without progress, not below {self.min_lr:g}"
        return Effect({"on plateau": ("nothing", rule)}, undo)

    def _refuse(self, run: TrainingRun) -> None:
        """Raise RemedyRefused where there is no rate to lower, or something that does so already."""
        if isinstance(run.scheduler, UsersOwn):
            message = "the training has a ReduceLROnPlateau scheduler of its own; change its factor or patience"
            raise RemedyRefused(message)
        standing = run.settings.on_plateau
        if standing is not None:
            message = (
                f"a controller stands already (rate x {standing.factor:g} after {standing.patience} steps); "
                "lower_lr acts at once"
            )
            raise RemedyRefused(message)
        if not lowered(run.lr_multiplier, self.factor, self.min_lr, movable_rates(run)) < run.lr_multiplier:
            message = f"every rate is at min_lr, {self.min_lr:.3g}, or below: lower min_lr if it should go on"
            raise RemedyRefused(message)
