from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from supervisor.recording.incidents import incidents_of, runs_of
from supervisor.recording.story import tell
from supervisor.recording.wording import number, suspected
from supervisor.records import Verdict, plain


def test_the_story_says_what_was_seen_done_and_what_became_of_it(start_run: Callable[..., Any]) -> None:
    run = start_run()
    run.ticks(1, 20)
    finding = run.find(20, "exploding_gradients", value=41.3, limit=6.2)
    decisions = run.decide(finding, 20, "lower_lr", changes={"lr": (3e-4, 1.5e-4)})
    run.ticks(21, 60)
    run.judge(decisions, 60, "resolved")
    lines = run.end().summary().split("\n")
    assert lines[0].startswith("recovered after 1 intervention; final loss ")
    assert lines[2:6] == [
        "1. exploding_gradients: resolved",
        "   tick 20: gradient norm 41.3, limit 6.2 (exploding_gradients, layers net.0, net.2)",
        "   suspected cause: large learning rate",
        "   tick 20: lower_lr (rung 1 of 3): lr 3e-4 -> 1.5e-4",
    ]
    assert lines[6].startswith("      became: resolved at tick 60: not seen for 40 ticks")


def test_a_healthy_run_is_told_in_one_line(start_run: Callable[..., Any]) -> None:
    run = start_run()
    run.ticks(1, 10)
    story = run.end(health="healthy").summary().split("\n")
    assert story[0].startswith("healthy: nothing had to be done; final loss 2.")
    assert len(story) == 3


def test_a_stopped_run_says_why(start_run: Callable[..., Any]) -> None:
    run = start_run()
    run.ticks(1, 10)
    report = run.end(status="stopped", health="unresolved", stop_reason="20 steps in a row were skipped")
    assert "; stopped: 20 steps in a row were skipped" in report.summary().split("\n")[0]


def test_a_burst_of_one_reflex_is_told_once(troubled_run: Any) -> None:
    told = tell(troubled_run.end().to_dict())
    assert "skip_step 4 times, to tick 204" in told
    assert told.count("skip_step") == 2  # and the one that ended it


def test_what_was_tried_is_told_beside_what_came_of_it(tried_run: Any) -> None:
    lines = tried_run.end(health="unresolved").summary().split("\n")
    start = lines.index("1. dead_units: resolved")
    assert lines[start + 3 : start + 9] == [
        "   tick 40: tried 2 rungs for 9 steps: nothing beat doing nothing (loss 2.3), left alone",
        "      they ended at: reinit_dead_units 2.31, lower_lr 2.5",
        "   tick 82: tried 3 rungs for 9 steps: reinit_dead_units won, loss 1.9 against 2.3 of doing nothing",
        "      the others: lower_lr (rung 2) 2.1, lower_lr (rung 3) not finite",
        "      refused: insert_norm: insert_norm does not fit",
        "   tick 80: reinit_dead_units (rung 1 of 3)",
    ]
    assert lines[lines.index("2. plateau: left alone") + 3] == "   tick 150: no rung could be applied: left alone"
    assert lines[-1] == "trials took 63 passes, 31.5 % of the run"


def test_a_note_that_came_again_and_again_is_told_once(start_run: Callable[..., Any]) -> None:
    run = start_run()
    run.ticks(1, 10)
    story = run.end(health="healthy").to_dict() | {"notes": ["the budget is spent", "other", "the budget is spent"]}
    assert tell(story).split("\n")[1:3] == ["note: the budget is spent (2 times)", "note: other"]


def test_a_finding_that_went_away_by_itself_is_an_incident_without_attempts(start_run: Callable[..., Any]) -> None:
    run = start_run()
    run.ticks(1, 120)
    run.find(20, "dead_units", value=0.4, limit=0.3)
    verdict = Verdict((), "dead_units", "resolved", 120, 120, "not seen for 100 ticks")
    run.verdicts.append(verdict)
    run.line("verdict", 120, verdict)
    run.find(121, "dead_units", value=0.5, limit=0.3)
    story = run.end().to_dict()
    assert [(i.tick, i.status, i.attempts) for i in incidents_of(story)] == [
        (20, "resolved", []),
        (121, "only seen", []),
    ]
    assert "   over at tick 120: not seen for 100 ticks" in tell(story).split("\n")


def test_a_standing_limit_that_fires_after_the_verdict_belongs_to_its_incident(start_run: Callable[..., Any]) -> None:
    run = start_run()
    run.ticks(1, 60)
    finding = run.find(10, "exploding_gradients", value=41.3, limit=6.2)
    run.judge(run.decide(finding, 10, "clip_norm"), 30, "resolved")
    run.decide(finding, 35, "clip_norm")
    (incident,) = incidents_of(run.end().to_dict())
    assert incident.status == "resolved"
    assert [len(group) for group in runs_of(incident.attempts)] == [2]


def test_why_a_rung_was_refused_is_told(start_run: Callable[..., Any]) -> None:
    run = start_run()
    run.ticks(1, 20)
    run.decide(run.find(10, "dead_units", value=0.4, limit=0.3), 10, "swap_activation")
    story = run.end(health="unresolved").to_dict()
    story["outcomes"] = plain([{**story["outcomes"][0], "status": "refused", "why": "no activation found"}])
    assert "      not done: swap_activation refused: no activation found" in tell(story).split("\n")
    assert incidents_of(story)[0].status == "refused"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0003, "3e-4"), (41.31, "41.3"), (6, "6"), (0.0, "0"), (1234567.0, "1.23e6"), (2302.4, "2302"), ("nan", "nan"),
     (float("inf"), "inf"), (True, "True"), (None, "None"), ([1, 2, 3, 4, 5], "1, 2, 3 and 2 more")],
)  # fmt: skip
def test_figures_are_short(value: object, text: str) -> None:
    assert number(value) == text


def test_the_suspected_causes_are_told_the_likeliest_first() -> None:
    causes = [
        {"name": "activation functions", "weight": 0.7, "evidence": {"decades": 6.6}},
        {"name": "poor initialization", "weight": 0.3, "evidence": {}},
    ]
    finding = {"cause": "activation functions", "causes": causes}
    assert suspected(finding) == "activation functions; less likely: poor initialization"
    assert suspected(finding, evidence=True).startswith("activation functions (0.7: decades 6.6); poor initialization")
    assert suspected({"cause": "unknown", "causes": []}) == "unknown"
