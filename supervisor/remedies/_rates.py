"""What the remedies of the learning rate share: which rates there are to move, and moving the multiplier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from supervisor.errors import RemedyRefused
from supervisor.rates import own_rates
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun


def movable_rates(run: TrainingRun) -> list[float]:
    """Return the groups' own rates above 0. Refused where there is none that a multiplier could move."""
    rates = own_rates(run.optimizers)
    if not rates:
        names = ", ".join(type(optimizer).__name__ for optimizer in run.optimizers)
        message = (
            f"no param_group of {names} holds a learning rate above 0 that steers its steps, so there is nothing to "
            "multiply; give the optimizer an lr"
        )
        raise RemedyRefused(message)
    return rates


def multiply(run: TrainingRun, after: float) -> Effect:
    """Set the run's multiplier to `after`; its undo leaves what another remedy has set since then."""
    before, lr = run.lr_multiplier, run.lr
    run.settings = replace(run.settings, lr_multiplier=after)
    changes = {"lr": (lr, run.lr), "lr_multiplier": (before, after)}
    return Effect(changes, _undo(run, before, after))


def _undo(run: TrainingRun, before: float, after: float) -> Callable[[], None]:
    def undo() -> None:
        later = run.lr_multiplier / after if run.lr_multiplier != after else 1.0
        run.settings = replace(run.settings, lr_multiplier=before * later)

    return undo
