from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from supervisor import supervise
from supervisor.recording.incidents import attempts_of, course_of, incidents_of
from supervisor.recording.page import write_page
from supervisor.recording.review import story_of
from supervisor.recording.trial_page import trial_html
from supervisor.recording.trial_picture import Frame, frame_of, ticks_of
from supervisor.recording.trials import headline_of, rest_of, told_of
from supervisor.records import plain


def arm(name: str, rung: int, result: str, losses: list[float], **given: Any) -> dict[str, Any]:
    figures = {"score": math.nan, "figure": math.nan, "pace": math.nan}
    return {"name": name, "rung": rung, "result": result, "reason": "told", "losses": losses, **figures, **given}


def trial(*arms: dict[str, Any], winner: int | None = None, control: list[float] | None = None) -> dict[str, Any]:
    tried = [arm("doing nothing", -1, "control", control or [2.3] * 9), *arms]
    told = {"id": "t1", "pathology": "dead_units", "steps": 9, "passes": 27, "winner": winner, "reason": "", "tick": 5}
    return {**plain(told), "arms": plain(tried)}


def test_the_trials_of_a_real_run_are_told(tmp_path: Path) -> None:
    """A deep sigmoid network that stays at chance: the real prover's lines are what the story and the page read."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(*(m for _ in range(10) for m in (nn.Linear(16, 16), nn.Sigmoid())), nn.Linear(16, 4))
    x = torch.randn(256, 16)
    y = (x @ torch.randn(16, 4)).argmax(1)
    data = [(x[i : i + 32], y[i : i + 32]) for i in range(0, 256, 32)] * 25
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    run_dir = tmp_path / "run"
    supervise(
        lambda batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        model=model, optimizer=optimizer, data=data, run_dir=run_dir, tracking=None, seed=0, progress=False,
    )  # fmt: skip
    story = story_of(run_dir)
    (first, *_) = story["trials"]
    told = told_of(first)
    assert told.control.label == "doing nothing"
    assert len(told.control.branch.losses) == first["steps"]
    assert told.winner is not None
    assert told.winner.label in headline_of(first)
    (attempt, *_) = attempts_of(story)
    assert (attempt.trial, "trial" in attempt.reason) == (first["id"], False)
    page = write_page(run_dir, tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('<svg class="arms"') == sum(1 for held in story["trials"] if held["steps"])


def test_a_trial_stands_before_the_rung_that_won_it_whatever_their_ticks(tried_run: Any) -> None:
    """On a device a finding is read late: the trial that answers it is held ticks after."""
    first, second = incidents_of(story_of(tried_run.folder))
    course = [([t["id"] for t in trials], [a.remedies for a in group]) for trials, group in course_of(first)]
    assert course == [(["t1", "t2"], ["reinit_dead_units"])]
    assert [([t["id"] for t in trials], group) for trials, group in course_of(second)] == [(["t3"], [])]
    assert second.status == "left alone"


def test_the_winner_comes_first_and_the_others_by_how_they_ended() -> None:
    held = trial(
        arm("a", 0, "lost", [9.0] * 9), arm("b", 1, "won", [1.0] * 9), arm("c", 2, "won", [2.0] * 9),
        arm("d", 3, "refused", []), winner=2,
    )  # fmt: skip
    assert [(a.label, a.result) for a in told_of(held).arms] == [
        ("c", "carried out"), ("doing nothing", "control"), ("b", "won"), ("a", "lost"), ("d", "refused"),
    ]  # fmt: skip


def test_what_was_judged_by_a_score_is_told_by_it() -> None:
    held = trial(arm("a", 0, "lost", [2.0] * 9, score=0.8))
    held["arms"][0]["score"] = 0.7
    assert headline_of(held) == "tried 1 rung for 9 steps: nothing beat doing nothing (score 0.7), left alone"
    assert "judged by the score of evaluate()" in trial_html(held)


def test_rungs_that_were_refused_for_one_reason_share_it_and_a_long_one_is_cut_in_the_terminal() -> None:
    long = "no activation " * 20
    held = trial(*(arm(name, i, "refused", [], reason=long) for i, name in enumerate("abcde")))
    (line,) = rest_of(held)
    assert line.startswith("refused: a, b, c and 2 more: no activation no")
    assert len(line) < 130
    assert trial_html(held).count(long.strip()) == 5  # the page has it whole


@pytest.mark.parametrize(
    "losses",
    [[math.nan] * 9, [math.inf, 1.0], [1e30] * 9, [-5.0, -1e9, 3.0], [0.0] * 9, [1.0], [1e-30, 1e30, 1.0, 1.0]],
)
@pytest.mark.parametrize("control", [[2.3] * 9, [math.nan] * 3, [1e-3, 10.0, 1e6, 1e12]])
def test_whatever_the_losses_were_the_picture_stays_a_picture(losses: list[float], control: list[float]) -> None:
    html = trial_html(trial(arm("a", 0, "won", losses), winner=0, control=control))
    assert "nan" not in html.replace("doing nothing", "").replace("carried out", "")
    assert "<table>" in html


def test_one_arm_that_explodes_does_not_flatten_the_others() -> None:
    falling = [2.3 - 0.1 * i for i in range(9)]
    held = trial(arm("a", 0, "won", falling), arm("b", 1, "lost", [2.3, 50.0, 1e6, 1e9]), winner=0)
    frame = frame_of(told_of(held))
    assert frame is not None
    assert (frame.low < 1.5, frame.high < 5.0) == (True, True)
    assert "Cut off above" in trial_html(held)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (Frame(1.7, 2.6, 9, log=False), [1.8, 2.0, 2.2, 2.4, 2.6]),
        (Frame(0.5, 2e4, 9, log=True), [1.0, 10.0, 100.0, 1000.0, 10000.0]),
    ],
)
def test_axes_are_marked_at_round_values(frame: Frame, expected: list[float]) -> None:
    assert list(ticks_of(frame.low, frame.high, log=frame.log)) == pytest.approx(expected)


def test_what_the_user_named_cannot_become_markup_in_a_trial(start_run: Callable[..., Any]) -> None:
    evil = "<script>alert('x')</script>"
    held = trial(arm(evil, 0, evil, [1.0] * 9, reason=evil), arm(evil, 1, "lost", [1.0] * 9, reason=evil))
    assert "<script" not in trial_html({**held, "id": evil, "pathology": evil})
