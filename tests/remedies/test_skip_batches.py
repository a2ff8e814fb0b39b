"""Dropping a window of batches."""

from __future__ import annotations

import pytest

from supervisor.errors import RemedyRefused
from supervisor.remedies.skip_batches import SkipBatches
from tests.remedies.sick import decision, fingerprint, sick_run


def test_this_ticks_batch_is_not_trained_on_and_the_next_ones_are_asked_away() -> None:
    run = sick_run()
    effect = SkipBatches(count=7).apply(run, decision("non_finite"))
    assert run.voided
    assert run.batches_to_skip == 7
    assert effect.changes["batches to skip"] == (0, 7)


def test_two_requests_of_one_tick_are_the_longer_one() -> None:
    run = sick_run()
    SkipBatches(count=7).apply(run, decision())
    effect = SkipBatches(count=3).apply(run, decision())
    assert run.batches_to_skip == 7
    effect.undo()
    assert run.batches_to_skip == 7


def test_where_the_training_draws_its_own_batches_it_is_refused() -> None:
    run = sick_run()
    run.data_control = False
    before = fingerprint(run)
    with pytest.raises(RemedyRefused, match="pass them as data="):
        SkipBatches().apply(run, decision())
    assert fingerprint(run) == before
