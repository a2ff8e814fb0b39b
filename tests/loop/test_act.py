"""Write ahead, and a rung applied as one."""

from __future__ import annotations

from typing import Any

from supervisor.records import Decision
from supervisor.run import TrainingRun
from tests.entry.trainings import batches, journal, lab, picture, watched
from tests.entry.words import fail, illness, policy, refuse, remedy, ruin


def test_a_decision_is_in_the_journal_before_its_remedy_runs() -> None:
    read: list[dict[str, Any]] = []

    def look(_: TrainingRun, decision: Decision) -> None:
        read.extend(entry for entry in journal() if entry.get("id") == decision.id)
        assert not journal("outcome")

    with illness("odd", lambda now: now.tick == 3), remedy("look", look):
        report = lab().supervised(batches(5), policy=policy({"odd": ["look"]}))
    assert [(line["kind"], line["remedy"], line["tick"]) for line in read] == [("decision", "look", 3)]
    assert [entry["status"] for entry in journal("outcome")] == ["applied"]
    assert report.outcomes[0].status == "applied"


def test_all_decisions_of_a_rung_are_in_the_journal_before_the_first_of_them_runs() -> None:
    seen: list[list[str]] = []
    with (
        illness("odd", lambda now: now.tick == 3),
        remedy("one", lambda *_: seen.append([e["remedy"] for e in journal("decision")])),
        remedy("two", lambda *_: None),
    ):
        lab().supervised(batches(5), policy=policy({"odd": [["one", "two"]]}))
    assert seen == [["one", "two"]]


def test_where_one_remedy_is_refused_the_tick_goes_on_as_if_none_had_been_tried() -> None:
    plain = lab()
    plain.supervised(batches(12), run_dir="plain", policy=policy({}))
    tried = lab()
    with illness("odd", lambda now: now.tick == 6), remedy("ruin", ruin), remedy("refuse", refuse):
        report = tried.supervised(batches(12), policy=policy({"odd": [["ruin", "refuse"], "advise"]}))
    assert [(o.remedy, o.status) for o in report.outcomes] == [
        ("ruin", "failed"), ("refuse", "refused"), ("advise", "applied"),
    ]  # fmt: skip
    assert report.interventions == []
    assert tried.losses == plain.losses
    assert picture(tried, rng=False)["parameters"] == picture(plain, rng=False)["parameters"]
    assert picture(tried, rng=False)["buffers"] == picture(plain, rng=False)["buffers"]


def test_a_remedy_that_breaks_costs_one_step_and_not_the_training() -> None:
    training = watched()
    with illness("odd", lambda now: now.tick == 6), remedy("ruin", ruin), remedy("fail", fail):
        report = training.supervised(batches(12), policy=policy({"odd": [["ruin", "fail"]]}))
    assert [(o.remedy, o.status, o.why) for o in report.outcomes[:2]] == [
        ("ruin", "failed", "taken back: fail was failed, and a rung is applied as one"),
        ("fail", "failed", "ZeroDivisionError()"),
    ]
    assert training.before_tick(7) == training.before_tick(6)
    assert (report.status, report.ticks, report.steps) == ("completed", 12, 11)


def test_a_refused_rung_makes_way_for_the_next_one_in_the_same_tick() -> None:
    with illness("odd", lambda now: now.tick == 6), remedy("refuse", refuse), remedy("look", lambda *_: None):
        report = lab().supervised(batches(9), policy=policy({"odd": ["refuse", "look"]}))
    assert [(d.remedy, d.tick, d.rung) for d in report.decisions] == [("refuse", 6, 0), ("look", 6, 1)]
    assert [d.remedy for d in report.interventions] == ["look"]
