"""What holds a training back: each mechanism is one function of what was seen, and returns a Hold, or None.

None of them knows a scale, and none is satisfied with a loss that stands: each shows why nothing can come of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from supervisor.diagnoses import causes
from supervisor.diagnoses.movement import Array, Movement, course, learned, movement, path, shots, weighty
from supervisor.diagnoses.past import LEVEL, MAD_TO_SIGMA, Past
from supervisor.records import Cause, Snapshot

CERTAIN: Final = 20  # ticks that exact figures (no update, no gradient, no difference) have to last
TRAINED: Final = 16.0  # sensitivity from which on a network may have learned already, and be fine-tuned
NOISE: Final = 0.1  # reach below which 30 ticks cannot show any fall: what seems one is noise
FAINT: Final = 0.1  # sensitivity below which it is the gradient that is missing, not the learning rate


@dataclass(frozen=True)
class View:
    """What all mechanisms look at."""

    now: Snapshot
    past: Past
    seen: list[Snapshot]  # sampled ticks, `now` the last
    learned: float  # share of the first losses that is gone
    noise: float  # two standard errors of it

    @classmethod
    def of(cls, now: Snapshot, past: Past) -> View:
        """Gather it."""
        return cls(now, past, shots(now, past), *learned(past))

    @cached_property
    def moved(self) -> Movement:
        """How far the recent steps carried the weights."""
        return movement(self.seen)

    def nothing_learned(self, share: float = 0.05) -> bool:
        """Return whether the loss is where it began, but for a `share` of it and its noise."""
        return self.learned <= share + self.noise

    def lasted(self, ticks: int) -> bool:
        """Return whether the sampled ticks go back that far, and are enough to judge by."""
        return len(self.seen) >= 5 and self.now.tick - self.seen[0].tick >= ticks

    def names(self, rows: list[int]) -> tuple[str, ...]:
        """Return the names of these layers."""
        return tuple(self.now.anatomy.layers[i].name for i in rows)


@dataclass(frozen=True)
class Hold:
    """A mechanism that holds the training back."""

    causes: tuple[Cause, ...]
    evidence: dict[str, Any]
    where: tuple[str, ...] = ()


def _held(figure: str, value: float, limit: float, *suspects: Cause, where: tuple[str, ...] = ()) -> Hold:
    return Hold(suspects, {"figure": figure, "value": value, "limit": limit, **suspects[0].evidence}, where)


def small_steps(view: View, stride: float, reach: float, window: int) -> Hold | None:
    """See steps that change neither the weights nor the loss, in a network that learned nothing yet.

    A trained network is sensitive: there even small steps reach far. Where the rate was larger once, `run_out` judges.
    """
    if not view.nothing_learned() or not view.now.grad_norm > 0.0:
        return None
    moved, now, past = view.moved, view.now, view.past
    window = CERTAIN if moved.stride == 0.0 else window
    reached = moved.reach * max(1.0, moved.sensitivity / TRAINED) ** 2
    if not (moved.stride < stride and reached < reach and view.lasted(window)):
        return None
    if not (reached < NOISE or past.stands(window)):
        return None
    if now.lr < 0.1 * past.peak_lr or now.lr > 1.05 * min(list(past.lrs)[-window:], default=0.0):
        return None  # decayed, or in warm-up
    figures = {"stride": moved.stride, "reach": moved.reach, "sensitivity": moved.sensitivity}
    suspects = [causes.suspect(causes.SMALL_LR, 0.9, **figures)]
    if not moved.sensitivity >= FAINT:
        if view.seen[0].tick > 1 or not all(movement([shot]).stride < stride for shot in view.seen[1:]):
            return None  # it may have walked to a stationary point
        suspects = [causes.suspect(causes.NO_GRADIENT, 0.8, **figures), causes.suspect(causes.SMALL_LR, 0.5, **figures)]
    return _held("update norm / weight norm", moved.stride, stride, *suspects)


def run_out(view: View, decay: float, share: float, stride: float) -> Hold | None:
    """See a learning rate that went to zero while the loss was still falling, or before it could begin to.

    A schedule that ends with the run is low for a few per cent of it, and what it ends had levelled off before.
    """
    now, past = view.now, view.past
    floor = decay * past.peak_lr
    if not (now.lr <= floor and past.peak_lr > 0.0 and view.moved.stride < stride):
        return None
    ticks, rates, losses = course(now, past)
    high = np.flatnonzero(rates > floor)
    if not high.size:
        return None  # too long ago to tell what it ended
    low = now.tick - float(ticks[high[-1]])
    if low < max(CERTAIN, share * now.tick):
        return None
    worked = float(rates[:-1] @ np.diff(ticks)) / past.peak_lr if ticks[0] <= 1 else math.inf
    if not (worked < CERTAIN or _in_full_swing(losses[rates >= 0.1 * past.peak_lr])):
        return None
    cause = causes.suspect(causes.DECAYED_LR, 0.9, low_for=low, peak_lr=past.peak_lr, worked=worked)
    return _held("learning rate / its peak", now.lr / past.peak_lr, decay, cause)


def _in_full_swing(losses: Array) -> bool:
    """Return whether the loss still fell in the last third of `losses`, and not much less than it had before."""
    third = len(losses) // 3
    if third < 3:
        return False
    first, middle, last = (float(np.median(part)) for part in (losses[:third], losses[third:-third], losses[-third:]))
    noise = MAD_TO_SIGMA * float(np.median(np.abs(np.diff(losses)))) / math.sqrt(2.0)
    error = 1.2533 * noise * math.sqrt(2.0 / third)  # of a difference of medians
    return middle - last > max(3.0 * error, 0.3 * (first - last))


def alike(view: View) -> Hold | None:
    """See hidden units that began alike and stay alike however far they go: they are worth one.

    Zero-initialized heads, gates and adapters differ after their first step.
    """
    now, rows = view.now, weighty(view.now)
    if now.sample is None or not view.lasted(CERTAIN) or not view.learned < 0.5:
        return None
    spread = now.sample.spread
    if not (spread[rows] < 1e-3).any():
        return None
    gone = path(view.seen)
    same = [i for i in rows if gone[i] > 1e-5 and spread[i] < min(1e-3, 0.02 * gone[i])]
    active = {site.producer for site in now.anatomy.sites if site.hidden}
    inner = [i for i in same if i != rows[-1]]
    if not any(now.anatomy.layers[i].name in active for i in same) and not 2 * len(inner) > len(rows) - 1:
        return None
    figures = {"layers": len(same), "of": len(rows), "path": float(gone[same].min())}
    suspects = [causes.suspect(c, w, **figures) for c, w in ((causes.SYMMETRY, 0.95), (causes.INITIALIZATION, 0.7))]
    return _held("difference between units", float(spread[same].max()), 1e-3, *suspects, where=view.names(same))


def no_gradient(view: View) -> Hold | None:
    """See layers that take part in the forward pass and never got any gradient, and do not move by other means."""
    now, rows = view.now, weighty(view.now)
    if now.sample is None or not view.lasted(CERTAIN) or not view.nothing_learned() or not view.past.stands(CERTAIN):
        return None
    gradients = np.array([shot.grad_norms for shot in view.seen])
    weights = np.array([shot.sample.weight_norms for shot in view.seen if shot.sample is not None])
    still = (gradients == 0.0).all(0) & (np.ptp(weights, axis=0) <= 1e-3 * weights[0])
    used = [i for i in rows if np.isfinite(now.sample.signal[i])] or rows
    cut = [i for i in used if still[i]]
    if not 2 * len(cut) >= len(used) or view.past.level(LEVEL) == 0.0:
        return None
    zero = sum(now.sample.weight_norms[i] == 0.0 for i in cut) / len(cut)
    figures = {"layers": len(cut), "of": len(used), "all_zero": float(zero)}
    suspects = [causes.suspect(causes.NO_GRADIENT, 0.85, **figures)]
    if zero > 0.0:
        names = ((causes.SYMMETRY, 0.95), (causes.INITIALIZATION, 0.9))
        suspects = [*(causes.suspect(name, weight, **figures) for name, weight in names), *suspects]
    return _held("layers without any gradient", len(cut) / len(used), 0.5, *suspects, where=view.names(cut))


def fading(view: View, below: float, window: int) -> Hold | None:
    """See weights that shrink and shrink, and take with them what the layers could say.

    The best constant output may be a gain on where the loss began: then the output has to fade as well.
    """
    if not view.lasted(CERTAIN) or not view.past.stands(window):
        return None
    rows = weighty(view.now)
    if len(rows) < 2:
        return None  # a single layer shrinks by its gradient alone, where there is little to learn
    samples = [shot.sample for shot in view.seen if shot.sample is not None]
    shrunk = samples[-1].weight_norms[rows] < 0.5 * (1.0 + below) * samples[0].weight_norms[rows]
    if np.count_nonzero(shrunk) <= 3 * (len(rows) - 1) // 4:
        return None  # then the quantile is not below either; most trainings are told by this, at a tenth of its price
    norms = np.array([sample.weight_norms[rows] for sample in samples], np.float64)
    left, lately = (float(np.quantile(norms[-1] / norms[k], 0.75)) for k in (0, len(norms) // 2))
    said = float(samples[-1].signal[rows[-1]] / samples[0].signal[rows[-1]])
    silenced = said < below and view.learned < 0.5 and view.past.stands(2 * window)
    gone = left < 0.2 * below  # little is left to learn with
    if not (gone or (left < below and lately < 0.9 and (silenced or view.nothing_learned(0.1)))):
        return None
    figures = {"weights_left": left, "output_left": said, "over_ticks": view.now.tick - view.seen[0].tick}
    cause = causes.suspect(causes.WEIGHT_DECAY, 0.85, **figures)
    return _held("weight norm / first weight norm", left, below, cause, where=view.names(rows))


def mismatch(view: View, window: int) -> Hold | None:
    """See an output that was squashed before a loss that squashes it again: its floor is far above zero."""
    said = view.now.anatomy.mismatch
    if not said or not view.learned < 0.7 or not view.past.stands(window):
        return None
    return _held("share of the first losses gone", view.learned, 0.7, causes.suspect(causes.MISMATCH, 0.93, what=said))
