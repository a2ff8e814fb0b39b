"""Spikes, two faults at once, faults in the middle of something else, and trainings that cannot be tried on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.entry.trainings import Batch, Lab, batches, journal, poisoned, values
from tests.entry.words import illness
from tests.scenarios.faults import (
    finite,
    kill_units,
    leap_rate,
    normed,
    plain,
    ruin_weights,
    rungs,
    second,
    trained,
    treatments,
)


def spiked(data: list[Batch], place: int) -> list[Batch]:
    return [(x * 1000.0, y) if index == place else (x, y) for index, (x, y) in enumerate(data)]


def test_a_spike_is_clipped_and_the_training_goes_on_as_before() -> None:
    training = plain()
    report = trained(training, spiked(batches(300), 150))
    assert rungs(report) == [("clip_norm",)]
    assert report.decisions[0].finding.cause == "bad batch"
    assert [(v.pathology, v.status) for v in report.verdicts] == [("exploding_gradients", "resolved")]
    assert (report.status, report.health, report.steps, report.ticks) == ("completed", "recovered", 300, 300)
    assert finite(training)
    assert training.accuracy() > 0.85


def test_a_rate_that_leaps_while_a_batch_is_nan_is_treated_for_both() -> None:
    """The batch that is NaN says nothing about the lower rate, which is on probation."""
    training = plain()
    report = trained(training, poisoned(batches(400), 152, 156), ({150}, leap_rate(training, 100.0)))
    assert rungs(report) == [("rollback", "lower_lr"), ("skip_step",), ("skip_step",)]
    assert report.findings[0].cause == "large learning rate"
    last = {verdict.pathology: verdict.status for verdict in report.verdicts}
    assert last == {"exploding_gradients": "resolved", "non_finite": "resolved"}
    assert (report.status, report.health) == ("completed", "recovered")
    assert finite(training)
    assert training.accuracy() > 0.85


def test_dead_units_beside_bad_batches_are_both_treated() -> None:
    training = plain(0.01, torch.optim.Adam)
    report = trained(training, poisoned(batches(500), 120, 165), ({100}, kill_units(training, 20)))
    assert rungs(report)[:2] == [("skip_step",), ("skip_step",)]
    assert len(treatments(report)) == 1
    assert {f.pathology for f in report.findings} == {"non_finite", "dead_units"}
    assert {v.pathology: v.status for v in report.verdicts}["dead_units"] == "resolved"
    assert (report.status, report.health) == ("completed", "recovered")
    assert silent_units(training) < 12
    assert finite(training)


def silent_units(training: Lab) -> int:
    with torch.no_grad():
        hidden = torch.cat([training.model.first(x).relu() for x, _ in batches(20)])  # type: ignore[operator]
        outputs = second(training)(hidden)
    return int((outputs.amax(0) <= 0).sum())


@pytest.fixture
def abstaining() -> Lab:
    return normed(dropout=0.0)


def test_where_nothing_beats_doing_nothing_the_training_is_not_touched(abstaining: Lab) -> None:
    """A finding on a training that learns well: every rung is tried, and loses."""
    untouched = normed(dropout=0.0)
    untouched.bare([batch] for batch in batches(200, size=64))
    with illness("vanishing_gradients", lambda now: now.tick == 100):
        report = trained(abstaining, batches(200, size=64))
    (trial,) = [line for line in journal("trial") if line["phase"] == "ended"]
    assert trial["winner"] is None
    assert (report.interventions, report.model_changes) == ([], [])
    assert values(abstaining, rng=False) == values(untouched, rng=False)


def test_faults_while_the_training_is_left_alone_after_a_trial_are_answered_at_once(abstaining: Lab) -> None:
    """The illness that nothing helped against waits; a NaN batch and ruined weights do not."""
    with illness("vanishing_gradients", lambda now: now.tick >= 100):
        report = trained(abstaining, poisoned(batches(240, size=64), 119), ({140}, ruin_weights(abstaining)))
    assert rungs(report)[:2] == [("skip_step",), ("rollback",)]
    assert [d.tick for d in report.decisions[:2]] == [120, 140]
    assert {v.pathology for v in report.verdicts if v.status == "resolved"} >= {"non_finite"}
    assert finite(abstaining)


class Counting(Lab):
    """A train step whose loss depends on how often it was called: it cannot be run twice."""

    def train_step(self, batch: Batch) -> Tensor:
        return super().train_step(batch) * (1.0 + 0.001 * (self.calls % 7))


def counting(training: Lab) -> Counting:
    return Counting(training.model, training.optimizers)


def test_a_train_step_with_side_effects_is_treated_without_trials_and_judged_by_its_probation() -> None:
    training = counting(plain())
    report = trained(training, batches(400), ({150}, leap_rate(training, 100.0)))
    assert rungs(report)[0] == ("rollback", "lower_lr")
    assert "trial" not in report.decisions[0].reason
    assert any("train_fn has side effects" in note for note in report.notes)
    assert report.trial_passes <= 2
    assert {v.pathology: v.status for v in report.verdicts}["exploding_gradients"] == "resolved"
    assert (report.status, report.health) == ("completed", "recovered")
    assert finite(training)


def test_what_did_harm_without_a_trial_is_taken_back_after_its_probation() -> None:
    """A finding on a training that learns well, which cannot be tried on: surgery, a worse loss, and no surgery."""
    training = counting(plain(0.01, torch.optim.Adam))
    with illness("vanishing_gradients", lambda now: now.tick == 250):
        report = trained(training, batches(400))
    assert len(treatments(report)) == 1
    assert (report.verdicts[0].status, report.verdicts[0].undone) == ("worsened", True)
    assert report.model_changes == []
    assert training.accuracy() > 0.9
