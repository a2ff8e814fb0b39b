"""What detectors may look back on: bounded, robust, and immune to what it is there to detect.

No statistic here ever takes in a value that was not both finite and accepted as usual. Centre and scale are
median and MAD, in the log domain for gradient norms, so that one outlier cannot blind the judge of the next. The
MAD is that of the values or of their steps, whichever is less: a loss that falls by decades is not noisy for it.
A level that stays is not an outlier: after `SHIFT` rejected values in a row the series starts afresh from them
(warm-up, restarts and curriculum switches move every baseline).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from supervisor.records import Snapshot

CAPACITY: Final = 200  # accepted values per series
SHIFT: Final = 50  # rejected values in a row that make a new level
REFRESH: Final = 8  # accepted values between two computations of median and MAD
LONGEST_ILL: Final = 200  # ill ticks in a row after which their level is a level like any other
LEVEL: Final = 20  # ticks whose median is the level of the loss
MAD_TO_SIGMA: Final = 1.4826  # for a normal distribution


def _median(values: npt.NDArray[np.float64]) -> float:
    """Return the median of an array that is not empty, at a tenth of np.median's price. Reorders `values`."""
    half = len(values) // 2
    if len(values) % 2:
        values.partition(half)
        return float(values[half])
    values.partition((half - 1, half))
    return 0.5 * float(values[half - 1]) + 0.5 * float(values[half])  # a sum first may overflow


def _median_of(values: Iterable[float]) -> float:
    """Return the median of a few numbers; NaN if there are none."""
    ordered = sorted(values)
    half, odd = divmod(len(ordered), 2)
    if not ordered:
        return math.nan
    return ordered[half] if odd else 0.5 * ordered[half - 1] + 0.5 * ordered[half]


class RobustSeries:
    """Accepted values of one figure, with their median and a robust standard deviation."""

    def __init__(self, z: float = 6.0, floor: float = 0.0) -> None:
        """Accept values up to `z` robust standard deviations, but at least `floor`, above the median."""
        self.z, self.floor = z, floor
        self.values: deque[float] = deque(maxlen=CAPACITY)
        self.centre = math.nan  # the median; NaN before the first value
        self.scale = math.nan  # the robust standard deviation, 1.4826 * MAD, drift left out
        self._rejected: deque[float] = deque(maxlen=SHIFT)
        self._fresh = 0  # values accepted since centre and scale were computed

    def __len__(self) -> int:
        """Return the number of accepted values held."""
        return len(self.values)

    @property
    def outliers(self) -> int:
        """The values rejected in a row, up to the last one."""
        return len(self._rejected)

    def _refresh(self) -> None:
        values = np.fromiter(self.values, np.float64, len(self.values))
        moves = np.abs(values[1:] - values[:-1])
        self.centre = _median(values)
        around = _median(np.abs(values - self.centre))
        steps = _median(moves) / math.sqrt(2.0) if len(values) > REFRESH else around
        self.scale = MAD_TO_SIGMA * min(around, steps)
        self._fresh = 0

    def upper(self, z: float, floor: float) -> float:
        """Return the limit `z` standard deviations, at least `floor`, above the median."""
        return self.centre + max(z * self.scale, floor)

    def add(self, value: float) -> bool:
        """Take in `value` if it is finite and usual; return whether it was."""
        if not math.isfinite(value):
            return False
        if len(self.values) < REFRESH or value <= self.upper(self.z, self.floor):
            self._accept(value)
            return True
        self._rejected.append(value)
        if len(self._rejected) == SHIFT:
            self.values.clear()
            self.values.extend(self._rejected)
            self._rejected.clear()
            self._refresh()
        return False

    def _accept(self, value: float) -> None:
        self._rejected.clear()
        self.values.append(value)
        self._fresh += 1
        if self._fresh >= REFRESH or len(self.values) <= 2 * REFRESH:
            self._refresh()


class Past:
    """The bounded past of a training on the tick clock. It does not roll back with the model."""

    def __init__(self) -> None:
        self.log_grad_norm = RobustSeries(floor=1.0)  # log10
        self.loss = RobustSeries()
        self.losses: deque[float] = deque(maxlen=CAPACITY)  # finite ones, outliers included
        self.samples: deque[Snapshot] = deque(maxlen=64)  # the sampled ticks
        self.lrs: deque[float] = deque(maxlen=CAPACITY)
        self.peak_lr = 0.0
        self.best_level = math.inf  # the lowest median of LEVEL losses in a row, looked at every REFRESH ticks
        self.best_tick = 0  # when it was
        self.initial_loss = math.nan  # the median of the first finite losses; NaN before there were any
        self.first_loss = math.nan  # of the first three: where a training began that learns within a few steps
        self._first: list[float] = []
        self._levels: dict[int, float] = {}  # what `level` and `stands` have answered since the last tick: detectors
        self._standing: dict[tuple[int, float], bool] = {}  # ask the same again and again
        self.non_finite = 0  # ticks in a row, up to the last, with a loss or gradients that were not finite
        self._ill = 0  # ill ticks in a row
        self._renewals = 0

    def enter(self, now: Snapshot) -> None:
        """Forget what tells of weights that are no more: samples of another era, usual norms before a renewal."""
        if self.samples and self.samples[-1].era != now.era:
            self.samples.clear()
        if now.renewals != self._renewals:
            self._renewals = now.renewals
            self.log_grad_norm = RobustSeries(floor=1.0)

    def append(self, now: Snapshot, *, ill: bool = False) -> None:
        """Take in one tick. The usual levels take nothing from ticks that are `ill`, for LONGEST_ILL ticks at most."""
        self._ill = self._ill + 1 if ill else 0
        self.non_finite = 0 if now.finite else self.non_finite + 1
        self._levels.clear()
        self._standing.clear()
        if now.finite:
            if not 0 < self._ill <= LONGEST_ILL:
                self._learn(now)
            self.losses.append(now.loss)
            if len(self._first) < 2 * REFRESH:
                self._first.append(now.loss)
                self.initial_loss, self.first_loss = _median_of(self._first), _median_of(self._first[:3])
            self._note_best(now)
        if math.isfinite(now.lr):
            self.lrs.append(now.lr)
            self.peak_lr = max(self.peak_lr, now.lr)
        if now.sample is not None:
            self.samples.append(now)

    def _learn(self, now: Snapshot) -> None:
        self.loss.floor = 0.5 * abs(self.loss.centre) if self.loss.values else 0.0
        self.loss.add(now.loss)
        if now.grad_norm > 0.0:
            self.log_grad_norm.add(math.log10(now.grad_norm))

    def _note_best(self, now: Snapshot) -> None:
        if now.tick % REFRESH == 0 and len(self.losses) >= LEVEL and (level := self.level(LEVEL)) < self.best_level:
            self.best_level, self.best_tick = level, now.tick

    def level(self, count: int) -> float:
        """Return the median of the last `count` finite losses, outliers included; NaN before there were any."""
        if count not in self._levels:
            self._levels[count] = _median_of(islice(reversed(self.losses), count))
        return self._levels[count]

    def healthy_level(self, count: int) -> tuple[float, float]:
        """Return median and robust standard deviation of the last `count` usual losses: the level to come back to."""
        recent = list(islice(reversed(self.loss.values), count))
        median = _median_of(recent)
        return median, MAD_TO_SIGMA * _median_of(abs(loss - median) for loss in recent)

    def stands(self, window: int, share: float = 0.01) -> bool:
        """Return whether the loss made no progress over the last `window` ticks.

        Progress is a fall of the median from the window's first half to its second by more than `share` of
        its level and by more than two standard errors of the difference.
        """
        if (window, share) not in self._standing:
            self._standing[window, share] = self._stands(window, share)
        return self._standing[window, share]

    def _stands(self, window: int, share: float) -> bool:
        if len(self.losses) < window:
            return False
        recent = np.fromiter(islice(self.losses, len(self.losses) - window, None), np.float64, window)
        earlier, later = _median(recent[: window // 2]), _median(recent[window // 2 :])
        noise = MAD_TO_SIGMA * _median(np.abs(recent[window // 2 :] - later))
        error = 1.2533 * noise * math.sqrt(4.0 / window)  # of a difference of medians of two halves
        return not earlier - later > max(share * abs(earlier), 2.0 * error)
