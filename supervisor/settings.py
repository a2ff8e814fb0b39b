"""What remedies have set on the tick clock: plain numbers, replaced as a whole, no part of any checkpoint."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

BLOCK: Final = 50  # losses whose median is one level: its standard error is 1.25 / sqrt(50) = 0.18 of their noise
PROGRESS: Final = 1e-4  # a level is better if it is lower by this share: the default of torch's ReduceLROnPlateau
FOREVER: Final = 2**62  # a tick that no run reaches


@dataclass(frozen=True)
class Clip:
    """A clip limit that holds up to and including the tick `until`."""

    kind: str  # "norm" or "value"
    limit: float
    until: int
    auto: bool = False  # the limit follows what is usual, as the training goes on


@dataclass(frozen=True)
class Ramp:
    """A warm-up: a factor that rises linearly from `start` at the tick `began` to 1 at the tick `until`."""

    start: float  # 0 to 1
    began: int
    until: int

    def factor(self, tick: int) -> float:
        """Return the factor at `tick`: exactly 1 from `until` on."""
        if tick >= self.until:
            return 1.0
        return self.start + (1.0 - self.start) * max(0, tick - self.began) / (self.until - self.began)


@dataclass(frozen=True)
class Decay:
    """What becomes of each group's own weight decay: `own * factor + add`."""

    factor: float = 1.0
    add: float = 0.0
    bare: bool = False  # also where a group's own is 0, which else is the user's intention

    def of(self, own: Any) -> Any:  # noqa: ANN401 - a number or a 0-dim tensor
        """Return the decay in force for a group whose own is `own`."""
        return own * self.factor + self.add if self.bare or own > 0 else own

    def then(self, factor: float, add: float, *, bare: bool) -> Decay:
        """Return what this decay becomes when another one is set on top of it."""
        return Decay(self.factor * factor, self.add * factor + add, self.bare or bare)


@dataclass(frozen=True)
class Plateau:
    """A standing ReduceLROnPlateau: its parameters, and what it has seen.

    It judges medians of blocks of losses, so that the noise of batches does not decide; what is not finite is no loss.
    """

    factor: float
    patience: int  # steps without a better level
    min_lr: float
    best: float = math.inf  # the lowest level seen
    waited: int = 0  # finite losses since then
    losses: tuple[float, ...] = ()  # of the block that fills
    step: int = -1  # the last one told of

    def told(self, loss: float, step: int) -> tuple[Plateau, bool]:
        """Return the controller after the step `step`, and whether the rate is to be lowered.

        A step that has been before tells of a rollback: another place is judged by its own levels.
        """
        was = self if step > self.step else replace(self, best=math.inf, waited=0, losses=())
        if not math.isfinite(loss):
            return replace(was, step=step), False
        losses, waited = (*was.losses, loss), was.waited + 1
        if len(losses) < min(BLOCK, max(1, self.patience // 4)):
            return replace(was, losses=losses, waited=waited, step=step), False
        level = statistics.median(losses)
        if was.best == math.inf or level < was.best - PROGRESS * abs(was.best):
            return replace(was, best=level, waited=0, losses=(), step=step), False
        due = waited >= self.patience
        return replace(was, waited=0 if due else waited, losses=(), step=step), due


@dataclass(frozen=True)
class Settings:
    """Everything that remedies have set on the tick clock, replaced as a whole: `replace(run.settings, ...)`."""

    lr_multiplier: float = 1.0
    lr_floor: float = 0.0  # share of a group's rate before its schedule began, below which the schedule takes it not
    ramp: Ramp | None = None
    on_plateau: Plateau | None = None
    decay: Decay | None = None
    clip: Clip | None = None

    def rate(self, tick: int) -> float:
        """Return what every learning rate is multiplied by at `tick`."""
        return self.lr_multiplier if self.ramp is None else self.lr_multiplier * self.ramp.factor(tick)


def lowered(multiplier: float, factor: float, min_lr: float, rates: Iterable[float]) -> float:
    """Return `multiplier` times `factor`, or as much of that as takes none of `rates` below `min_lr`.

    Rates that are below it already, which the user wants so, bind nobody. Where all are, `multiplier` is returned.
    """
    bounds = [_least(rate, min_lr) for rate in rates if rate * multiplier >= min_lr]
    return min(multiplier, max([multiplier * factor, *bounds])) if bounds else multiplier


def _least(rate: float, min_lr: float) -> float:
    """Return the least multiplier that keeps `rate` at `min_lr` or above, rounding included."""
    multiplier = min_lr / rate
    while rate * multiplier < min_lr:
        multiplier = math.nextafter(multiplier, math.inf)
    return multiplier
