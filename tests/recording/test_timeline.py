from __future__ import annotations

import math
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from supervisor.recording.review import story_of
from supervisor.recording.timeline import draw_timeline, draw_trials, marks_of, rows_for


def size(picture: Path) -> tuple[int, int]:
    """Return (width, height) of a PNG, in pixels."""
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    return int(width), int(height)


def test_a_run_is_drawn_as_wide_as_the_column_it_is_shown_in(troubled_run: Any, tmp_path: Path) -> None:
    draw_timeline(troubled_run.folder, tmp_path / "timeline.png")
    assert 700 <= size(tmp_path / "timeline.png")[0] <= 900


def test_every_decision_is_marked_and_carries_its_verdict(troubled_run: Any) -> None:
    marks = marks_of(story_of(troubled_run.folder))
    assert [(mark.first, mark.label) for mark in marks] == [
        (60, "reinit_weights ✗"),
        (111, "swap_activation + reinit_weights ✓"),
        (201, "skip_step \u00d74 ✗"),
        (205, "skip_step ✓"),
    ]


def test_a_rollback_gets_a_panel_with_the_training_step(
    start_run: Callable[..., Any], shot: Any, tmp_path: Path
) -> None:
    run = start_run()
    for tick in range(1, 40):
        run.tick(shot(tick, step=tick if tick < 30 else tick - 20))
    draw_timeline(run.folder, tmp_path / "back.png")
    plain = start_run(folder=tmp_path / "plain")
    plain.ticks(1, 40)
    draw_timeline(plain.folder, tmp_path / "plain.png")
    assert size(tmp_path / "back.png")[1] > size(tmp_path / "plain.png")[1]


def test_a_run_without_a_finite_figure_is_drawn(start_run: Callable[..., Any], shot: Any, tmp_path: Path) -> None:
    run = start_run()
    for tick in range(1, 4):
        run.tick(shot(tick, loss=math.nan, norm=math.inf))
    draw_timeline(run.folder, tmp_path / "nan.png")
    assert size(tmp_path / "nan.png")[0] > 0


def test_a_run_that_never_took_a_tick_is_drawn(start_run: Callable[..., Any], tmp_path: Path) -> None:
    draw_timeline(start_run().folder, tmp_path / "empty.png")
    assert size(tmp_path / "empty.png")[0] > 0


def test_trials_are_marked_with_and_without_a_winner(tried_run: Any) -> None:
    ax = Figure().subplots()
    draw_trials(ax, story_of(tried_run.folder))
    marks = {line.get_label(): np.asarray(line.get_xdata()).tolist() for line in ax.lines}
    assert marks == {"trial, a rung won": [82], "trial, none won": [40, 150]}
    draw_timeline(tried_run.folder, tried_run.folder / "tried.png")
    assert size(tried_run.folder / "tried.png")[0] > 0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 0.4)), max_size=40))
def test_labels_never_overlap(labels: list[tuple[float, float]]) -> None:
    labels.sort()
    rows = rows_for([place for place, _ in labels], [width for _, width in labels])
    for row in set(rows) - {None}:
        spans = [(place, place + width) for (place, width), chosen in zip(labels, rows, strict=True) if chosen == row]
        assert all(first[1] <= second[0] for first, second in pairwise(spans))
