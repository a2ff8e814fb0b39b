"""Warming the learning rate up anew."""

from __future__ import annotations

import pytest

from supervisor.errors import RemedyRefused
from supervisor.remedies.lower_lr import LowerLr
from supervisor.remedies.warmup_lr import WarmupLr
from tests.remedies.sick import bare_run, decision, sick_run


def test_the_rate_rises_linearly_from_this_tick_on_to_all_of_itself() -> None:
    run = sick_run()
    effect = WarmupLr(ticks=4, start=0.2).apply(run, decision())
    rates = []
    for run.clock.tick in range(5, 12):
        rates.append(run.lr)
    assert rates == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, 1e-3, 1e-3, 1e-3])
    assert rates[-1] == 1e-3
    assert effect.changes["warmed up at tick"] == (None, 9)


def test_it_rises_to_what_another_remedy_has_set() -> None:
    run = sick_run()
    WarmupLr(ticks=10, start=0.5).apply(run, decision())
    LowerLr(factor=0.1).apply(run, decision())
    assert run.lr == pytest.approx(0.5e-4)
    run.clock.tick += 10
    assert run.lr == pytest.approx(1e-4)


def test_a_later_one_begins_anew_and_the_undo_of_the_first_leaves_it() -> None:
    run = sick_run()
    first = WarmupLr(ticks=10).apply(run, decision())
    run.clock.tick += 2
    later = WarmupLr(ticks=20).apply(run, decision())
    assert later.changes["warmed up at tick"] == (15, 27)
    first.undo()
    assert run.settings.ramp is not None
    assert run.settings.ramp.until == 27


def test_where_every_rate_is_nothing_there_is_nothing_to_warm_up() -> None:
    with pytest.raises(RemedyRefused, match="no param_group of SGD"):
        WarmupLr().apply(bare_run(), decision())
