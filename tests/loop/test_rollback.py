"""Back to a known-good state, and on from there."""

from __future__ import annotations

import pytest

from supervisor.recording.metrics import read_curves
from tests.entry.optimizers import OPTIMIZERS, SCHEDULERS
from tests.entry.trainings import batches, poisoned, watched
from tests.entry.words import policy


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_after_a_rollback_the_same_batches_give_the_original_losses(optimizer: str) -> None:
    """Dropout, BatchNorm, moments and the scheduler included, bit for bit."""
    good = batches(24)
    training = watched(optimizer, SCHEDULERS["cosine"])
    data = [
        *poisoned([*good, good[0]], 24),
        *good[10:],
    ]  # tick 25 is bad; the newest good state then is that of tick 10
    report = training.supervised(data, policy=policy({"non_finite": ["rollback"]}))
    assert [o.changes["state of tick"] for o in report.outcomes] == [(25, 10)]
    assert training.losses[25:] == training.losses[10:24]
    assert training.before_tick(26) == training.before_tick(11)
    assert training.pictures[-1] == training.before_tick(24)
    assert (report.ticks, report.steps) == (39, 24)


def test_a_rollback_does_not_bring_the_old_rate_back() -> None:
    training = watched()
    rungs = {"non_finite": [["rollback", {"lower_lr": {"factor": 0.5}}]]}
    report = training.supervised(poisoned(batches(30), 24), policy=policy(rungs))
    assert [d.remedy for d in report.interventions] == ["rollback", "lower_lr"]
    assert read_curves(report.run_dir)["lr"].tolist() == pytest.approx([0.01] * 25 + [0.005] * 5)
    assert training.optimizers[0].param_groups[0]["lr"] == 0.01


def test_a_repeating_fault_goes_deeper_each_time_and_comes_to_an_end() -> None:
    """Incident history and budgets do not roll back with the model."""
    training = watched()
    data = poisoned(batches(90), 60, 63, 66, 69)
    rules = policy({"non_finite": [{"rollback": {"budget": 3}}, "stop"]})
    report = training.supervised(data, policy=rules)
    states = [o.changes["state of tick"][1] for o in report.outcomes if o.remedy == "rollback"]
    assert states == sorted(states, reverse=True)
    assert len(set(states)) == 3
    assert (report.status, report.ticks) == ("stopped", 70)
