"""Which branch of a trial wins against doing nothing, if any. Pure: figures in, a verdict out.

All branches saw the same batches and random numbers, so their losses are compared batch by batch: what is noise
between batches drops out of the differences. A branch wins if
- its loss on the last batches is lower than that of doing nothing, by more than the noise of the difference; or
- it falls so much faster that within one probation it will have overtaken doing nothing; or
- the pathology's own figure is clearly better and the loss hardly worse: the loss may not be able to move yet.
Among winners those that heal the figure go first, then the lowest loss is taken. Where the noise leaves several, the
figure decides, then steps that are not so long that it cannot last; and of those that hardly differ, the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from supervisor.verification.figures import healed

SIGMAS: Final = 2.0
CERTAIN: Final = 3.0  # sigmas: what is predicted must be surer than what was seen
LEAST: Final = 0.01  # of the loss: a smaller lead is none, however certain
ALIKE: Final = 0.03  # of the loss: winners that differ by less are alike
MOST: Final = 0.25  # of the best lead: winners that lack less of it, and that the noise does not tell apart, are near
FAST: Final = 0.03  # of a layer's weights at one step: a usual one is a thirtieth of that, a longer one cannot last
AHEAD: Final = 2  # lengths of a branch: nobody can tell what comes later
TOLERABLE: Final = 0.1  # of the loss: what a remedy that heals the figure may cost for the moment
FEWEST: Final = 4  # batches that a level is taken over

AT_ONCE: Final = frozenset({"plateau"})  # where the figure is only how fast it goes: it has to go somewhere, too

Floats = npt.NDArray[np.float64]
Result = Literal["won", "lost", "undecided", "refused"]


@dataclass(frozen=True)
class Branch:
    """What one arm came to."""

    name: str  # "doing nothing", or the names of its remedies
    rung: int  # -1: doing nothing
    losses: tuple[float, ...] = ()  # one a batch, before the step taken on it
    score: float = math.nan  # what `evaluate` said at the end; NaN where it was not asked
    figure: float = math.nan  # the pathology's own, higher is healthier
    pace: float = math.nan  # the usual update of a layer at the end, relative to its weights
    refused: str = ""  # why it could not be tried

    @property
    def level(self) -> float:
        """The score where there is one, else the median loss of the last batches. Inf where it ended non-finite."""
        tail = self.losses[-_tail(len(self.losses)) :]
        if not tail or not all(map(math.isfinite, tail)):
            return math.inf
        return self.score if self.score == self.score else float(np.median(tail))


@dataclass(frozen=True)
class Weighed:
    """How one arm did against doing nothing."""

    branch: Branch
    result: Result
    reason: str


def weigh(pathology: str, control: Branch, arms: Sequence[Branch], probation: int) -> list[Weighed]:
    """Return how each arm did against `control`; `probation` in steps."""
    return [_against(pathology, control, arm, probation) for arm in arms]


def winner(pathology: str, control: Branch, weighed: Sequence[Weighed]) -> Weighed | None:
    """Return the arm to commit, or None."""
    won = [w for w in weighed if w.result == "won"]
    won = [w for w in won if healed(pathology, control.figure, w.branch.figure)] or won
    if not won:
        return None
    near = _near(control, won)
    figures = [w.branch.figure for w in near if w.branch.figure == w.branch.figure]
    near = [w for w in near if not (figures and healed(pathology, w.branch.figure, max(figures)))]
    near = [w for w in near if not w.branch.pace > FAST] or near
    lowest = _lowest(near)
    return next(w for w in near if w is lowest or _behind(w, lowest) <= ALIKE)


def _near(control: Branch, won: Sequence[Weighed]) -> list[Weighed]:
    """Return the winners that the noise does not tell from the lowest, and that have most of its lead as well."""
    lowest = _lowest(won)
    most = max(TOLERABLE, min(1.0, MOST * _lead(control, lowest.branch).share))
    return [w for w in won if w is lowest or _behind(w, lowest) <= most]


def _lowest(weighed: Sequence[Weighed]) -> Weighed:
    return min(weighed, key=lambda w: w.branch.level)


def _behind(one: Weighed, best: Weighed) -> float:
    """Return by what share the loss of `one` is higher than that of `best`; Inf where that is beyond the noise."""
    lead = _lead(one.branch, best.branch)
    return lead.share if lead.share <= lead.noise else math.inf


def _tail(count: int) -> int:
    return max(FEWEST, 2 * count // 5)


@dataclass(frozen=True)
class _Lead:
    share: float  # by which share of the loss one branch is lower than another: a difference of logarithms if it can be
    noise: float  # of that figure


def _lead(control: Branch, arm: Branch) -> _Lead:
    """Return the lead of `arm` over `control` on the last batches, or by the user's score."""
    if control.score == control.score and arm.score == arm.score:
        scale = max(abs(control.score), abs(arm.score)) or 1.0
        return _Lead((control.score - arm.score) / scale, LEAST)
    if not (math.isfinite(control.level) and math.isfinite(arm.level)):
        return _Lead(math.inf if math.isfinite(arm.level) else -math.inf, 0.0)
    count = min(len(control.losses), len(arm.losses))
    tail = slice(max(0, count - _tail(count)), count)
    one, other = np.asarray(control.losses[tail], np.float64), np.asarray(arm.losses[tail], np.float64)
    with np.errstate(all="ignore"):
        if min(one.min(), other.min()) > 0.0:  # a loss that explodes is noisy in all but its logarithm
            differences = np.log(one) - np.log(other)
        else:
            differences = (one - other) / (np.median(np.abs([one, other])) or 1.0)
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences)) if len(differences) > 1 else math.inf
    return _Lead(float(differences.mean()), max(SIGMAS * error, LEAST))


def _against(pathology: str, control: Branch, arm: Branch, probation: int) -> Weighed:
    if arm.refused:
        return Weighed(arm, "refused", arm.refused)
    if not math.isfinite(arm.level):
        return Weighed(arm, "lost", "loss or gradients were not finite at its end")
    if not math.isfinite(control.level):
        return Weighed(arm, "won", f"loss {arm.level:.4g}; doing nothing ends non-finite")
    return _beside(pathology, control, arm, probation)


def _beside(pathology: str, control: Branch, arm: Branch, probation: int) -> Weighed:
    """Return how an arm did against doing nothing where both end finite."""
    lead = _lead(control, arm)
    told = f"loss {arm.level:.4g} against {control.level:.4g} of doing nothing"
    if lead.share > lead.noise:
        return Weighed(arm, "won", told)
    better = healed(pathology, control.figure, arm.figure)
    figures = f"{_NAMES.get(pathology, 'figure')} {arm.figure:.3g} against {control.figure:.3g}, " if better else ""
    tolerance = -LEAST if pathology in AT_ONCE else max(lead.noise, TOLERABLE)
    if better and lead.share >= -tolerance:
        return Weighed(arm, "won", f"{figures}{told}")
    if (when := _overtakes(control, arm, probation)) is not None:
        return Weighed(arm, "won", f"{figures}{told}, and falling: overtakes it within {when} steps")
    return Weighed(arm, "undecided" if better or lead.share > -lead.noise else "lost", told)


def _overtakes(control: Branch, arm: Branch, probation: int) -> int | None:
    """Return after how many steps `arm` is lower, going on as it did of late; None if not within `probation`.

    What counts is the least fall that its noise leaves certain, and half of that, because a fall slows down.
    """
    count = min(len(control.losses), len(arm.losses))
    if count < 2 * FEWEST:
        return None
    gain, error = _slope(np.subtract(control.losses[:count], arm.losses[:count]))
    certain = gain - CERTAIN * error
    if not certain > 0.0:
        return None
    when = math.ceil(max(0.0, arm.level - control.level) / (0.5 * certain))
    return when if when <= min(probation, AHEAD * count) else None


def _slope(values: Floats) -> tuple[float, float]:
    """Return the slope a step of the later half of `values`, by least squares, and its standard error."""
    later = values[len(values) // 2 :] if len(values) >= 4 * FEWEST else values
    x = np.arange(len(later), dtype=np.float64) - (len(later) - 1) / 2.0
    spread = float((x * x).sum())
    slope = float((x * later).sum()) / spread
    left = later - later.mean() - slope * x
    return slope, math.sqrt(float((left * left).sum()) / max(1, len(later) - 2) / spread)


_NAMES: Final = {
    "plateau": "decades of update per weight",
    "vanishing_gradients": "decades from the strongest gradient to the weakest",
    "dead_units": "share of units alive",
    "saturation": "slope left",
}
