"""Fewer points, same story: thinning of finished curves for a picture, and of a live stream for a mirror."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

FULL_UNTIL: Final = 256  # ticks at full resolution where the length of the run is unknown
NEAR: Final = 10  # ticks before and after a decision kept at full resolution
NEAR_BUDGET: Final = 400  # points in a run


def thin(ticks: npt.NDArray[Any], values: npt.NDArray[Any], points: int = 2000) -> tuple[npt.NDArray[Any], ...]:
    """Return at most about `points` of a curve, non-finite values left out.

    Each stretch keeps its lowest and its highest value at their true ticks, so that no spike is lost.
    """
    finite = np.isfinite(values)
    ticks, values = ticks[finite], values[finite]
    if len(ticks) <= points:
        return ticks, values
    edges = np.linspace(0, len(ticks), max(1, points // 2) + 1).astype(np.int64)
    kept = {0, len(ticks) - 1}
    for low, high in pairwise(edges):
        kept |= {int(low + values[low:high].argmin()), int(low + values[low:high].argmax())}
    order = np.array(sorted(kept))
    return ticks[order], values[order]


def stride(tick: int, expected: int | None) -> int:
    """Return how many ticks apart points are sent at `tick`.

    With `expected` ticks known the stride is constant, for 500 points (750 at the most, as a run ends at 1.5 times its
    steps): what a screen shows, and each point takes the interpreter from the training for 70 microseconds. Else it
    doubles as the run grows: every tick up to 256, then 128 points for each doubling of the ticks, 1,600 in 370,000.
    What was sent stays valid either way: only later points get rarer.
    """
    if expected:
        return max(1, -(-expected // 500))
    return 1 << max(0, (2 * tick // FULL_UNTIL).bit_length() - 1)


@dataclass
class Thinner(Generic[T]):
    """Chooses which ticks of a live run are sent: every stride-th, and all of them near a decision."""

    expected: int | None = None  # ticks the run is to have
    _held: deque[tuple[int, T]] = field(default_factory=lambda: deque(maxlen=NEAR))
    _near_until: int = -1
    _near_left: int = NEAR_BUDGET

    def offer(self, tick: int, item: T) -> bool:
        """Return whether the item of this tick is to be sent now; if not, it is held for a while."""
        if tick % stride(tick, self.expected) == 0:
            return True
        if tick <= self._near_until and self._near_left > 0:
            self._near_left -= 1
            return True
        self._held.append((tick, item))
        return False

    def release(self, tick: int) -> list[T]:
        """Return the held items just before a decision at `tick`; those after it will be sent as they come."""
        near = [item for held, item in self._held if held > tick - NEAR][: self._near_left]
        self._near_left -= len(near)
        self._near_until = tick + NEAR
        self._held.clear()
        return near
