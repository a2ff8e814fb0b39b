"""What becomes of a rung, in a training that goes on meanwhile."""

from __future__ import annotations

import math

import torch

from supervisor.records import Decision
from supervisor.run import TrainingRun
from tests.entry.optimizers import SCHEDULERS
from tests.entry.trainings import batches, lab, picture, watched
from tests.entry.words import illness, policy, remedy, ruin

PROBATION = {"probation": 20, "trials": False}


def test_what_made_things_worse_is_taken_back_bit_for_bit() -> None:
    """Weights, moments, schedule, buffers and the multiplier, as they were before the rung."""
    training = watched("adam", SCHEDULERS["cosine"])
    runs: list[TrainingRun] = []
    rungs = {"odd": [["look", "ruin"]]}
    with (
        illness("odd", lambda now: now.tick == 40),
        remedy("ruin", ruin),
        remedy("look", lambda run, _: runs.append(run)),
    ):
        report = training.supervised(batches(70), policy=policy(rungs, verify=PROBATION))
    assert [(v.status, v.undone, v.tick) for v in report.verdicts] == [("worsened", True, 60)]
    assert training.before_tick(61) == training.before_tick(40)
    assert runs[0].lr_multiplier == 1.0
    assert (report.ticks, report.steps) == (70, 39 + 10)


def test_a_cure_after_which_nothing_is_finite_is_taken_back_at_once() -> None:
    training = watched()

    def poison(run: TrainingRun, _: Decision) -> None:
        with torch.no_grad():
            run.parameters[0].fill_(math.nan)

    with illness("odd", lambda now: now.tick == 10), remedy("poison", poison):
        report = training.supervised(batches(30), policy=policy({"odd": ["poison"], "non_finite": ["skip_step"]}))
    assert [(v.status, v.undone, v.tick) for v in report.verdicts[:1]] == [("worsened", True, 11)]
    assert all(math.isfinite(loss) for loss in training.losses[11:])


def test_what_is_not_seen_again_is_resolved() -> None:
    with illness("odd", lambda now: 20 <= now.tick < 25), remedy("look", lambda *_: None):
        report = lab().supervised(batches(60), policy=policy({"odd": ["look"]}, verify=PROBATION))
    assert [(v.status, v.tick, v.undone) for v in report.verdicts] == [("resolved", 40, False)]
    assert report.health == "recovered"


def test_what_is_still_seen_persists_and_the_next_rung_has_its_turn_after_the_cooldown() -> None:
    with (
        illness("odd", lambda now: 20 <= now.tick < 50),
        remedy("one", lambda *_: None),
        remedy("two", lambda *_: None),
    ):
        rules = policy({"odd": ["one", "two"]}, verify=PROBATION, limits={"cooldown": 5})
        report = lab().supervised(batches(80), policy=rules)
    assert [(d.remedy, d.tick) for d in report.decisions] == [("one", 20), ("two", 45)]
    assert [(v.status, v.tick) for v in report.verdicts] == [("persisted", 40), ("resolved", 65)]


def test_a_probation_that_the_end_cuts_short_is_inconclusive() -> None:
    with illness("odd", lambda now: now.tick == 20), remedy("look", lambda *_: None):
        report = lab().supervised(batches(30), policy=policy({"odd": ["look"]}, verify=PROBATION))
    assert [(v.status, v.tick) for v in report.verdicts] == [("inconclusive", 30)]
    assert "10 ticks into the probation" in report.verdicts[0].reason
    assert report.health == "unresolved"


def test_what_nobody_treats_is_over_when_it_has_not_been_seen_for_long() -> None:
    with illness("odd", lambda now: now.tick == 5):
        report = lab().supervised(batches(110), policy=policy({}))
    assert [(f.pathology, f.tick) for f in report.findings] == [("odd", 5)]
    assert [(v.status, v.decisions) for v in report.verdicts] == [("resolved", ())]
    assert (report.interventions, report.health) == ([], "healthy")


def test_advice_changes_nothing_and_is_given_once() -> None:
    bare = lab()
    bare.bare([one] for one in batches(30))
    advised = lab()
    with illness("odd", lambda now: now.tick >= 5):
        report = advised.supervised(batches(30), policy=policy({"odd": ["advise"]}))
    assert [(d.remedy, d.tick) for d in report.decisions] == [("advise", 5)]
    assert report.interventions == []
    assert picture(advised)["parameters"] == picture(bare)["parameters"]
