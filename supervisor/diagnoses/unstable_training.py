"""A loss that diverges, or loses what was learned, or gets nowhere because the steps are too large.

Minibatch noise makes no trend, a change of data or of the task makes a jump and then a fall, and random labels make a
loss that stands: none of these is an illness of the optimization. So a course of the loss alone is never enough. It has
to stand, not fall, outside its own noise, where it should not be; and the steps have to be the reason: updates that
rewrite a notable share of the weights at once. A healthy step moves them by about a thousandth, at a network's very
start by a few hundredths; moves of a tenth go beyond any linear picture of the loss (Bernstein et al., 2020).

Four courses count: lost ground, above the start, thrown off by the first steps, and restless, where large steps lead
nowhere. Explosions within a few ticks are `exploding_gradients`'. Levels are medians, measured by the progress
made and by their own noise, so the scale of the loss and single outliers drop out; so does a constant that is added to
it, unless it dwarfs what was ever learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Final

from pydantic import Field

from supervisor.diagnoses import causes, upset
from supervisor.diagnoses.past import CAPACITY, LEVEL, MAD_TO_SIGMA, Past
from supervisor.diagnoses.strides import BEGINNING, in_motion, largest, opening, since_best, stride
from supervisor.records import Cause, Finding, Snapshot
from supervisor.registry import DETECTORS

LONG: Final = 100  # ticks of standing that make up for steps that are only just large
LARGE: Final = 2.0  # times `update_ratio`: steps that leave no doubt
REWRITTEN: Final = 5.0  # times `update_ratio`: first steps that leave nothing of the initialization
LOOK: Final = 4  # ticks between two looks at a young training that seems well
MEDIAN_ERROR: Final = 1.2533  # standard error of a median, in standard deviations over root n
Found = tuple[float, dict[str, Any]]  # severity, evidence


@dataclass(frozen=True, slots=True)
class _Course:
    """Where the loss stands after the last ticks, and what that is measured against."""

    level: float
    lower: float  # the lower of the medians of both halves
    noise: float  # robust standard deviation within the halves
    start: float  # before the first step
    peak: float  # the highest of the beginning, as far as it is still known
    best: float


@DETECTORS.register("unstable_training")
@dataclass(frozen=True)
class UnstableTraining:
    """The loss diverges, collapses or gets nowhere, under steps that are too large."""

    window: Annotated[int, Field(ge=20, le=100, description="ticks in which the loss does not fall")] = 30
    share: Annotated[float, Field(ge=0.2, le=1, description="share of the progress that was given back")] = 0.5
    update_ratio: Annotated[
        float, Field(ge=0.003, le=0.3, description="update norm over weight norm that is large for one step")
    ] = 0.03

    def inspect(self, now: Snapshot, past: Past) -> Finding | None:
        """Return a finding if the loss stands where it should not, and large steps are the reason."""
        if not now.finite or len(past.losses) < self.window or not self._suspicious(now, past):
            return None
        course = self._course(now, past)
        if course is None:
            return None
        found = self._off_course(now, past, course) or self._thrown_off(now, past, course)
        found = found or self._restless(now, past, course)
        if found is None:
            return None
        severity, evidence = found
        evidence |= {
            "loss": course.level, "noise": course.noise, "start": course.start, "best": course.best,
            "window": self.window, "lr": now.lr,
        }  # fmt: skip
        named = causes.first(causes.ranked(self._suspects(now, past)))
        return Finding("unstable_training", now.tick, now.step, (), severity, evidence=evidence, **named)

    def _suspicious(self, now: Snapshot, past: Past) -> bool:
        """Return whether a closer look is worth its cost: a training that makes progress is let go at once."""
        if len(past.losses) < CAPACITY or (now.sample is not None and stride(now) > self.update_ratio):
            return now.tick % LOOK == 0 or now.sample is not None or now.loss > past.initial_loss
        gap = past.level(LEVEL) - past.best_level
        gain = min(_start(past), past.first_loss, past.initial_loss) - past.best_level
        return not gap < max(0.5 * self.share * gain, past.loss.scale)

    def _course(self, now: Snapshot, past: Past) -> _Course | None:
        """Return the course of the loss; None while it falls by more than twice its standard error."""
        recent = _last(past, now, self.window)
        earlier, later = recent[: self.window // 2], recent[self.window // 2 :]
        a, b = _median(earlier), _median(later)
        noise = MAD_TO_SIGMA * _median([*(abs(x - a) for x in earlier), *(abs(x - b) for x in later)])
        if not a - b <= 2.0 * MEDIAN_ERROR * noise * math.sqrt(4.0 / self.window):
            return None
        early = islice(past.losses, BEGINNING) if len(past.losses) < CAPACITY else (past.first_loss, past.initial_loss)
        return _Course(_median(recent), min(a, b), noise, _start(past), max(early), past.best_level)

    def _thrown(self, past: Past, course: _Course) -> bool:
        """Return whether the first steps rewrote the weights, and the loss shot up."""
        return course.peak > course.start + 3.0 * course.noise and opening(past) > REWRITTEN * self.update_ratio

    def _top(self, past: Past, course: _Course) -> float:
        """Return where progress is counted from."""
        highest = max(past.first_loss, past.initial_loss)
        return course.start + course.noise if self._thrown(past, course) else highest

    def _off_course(self, now: Snapshot, past: Past, course: _Course) -> Found | None:
        """Judge divergence and collapse: above the start, or most of the progress given back, and it stands there."""
        before = max(course.noise, past.loss.scale) if past.loss.values else course.noise  # once dead, it is quiet
        error = MEDIAN_ERROR * math.sqrt(2.0 / self.window * course.noise**2 + before**2 / 16.0)
        least = 0.02 * abs(past.initial_loss)  # the noise of the very first ticks is not known
        limit = past.initial_loss + max(4.0 * error, least)
        gain, given = self._top(past, course) - course.best, course.level - course.best
        share = 0.9 if in_motion(past, self.window) else self.share  # a moving rate may yet bring it back
        above, lost = course.lower > limit, gain > 0.0 and given >= share * gain and given > max(1.5 * before, least)
        if not (above or lost):
            return None
        ratio = largest(since_best(past, now))
        stood = self.window if ratio > LARGE * self.update_ratio else max(LONG, self.window)
        if not ratio > self.update_ratio or len(past.losses) < stood:
            return None
        low = sorted(_last(past, now, stood))[stood // 5]
        facts: dict[str, Any] = {"update_ratio": ratio, "stood": stood}
        if above and low > past.initial_loss - course.noise:
            return 0.9, {"value": course.level, "limit": limit, "figure": "loss above where it began", **facts}
        if lost and low >= course.best + 0.25 * gain and now.tick - past.best_tick > stood:
            facts |= {"value": given / gain, "limit": share, "figure": "share of the progress given back"}
            return min(1.0, 0.3 + 0.5 * given / gain), facts
        return None

    def _thrown_off(self, now: Snapshot, past: Past, course: _Course) -> Found | None:
        """Judge the first steps: they threw the loss up, and it has not come below its start since."""
        if len(past.losses) >= CAPACITY or not self._thrown(past, course):
            return None
        tolerance = max(1.5 * course.noise, 0.02 * min(course.peak - course.start, abs(course.start)))
        if now.lr <= 0.5 * past.peak_lr:  # answered already: what counts is where the loss is now
            tolerance = -1.5 * course.noise
        if not course.level > course.start - tolerance:
            return None
        figure, limit = "update norm / weight norm of the first steps", REWRITTEN * self.update_ratio
        return 0.8, {"value": opening(past), "limit": limit, "figure": figure, "peak": course.peak}

    def _restless(self, now: Snapshot, past: Past, course: _Course) -> Found | None:
        """Judge steps that are large all the time and have led nowhere since the start."""
        if now.sample is None or not stride(now) > self.update_ratio or len(past.losses) < LONG:
            return None
        ratio = _median(sorted(stride(shot) for shot in (*list(past.samples)[-5:], now)))
        nowhere = course.best > max(past.initial_loss, self._top(past, course)) - 1.5 * course.noise
        if not (ratio > self.update_ratio and nowhere and past.stands(LONG)):
            return None
        return 0.5, {"value": ratio, "limit": self.update_ratio, "figure": "update norm / weight norm of every step"}

    def _suspects(self, now: Snapshot, past: Past) -> list[Cause]:
        """Return what may be behind it, with the figures that speak for it."""
        since, first = largest(since_best(past, now)), opening(past)
        rates = sorted(past.lrs)
        rise = rates[-1] / rates[len(rates) // 2] if rates and rates[len(rates) // 2] > 0.0 else 1.0
        # no finding without large steps: only a rate that rose says more, or weights that no step can have made
        weight = 0.97 if rise >= 3.0 else 0.9 + 0.04 * min(1.0, max(since, first) / (REWRITTEN * self.update_ratio))
        steps = {"update_ratio": since, "first_update_ratio": first, "lr": now.lr, "lr_rise": rise}
        others = [cause for cause in upset.suspects(now, past, ()) if cause.name != causes.LARGE_LR]
        large = max(weight, upset.large_rate(now, past).weight)
        return [causes.suspect(causes.LARGE_LR, large, **steps), *others]


def _last(past: Past, now: Snapshot, count: int) -> list[float]:
    return [*islice(past.losses, max(0, len(past.losses) - count + 1), None), now.loss]


def _median(values: Sequence[float]) -> float:
    """Return the median; in plain Python it costs a tenth of numpy's for so few."""
    ordered, half = sorted(values), len(values) // 2
    return 0.5 * (ordered[half] + ordered[~half])


def _start(past: Past) -> float:
    """Return the loss before the first step, while its tick is still held; else that of the first ticks."""
    first = past.samples[0] if past.samples else None
    return first.loss if first is not None and first.tick == 1 and first.finite else past.first_loss
