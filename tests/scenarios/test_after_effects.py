"""What one fault leaves behind must not be mistaken for another."""

from __future__ import annotations

import torch

from tests.entry.trainings import batches, journal, poisoned
from tests.entry.words import illness
from tests.scenarios.faults import finite, kill_units, normed, plain, ruin_moments, ruin_weights, trained


def test_a_finite_step_is_never_skipped_because_of_a_bad_batch_before_it() -> None:
    """Units die at 100, and keep the loss high; the batches at 121 and 166 are NaN, all others are good."""
    training = plain(0.01, torch.optim.Adam)
    report = trained(training, poisoned(batches(500), 120, 165), ({100}, kill_units(training, 24)))
    assert [d.tick for d in report.decisions if d.remedy == "skip_step"] == [121, 166]


def test_a_ruined_optimizer_state_is_treated_though_the_budget_for_trials_is_spent() -> None:
    training = normed()
    report = trained(training, batches(400), ({100, 102}, ruin_moments(training)), steps=300)
    assert report.status == "completed"
    assert finite(training)


def test_a_healthy_training_is_not_drawn_anew_because_of_a_slope_over_eight_batches() -> None:
    training = normed(dropout=0.0)
    with illness("vanishing_gradients", lambda now: now.tick == 100):
        report = trained(training, batches(300))
    assert report.interventions == []


def test_a_stop_on_a_ruined_state_leaves_the_last_good_one_and_says_where_it_is() -> None:
    training = normed()
    report = trained(training, batches(400), (range(100, 400, 7), ruin_weights(training)))
    assert report.status == "stopped"
    assert all(bool(torch.isfinite(p).all()) for p in training.model.parameters())
    assert [line["path"] for line in journal("checkpoint")][-1] in report.stop_reason


def test_a_stop_gets_no_verdict() -> None:
    training = normed()
    report = trained(training, poisoned(batches(300), *range(100, 300)))
    stop = report.decisions[-1]
    assert stop.remedy == "stop"
    assert not any(stop.id in v.decisions for v in report.verdicts)
