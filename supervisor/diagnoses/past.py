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
from itertools import islice
from typing import Final

import numpy as np

from supervisor.records import Snapshot

CAPACITY: Final = 200  # accepted values per series
SHIFT: Final = 50  # rejected values in a row that make a new level
REFRESH: Final = 8  # accepted values between two computations of median and MAD
LONGEST_ILL: Final = 200  # ill ticks in a row after which their level is a level like any other
LEVEL: Final = 20  # ticks whose median is the level of the loss
MAD_TO_SIGMA: Final = 1.4826  # for a normal distribution


class RobustSeries:
    """Accepted values of one figure, with their median and a robust standard deviation."""

    def __init__(self, z: float = 6.0, floor: float = 0.0) -> None:
        """Accept values up to `z` robust standard deviations, but at least `floor`, above the median."""
        self.z, self.floor = z, floor
        self.values: deque[float] = deque(maxlen=CAPACITY)
        self._rejected: deque[float] = deque(maxlen=SHIFT)
        self._fresh = 0  # values accepted since centre and scale were computed
        self._centre, self._scale = math.nan, math.nan

    def __len__(self) -> int:
        """Return the number of accepted values held."""
        return len(self.values)

    def _refresh(self) -> None:
        if self._fresh and (self._fresh >= REFRESH or len(self.values) <= 2 * REFRESH or math.isnan(self._centre)):
            values = np.fromiter(self.values, dtype=np.float64)
            self._centre = float(np.median(values))
            around = float(np.median(np.abs(values - self._centre)))
            steps = float(np.median(np.abs(np.diff(values)))) / math.sqrt(2.0) if len(values) > REFRESH else around
            self._scale = MAD_TO_SIGMA * min(around, steps)
            self._fresh = 0

    @property
    def centre(self) -> float:
        """The median; NaN before the first value."""
        self._refresh()
        return self._centre

    @property
    def scale(self) -> float:
        """The robust standard deviation, 1.4826 * MAD, drift left out; NaN before the first value."""
        self._refresh()
        return self._scale

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
            self._centre, self._fresh = math.nan, 1
        return False

    def _accept(self, value: float) -> None:
        self._rejected.clear()
        self.values.append(value)
        self._fresh += 1


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
        self._first: list[float] = []
        self._ill = 0  # ill ticks in a row

    def append(self, now: Snapshot, *, ill: bool = False) -> None:
        """Take in one tick. The usual levels take nothing from ticks that are `ill`, for LONGEST_ILL ticks at most."""
        self._ill = self._ill + 1 if ill else 0
        if now.finite:
            if not 0 < self._ill <= LONGEST_ILL:
                self._learn(now)
            self.losses.append(now.loss)
            if len(self._first) < 2 * REFRESH:
                self._first.append(now.loss)
            self._note_best(now)
        if math.isfinite(now.lr):
            self.lrs.append(now.lr)
            self.peak_lr = max(self.peak_lr, now.lr)
        if now.sample is not None:
            self.samples.append(now)

    def _learn(self, now: Snapshot) -> None:
        self.loss.floor = 0.5 * abs(self.loss.centre) if len(self.loss) else 0.0
        self.loss.add(now.loss)
        if now.grad_norm > 0.0:
            self.log_grad_norm.add(math.log10(now.grad_norm))

    def _note_best(self, now: Snapshot) -> None:
        if now.tick % REFRESH == 0 and len(self.losses) >= LEVEL and (level := self.level(LEVEL)) < self.best_level:
            self.best_level, self.best_tick = level, now.tick

    def level(self, count: int) -> float:
        """Return the median of the last `count` finite losses, outliers included; NaN before there were any."""
        recent = list(islice(reversed(self.losses), count))
        return float(np.median(recent)) if recent else math.nan

    def healthy_level(self, count: int) -> tuple[float, float]:
        """Return median and robust standard deviation of the last `count` usual losses: the level to come back to."""
        recent = np.array(list(islice(reversed(self.loss.values), count)))
        if not recent.size:
            return math.nan, math.nan
        median = float(np.median(recent))
        return median, MAD_TO_SIGMA * float(np.median(np.abs(recent - median)))

    @property
    def initial_loss(self) -> float:
        """The median of the first finite losses; NaN before there were any."""
        return float(np.median(self._first)) if self._first else math.nan

    @property
    def first_loss(self) -> float:
        """The median of the first three finite losses: where a training began that learns within a few steps."""
        return float(np.median(self._first[:3])) if self._first else math.nan

    def stands(self, window: int, share: float = 0.01) -> bool:
        """Return whether the loss made no progress over the last `window` ticks.

        Progress is a fall of the median from the window's first half to its second by more than `share` of
        its level and by more than two standard errors of the difference.
        """
        if len(self.losses) < window:
            return False
        recent = np.fromiter(islice(self.losses, len(self.losses) - window, None), dtype=np.float64)
        earlier, later = recent[: window // 2], recent[window // 2 :]
        fall = float(np.median(earlier) - np.median(later))
        noise = MAD_TO_SIGMA * float(np.median(np.abs(later - np.median(later))))
        error = 1.2533 * noise * math.sqrt(4.0 / window)  # of a difference of medians of two halves
        return not fall > max(share * abs(float(np.median(earlier))), 2.0 * error)
