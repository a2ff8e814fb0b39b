"""What one rung owes another: blame, rollbacks, and clips that never fire."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from supervisor.policy import Policy
from tests.entry.trainings import Lab, batches, lab, poisoned
from tests.entry.words import illness, policy, refuse, remedy


def sigmoid_lab() -> Lab:
    model = nn.Sequential(nn.Linear(6, 16), nn.Sigmoid(), nn.Linear(16, 3))
    return Lab(model, [torch.optim.Adam(model.parameters())])


def test_a_bad_batch_during_a_probation_is_not_blamed_on_the_cure() -> None:
    with illness("odd", lambda now: now.tick == 25), remedy("look", lambda *_: None):
        rules = policy({"odd": ["look"], "non_finite": ["skip_step"]})
        report = lab().supervised(poisoned(batches(100), 39), policy=rules)
    assert {verdict.pathology: verdict.status for verdict in report.verdicts}["odd"] == "resolved"
    assert report.steps == 99


def test_a_rollback_behind_a_rung_on_probation_ends_it_without_a_verdict_on_it() -> None:
    with illness("odd", lambda now: now.tick == 25), illness("unstable_training", lambda now: now.tick == 30):
        rules = policy({"odd": ["swap_activation"], "unstable_training": ["rollback"]})
        report = sigmoid_lab().supervised(batches(100), policy=rules)
    first = next(verdict for verdict in report.verdicts if verdict.pathology == "odd")
    assert (first.status, first.tick) == ("inconclusive", 30)
    assert report.model_changes == []


def test_what_is_refused_before_a_rollback_leaves_the_known_good_states_alone() -> None:
    """The learning rate is at its floor already: the rung is refused before anything was rolled back."""
    floor = {"lower_lr": {"min_lr": 1.0}}
    rules = policy({"non_finite": [["rollback", floor], "rollback"]})
    report = lab().supervised(poisoned(batches(60), 50), policy=rules)
    assert [outcome.status for outcome in report.outcomes] == ["failed", "refused", "applied"]
    assert report.outcomes[-1].changes["state of tick"] == (51, 40)


def test_a_rollback_stays_where_a_later_remedy_of_its_rung_is_refused() -> None:
    with remedy("refuse", refuse):
        rules = policy({"non_finite": [["rollback", "refuse"], "advise"]})
        report = lab().supervised(poisoned(batches(60), 50), policy=rules)
    assert [(o.remedy, o.status) for o in report.outcomes[:2]] == [("rollback", "applied"), ("refuse", "refused")]
    assert report.steps < report.ticks - 1


def test_a_clip_that_never_fires_is_no_intervention() -> None:
    rules = Policy.from_dict(
        {
            "name": "clip",
            "detect": {"exploding_gradients": {"max_norm": 0.5}, "vanishing_gradients": None, "dead_units": None},
            "respond": {"exploding_gradients": [{"clip_norm": {"max_norm": 1e9}}]},
        },
    )
    report = lab().supervised(batches(60), policy=rules)
    assert [decision.remedy for decision in report.decisions][:1] == ["clip_norm"]
    assert report.interventions == []


@pytest.mark.parametrize("ladder", [["skip_step"], ["skip_step", "lower_lr"], ["skip_step", "lower_lr", "advise"]])
def test_a_non_finite_step_is_never_taken_where_skips_are_allowed(ladder: list[str]) -> None:
    """Not when the ladder is exhausted, and not beside a rung that leaves the step alone."""
    training = lab()
    report = training.supervised(poisoned(batches(60), 20, 21, 22, 23), policy=policy({"non_finite": ladder}))
    assert all(bool(torch.isfinite(p).all()) for p in training.model.parameters())
    assert report.ticks - report.steps == 4
