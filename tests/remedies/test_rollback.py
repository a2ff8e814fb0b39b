"""Returning to a known-good state."""

from __future__ import annotations

import pytest
import torch

from supervisor.errors import RemedyRefused
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
