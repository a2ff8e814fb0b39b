"""Raising the learning rate beside the user's schedule."""

from __future__ import annotations

import pytest

from supervisor.errors import RemedyRefused
from supervisor.remedies.lower_lr import LowerLr
from supervisor.remedies.raise_lr import RaiseLr
from tests.remedies.sick import decision, sick_run
from tests.remedies.test_lower_lr import two_groups


def test_it_multiplies_and_says_so() -> None:
    run = sick_run()
    effect = RaiseLr(factor=10.0).apply(run, decision())
    assert run.lr == pytest.approx(1e-2)
    assert effect.changes["lr"] == (1e-3, run.lr)


@pytest.mark.parametrize("rates", [(1e-3, 0.3), (0.07,), (1 / 3, 1e-9, 0.0)])
def test_no_group_goes_above_max_lr(rates: tuple[float, ...]) -> None:
    run = two_groups(*rates)
    RaiseLr(factor=1e5, max_lr=0.5).apply(run, decision())
    assert max(rates) * run.lr_multiplier == pytest.approx(0.5)
    assert max(rates) * run.lr_multiplier <= 0.5
    with pytest.raises(RemedyRefused, match=r"max_lr is 0\.5"):
        RaiseLr(factor=2.0, max_lr=0.5).apply(run, decision())


def test_undo_leaves_what_was_set_later() -> None:
    run = sick_run()
    first = RaiseLr(factor=4.0).apply(run, decision())
    LowerLr(factor=0.5).apply(run, decision())
    first.undo()
    assert run.lr_multiplier == pytest.approx(0.5)
