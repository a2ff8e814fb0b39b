"""Bounding the gradient norm."""

from __future__ import annotations

import math

import pytest

from supervisor.errors import RemedyRefused
from supervisor.remedies.clip_norm import ClipNorm
from supervisor.run import Clip, TrainingRun
from supervisor.settings import FOREVER
from tests.remedies.sick import decision, sick_run


def grad_norm(run: TrainingRun) -> float:
    return math.sqrt(sum(float(p.grad.double().square().sum()) for p in run.parameters if p.grad is not None))


def test_auto_takes_the_usual_max_norm_and_holds_for_this_tick_alone() -> None:
    run = sick_run()
    effect = ClipNorm().apply(run, decision("exploding_gradients", usual_max=1e-3))
    assert run.clip == Clip("norm", 1e-3, until=5)
    assert effect.changes["max_norm"] == (None, 1e-3)
    assert run.clip_gradients(grad_norm(run))
    assert grad_norm(run) == pytest.approx(1e-3)


def test_a_held_limit_covers_the_following_ticks() -> None:
    run = sick_run()
    ClipNorm(max_norm=1e-3, hold=2).apply(run, decision())
    run.clock.tick += 2
    assert run.clip_gradients(grad_norm(run))
    run.clock.tick += 1
    assert not run.clip_gradients(10.0)


@pytest.mark.parametrize("usual_max", [None, math.nan, math.inf, 0.0, -1.0, "0.5"])
def test_auto_without_a_usable_usual_max_norm_is_refused(usual_max: object) -> None:
    with pytest.raises(RemedyRefused, match="set a number"):
        ClipNorm().apply(sick_run(), decision(usual_max=usual_max))


def test_a_void_step_has_nothing_to_clip_unless_the_limit_is_held() -> None:
    run = sick_run()
    run.void_step("rolled back")
    with pytest.raises(RemedyRefused, match="rolled back"):
        ClipNorm(max_norm=1.0).apply(run, decision())


def test_behind_a_rollback_in_the_same_rung_it_clips_the_ticks_to_come() -> None:
    run = sick_run()
    run.void_step("rolled back")
    ClipNorm(max_norm=1.0, hold=3).apply(run, decision())
    assert run.clip == Clip("norm", 1.0, until=8)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gradients_that_are_not_finite_are_refused(value: float) -> None:
    run = sick_run()
    gradient = run.parameters[0].grad
    assert gradient is not None
    gradient.view(-1)[0] = value
    with pytest.raises(RemedyRefused, match="not finite"):
        ClipNorm(max_norm=1.0).apply(run, decision())


def test_undo_brings_back_the_earlier_limit() -> None:
    run = sick_run()
    ClipNorm(max_norm=2.0).apply(run, decision())
    earlier = run.clip
    ClipNorm(max_norm=1.0).apply(run, decision()).undo()
    assert run.clip is earlier


def test_held_for_the_run_it_never_ends() -> None:
    run = sick_run()
    ClipNorm(max_norm=1e-3, hold="run").apply(run, decision())
    run.clock.tick = 10**9
    assert run.clip_gradients(grad_norm(run))


def test_a_tighter_limit_that_holds_is_kept_and_said() -> None:
    run = sick_run()
    ClipNorm(max_norm=1.0, hold=3).apply(run, decision())
    effect = ClipNorm(max_norm=5.0, hold=9).apply(run, decision())
    assert run.clip == Clip("norm", 1.0, until=14)
    assert effect.changes["kept the tighter limit, not"] == (5.0, 1.0)


def test_what_would_only_repeat_a_limit_is_refused() -> None:
    run = sick_run()
    ClipNorm(max_norm=1.0, hold="run").apply(run, decision())
    with pytest.raises(RemedyRefused, match="to the end of the run"):
        ClipNorm(max_norm=1.0, hold=9).apply(run, decision())
    ClipNorm(max_norm=0.5, hold=9).apply(run, decision())
    assert run.clip == Clip("norm", 0.5, until=FOREVER)


def test_a_limit_that_is_over_binds_nobody() -> None:
    run = sick_run()
    ClipNorm(max_norm=1.0, hold=3).apply(run, decision())
    run.clock.tick += 4
    ClipNorm(max_norm=5.0).apply(run, decision())
    assert run.clip == Clip("norm", 5.0, until=9)


@pytest.mark.parametrize(("said", "expected"), [(0.5, 0.5), (math.nan, 3.0), (None, 3.0)])
def test_what_the_finding_says_is_usual_goes_before_what_the_run_knows(said: object, expected: float) -> None:
    run = sick_run()
    run.usual_norm = 3.0
    ClipNorm().apply(run, decision(usual_max=said))
    assert run.clip is not None
    assert run.clip.limit == expected
