"""Returning to a known-good state."""

from __future__ import annotations

import pytest
import torch

from supervisor.errors import RemedyRefused, UsageError
from supervisor.remedies.lower_lr import LowerLr
from supervisor.remedies.rollback import Rollback
from tests.remedies.sick import Kept, decision, fingerprint, sick_run, take_step


def test_it_restores_the_state_from_before_the_finding_and_voids_the_step() -> None:
    run = sick_run()
    good = Kept(run, tick=4, step=4)
    run.known_good = good
    take_step(run, torch.randn(8, 1, 4, 4))
    effect = Rollback().apply(run, decision(tick=5))
    assert all(torch.equal(value, good.state[key]) for key, value in run.model.state_dict().items())
    assert effect.changes["step"] == (5, 4)
    assert (run.clock.tick, run.clock.step) == (5, 4)
    assert run.voided


@pytest.mark.parametrize(("tick", "margin"), [(4, 0), (3, 0), (6, 2)])
def test_without_a_state_old_enough_it_refuses(tick: int, margin: int) -> None:
    run = sick_run()
    run.known_good = Kept(run, tick=4, step=4)
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match=f"before tick {tick - margin}"):
        Rollback(margin=margin).apply(run, decision(tick=tick))
    assert fingerprint(run) == before


def test_further_batches_are_dropped_behind_it() -> None:
    run = sick_run()
    effect = Rollback(skip_batches=50).apply(run, decision())
    assert run.batches_to_skip == 50
    assert effect.changes["batches to skip"] == (0, 50)
    effect.undo()
    assert run.batches_to_skip == 0


def test_the_batches_since_the_state_are_asked_for_again_this_ticks_included() -> None:
    run = sick_run()
    run.can_rewind = lambda tick: tick == 1
    effect = Rollback(rewind=True).apply(run, decision())
    assert run.rewind == (2, 5)
    assert effect.changes["batches fed again, of ticks"] == (2, 5)
    effect.undo()
    assert run.rewind is None


@pytest.mark.parametrize("asked", [Rollback(rewind=True), Rollback(skip_batches=3)])
def test_what_the_data_cannot_do_is_refused_before_anything_is_touched(asked: Rollback) -> None:
    run = sick_run()
    run.data_control = False
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match=r"leave rewind out|pass them as data="):
        asked.apply(run, decision())
    assert fingerprint(run) == before


def test_feeding_again_and_dropping_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="one of the two"):
        Rollback(rewind=True, skip_batches=3)


def test_what_was_set_on_the_tick_clock_outlives_it() -> None:
    run = sick_run()
    LowerLr(factor=0.5).apply(run, decision())
    kept = run.settings
    Rollback().apply(run, decision())
    assert run.settings is kept
