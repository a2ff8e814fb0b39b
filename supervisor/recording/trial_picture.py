"""The loss curves of a trial's arms over those of doing nothing: SVG, coloured by the style sheet of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from supervisor.recording.trials import Arm, Told, measure
from supervisor.recording.wording import number

WIDTH, HEIGHT = 880, 240  # of the picture, in its own units; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 8, 24  # room around the curves
BEYOND: Final = 2.0  # spans of what matters that the picture goes beyond it, for the other arms
WIDE: Final = 30.0  # largest to smallest loss from which a logarithmic axis tells more


def style_of(told: Told, arm: Arm) -> str:
    """Return the CSS classes of an arm's line: told apart by colour, by dashes, and the winner by its weight."""
    named = {"control": "control", "carried out": "winner"}
    return f"arm {named.get(arm.result) or f'other{told.others.index(arm) % 4}'}"


@dataclass(frozen=True)
class Frame:
    """The stretch of losses and steps that a picture shows."""

    low: float
    high: float
    steps: int
    log: bool

    def x(self, step: int) -> float:
        """Return the place of a step, counted from 0."""
        return LEFT + (WIDTH - LEFT - RIGHT) * step / max(1, self.steps - 1)

    def y(self, loss: float) -> float:
        """Return the place of a loss."""
        scale = math.log if self.log else float
        low, high = scale(self.low), scale(self.high)
        share = (scale(loss) - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(share, -9.0), 9.0)  # far outside is outside


def frame_of(told: Told) -> Frame | None:
    """Return the frame of a trial: what decides is seen whole, other arms as far as they do not flatten it.

    What decides are the losses of the later half of doing nothing and of the best arm. None where no loss is finite.
    """
    best = (told.control, told.winner or (told.others[0] if told.others else told.control))
    later = [v for arm in best for v in arm.branch.losses[len(arm.branch.losses) // 2 :] if math.isfinite(v)]
    every = [v for arm in told.arms for v in arm.branch.losses if math.isfinite(v)]
    if not every:
        return None
    later = later or every
    span = (max(later) - min(later)) or 0.05 * abs(later[0]) or 1.0
    low = max(min(every), min(later) - BEYOND * span)
    high = min(max(every), max(later) + BEYOND * span)
    steps = max(len(arm.branch.losses) for arm in told.arms)
    if low > 0.0 and high > WIDE * low:
        return Frame(low / 1.1, high * 1.1, steps, log=True)
    room = 0.06 * (high - low or span)
    return Frame(low - room, high + room, steps, log=False)


def picture_of(told: Told) -> str:
    """Return the figure of a trial with its caption, "" where no loss is finite. The table beside it is its legend."""
    frame = frame_of(told)
    if frame is None:
        return ""
    drawn = [arm for arm in (*reversed(told.others), told.control, told.winner) if arm is not None]  # the winner on top
    lines = "".join(_line(frame, arm, style_of(told, arm)) for arm in drawn)
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    place = f'x="{LEFT}" y="{TOP}" width="{across}" height="{down}" viewBox="{LEFT} {TOP} {across} {down}"'
    alt = "Loss of each arm of the trial over its steps, with doing nothing as a dashed line"
    head = f'<svg class="arms" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{alt}">'
    picture = f"{head}{_axes(frame)}<svg {place}>{lines}</svg></svg>"  # the inner one cuts off what is outside
    return f'<figure>{picture}<figcaption class="soft">{escape(_caption(told, frame))}</figcaption></figure>'


def _caption(told: Told, frame: Frame) -> str:
    by = "the score of evaluate() at the end" if measure(told) == "score" else "the median of its last batches"
    text = f"Loss of each arm, step by step{', logarithmic' if frame.log else ''}; an arm is judged by {by}."
    high = [(arm, [v for v in arm.branch.losses if frame.high < v < math.inf]) for arm in told.arms]
    beyond = ", ".join(f"{arm.label} reached {number(max(values))}" for arm, values in high if values)
    return f"{text} Cut off above {number(frame.high)}: {beyond}." if beyond else text


def _line(frame: Frame, arm: Arm, style: str) -> str:
    """Return an arm's line, interrupted where the loss is not finite; a cross marks where it was lost for good."""
    path, pen = [], "M"
    losses = arm.branch.losses
    for step, loss in enumerate(losses):
        if math.isfinite(loss) and (loss > 0.0 or not frame.log):
            path.append(f"{pen}{frame.x(step):.1f} {frame.y(loss):.1f}")
            pen = "L"
        else:
            pen = "M"
    line = f'<path class="{style}" d="{"".join(path)}"><title>{escape(arm.label)}</title></path>'
    if pen == "L" or not losses:
        return line
    x, y = frame.x(len(losses) - 1), TOP + 8
    return f'{line}<path class="{style} lost-arm" d="M{x - 5:.1f} {y - 5}l10 10m0-10l-10 10"/>'


def _axes(frame: Frame) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value in ticks_of(frame.low, frame.high, log=frame.log):
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>')
    places = dict.fromkeys((0, (frame.steps - 1) // 2, frame.steps - 1))
    for step in places:
        anchor = "start" if step == 0 else "end" if step == frame.steps - 1 else "middle"
        word = "step " if step == 0 else ""
        parts.append(f'<text x="{frame.x(step):.1f}" y="{bottom + 16}" text-anchor="{anchor}">{word}{step + 1}</text>')
    return "".join(parts)


def ticks_of(low: float, high: float, *, log: bool) -> Sequence[float]:
    """Return some round values between `low` and `high`."""
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        every = max(1, len(decades) // 5)
        found = [10.0**decade for decade in decades[::every] if low <= 10.0**decade <= high]
        return found if len(found) >= 2 else [low, math.sqrt(low * high), high]
    rough = (high - low) / 6.0
    unit = 10.0 ** math.floor(math.log10(rough))
    stride = next(m * unit for m in (1.0, 2.0, 5.0, 10.0) if m * unit >= rough)
    first, last = math.ceil(low / stride), math.floor(high / stride)
    return [step * stride for step in range(first, last + 1)]
