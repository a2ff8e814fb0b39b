"""The picture of a run: loss and gradient norm over the ticks, with every intervention marked on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from supervisor.recording.curves import thin
from supervisor.recording.incidents import Attempt, Fact, attempts_of, result_of, runs_of
from supervisor.recording.metrics import read_curves
from supervisor.recording.review import story_of

Array = npt.NDArray[Any]

# Okabe & Ito's palette: told apart by the colour-blind, and in grey by their line styles.
BLUE, VERMILION, GREEN, ORANGE, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#AA4499", "#555555"
SIGNS: Final = {"resolved": " \u2713", "persisted": " \u2717", "worsened": " \u2717\u2717"}
WIDTH: Final = 8.3  # inches; at 96 dpi 800 px, the width of the column in which MLflow shows it unscaled
ROWS: Final = 4  # of labels above the curves
CHARACTER: Final = 0.0107  # width of one, as a share of the axis


@dataclass(frozen=True)
class Mark:
    """An intervention, or the same one many times in a row."""

    first: int  # tick
    last: int
    probation: tuple[int, int]  # ticks: from applying it to its verdict
    label: str
    color: str
    style: str
    status: str


def marks_of(story: Fact) -> list[Mark]:
    """Return what is marked on the curves: everything that was decided, advice included."""
    return [_mark(group) for group in runs_of(attempts_of(story))]


def _mark(group: list[Attempt]) -> Mark:
    first, judged = group[0], result_of(group)
    times = f" \u00d7{len(group)}" if len(group) > 1 else ""
    color = PURPLE if "rollback" in first.remedies else "black" if first.applied else GREY
    style = "--" if "rollback" in first.remedies else "-" if first.applied else ":"
    probation = (judged.tick, int(judged.verdict["tick"]) if judged.verdict is not None else judged.tick)
    label = f"{first.remedies}{times}{SIGNS.get(judged.status, '')}"
    return Mark(first.tick, group[-1].tick, probation, label, color, style, judged.status)


def rows_for(places: Sequence[float], widths: Sequence[float], rows: int = ROWS) -> list[int | None]:
    """Return the row of each label (0 is the lowest) such that none overlap; None where there is no room.

    Places and widths are shares of the axis; places must rise.
    """
    ends = [-1.0] * rows
    chosen: list[int | None] = []
    for place, width in zip(places, widths, strict=True):
        row = next((i for i, end in enumerate(ends) if place >= end), None)
        chosen.append(row)
        if row is not None:
            ends[row] = place + width
    return chosen


def draw_timeline(run_dir: Path, out: Path, dpi: int = 96) -> None:
    """Draw the run recorded in `run_dir` as a PNG. Works on a run without an end, and on one without figures."""
    curves, story = read_curves(run_dir), story_of(run_dir)
    marks = marks_of(story)
    went_back = bool(len(curves["step"]) and (np.diff(curves["step"]) < 0).any())
    figure = Figure(figsize=(WIDTH, 6.0 if went_back else 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    heights = [3.0, 2.0, 1.0] if went_back else [3.0, 2.0]
    axes = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0])
    _loss(axes[0], curves, story)
    _line(axes[1], curves["tick"], curves["grad_norm"], VERMILION, "gradient norm", log=True)
    if went_back:
        _line(axes[2], curves["tick"], curves["step"].astype(np.float64), GREY, "training step", log=False)
    for ax in axes:
        _marks(ax, marks)
    if len(curves["tick"]):
        axes[0].set_xlim(float(curves["tick"][0]) - 0.5, float(curves["tick"][-1]) + 0.5)
    _labels(axes[0], marks)
    axes[-1].set_xlabel("tick (attempted optimizer step)")
    figure.savefig(out, dpi=dpi)


def _loss(ax: Axes, curves: dict[str, Array], story: Fact) -> None:
    ticks, loss = curves["tick"], curves["loss"]
    finite = loss[np.isfinite(loss)]
    wide = bool(len(finite) and finite.min() > 0 and finite.max() > 10 * finite.min())  # a decade
    _line(ax, ticks, loss, BLUE, "loss", log=wide)
    points = [(e["tick"], e["metrics"]["loss"]) for e in story["evaluations"] if _has_loss(e)]
    if points:
        ax.plot(
            *zip(*points, strict=True),
            "D",
            ms=4.5,
            mfc="white",
            mec="black",
            label="evaluation",
            zorder=4,
            clip_on=False,
        )
    draw_trials(ax, story)
    bad = ticks[~(np.isfinite(loss) & np.isfinite(curves["grad_norm"]))]
    if len(bad):
        places = np.full(len(bad), 0.04)
        ax.plot(bad, places, "x", color=VERMILION, ms=7, mew=2, transform=ax.get_xaxis_transform(), label="not finite")
    if not len(ticks):
        ax.text(0.5, 0.5, "no ticks recorded", transform=ax.transAxes, ha="center")
    if points or len(bad) or story["trials"]:
        ax.legend(loc="best", fontsize=8, framealpha=0.9)


def draw_trials(ax: Axes, story: Fact) -> None:
    """Mark trials at the upper edge: filled where a rung won, hollow where nothing beat doing nothing."""
    for won, face, label in ((True, BLUE, "trial, a rung won"), (False, "white", "trial, none won")):
        ticks = [trial["tick"] for trial in story["trials"] if (trial["winner"] is not None) == won]
        if ticks:
            places = ax.get_xaxis_transform()
            ax.plot(ticks, [0.97] * len(ticks), "v", ms=7, mfc=face, mec=BLUE, zorder=5, label=label, transform=places)


def _has_loss(evaluation: Fact) -> bool:
    return isinstance(evaluation.get("metrics", {}).get("loss"), float)


def _line(ax: Axes, ticks: Array, values: Array, color: str, label: str, *, log: bool) -> None:
    if log:
        values = np.where(values > 0, values, np.nan)
        if np.isfinite(values).any():
            ax.set_yscale("log")
    x, y = thin(ticks, values)
    ax.plot(x, y, color=color, lw=1.2, marker="." if len(x) < 3 else "", zorder=3)
    ax.set_ylabel(label + (" (log)" if ax.get_yscale() == "log" else ""), color=color)
    ax.grid(visible=True, which="major", color="#dddddd", lw=0.6)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _marks(ax: Axes, marks: list[Mark]) -> None:
    for mark in marks:
        if mark.probation[1] > mark.probation[0]:
            color = GREEN if mark.status == "resolved" else ORANGE
            ax.axvspan(*mark.probation, color=color, alpha=0.10, lw=0)
        if mark.last > mark.first:
            ax.axvspan(mark.first, mark.last, color=mark.color, alpha=0.12, lw=0)
        ax.axvline(mark.first, color=mark.color, ls=mark.style, lw=1.1, alpha=0.85, zorder=2)


def _labels(ax: Axes, marks: list[Mark]) -> None:
    low, high = ax.get_xlim()
    widths = [CHARACTER * (len(mark.label) + 2) for mark in marks]
    # A label near the right end is moved left so far that it ends at the edge.
    places = [(mark.first - low) / (high - low) for mark in marks]
    starts = [max(0.0, min(place, 1.0 - width)) for place, width in zip(places, widths, strict=True)]
    order = sorted(range(len(marks)), key=lambda i: starts[i])
    rows = rows_for([starts[i] for i in order], [widths[i] for i in order])
    for i, row in zip(order, rows, strict=True):
        if row is not None:
            _label(ax, marks[i], starts[i], 1.03 + 0.085 * row)
    left_out = rows.count(None)
    if left_out:
        text = f"{left_out} more marked without a label"
        ax.text(1.0, 1.03 + 0.085 * ROWS, text, transform=ax.transAxes, ha="right", fontsize=8, color=GREY)


def _label(ax: Axes, mark: Mark, start: float, height: float) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # over the stems of the labels above
    ax.text(start, height, mark.label, transform=ax.transAxes, fontsize=9, color=mark.color, va="bottom", bbox=box)
    ax.plot([mark.first] * 2, [1.0, height], color=mark.color, ls=mark.style, lw=0.8, alpha=0.85,
            transform=ax.get_xaxis_transform(), clip_on=False)  # fmt: skip
