from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervisor.recording.description import DIVIDER, NOTE_LIMIT, beneath, describe, table_of


def test_the_description_holds_verdict_incidents_picture_and_reasons(troubled_run: Any) -> None:
    lines = describe(troubled_run.end().to_dict(), "/get-artifact?path=timeline.png&run_uuid=r").split("\n")
    assert lines[0].startswith("**recovered after 8 interventions; final loss ")
    assert "| 1 &nbsp; | vanishing\\_gradients &nbsp; | resolved &nbsp; |" in lines[4]
    assert "![timeline](/get-artifact?path=timeline.png&run_uuid=r)" in lines
    assert any("suspected cause: activation functions (rung 2 of 3)" in line for line in lines)


def test_the_description_tells_trials_beside_decisions_and_what_they_cost(tried_run: Any) -> None:
    text = describe(tried_run.end().to_dict(), None)
    assert "- tick 82: tried 3 rungs for 9 steps: reinit\\_dead\\_units won, loss 1.9 against 2.3 of doing" in text
    assert "; trial t2" not in text  # told once
    assert "The trials took 63 passes, 31.5 % of the run; all arms are in trials.json." in text


def test_however_much_happened_the_description_fits(start_run: Callable[..., Any]) -> None:
    run = start_run()
    for tick in range(1, 400):
        pathology = "dead_units" if tick % 2 else "exploding_gradients"
        run.judge(run.decide(run.find(tick, pathology, value=1.0, limit=0.5), tick, "lower_lr"), tick, "resolved")
    story = run.end().to_dict()
    note = describe(story, "/picture")
    assert len(note) <= NOTE_LIMIT
    assert "![timeline](/picture)" in note
    assert note.endswith("(shortened: all decisions are in decisions.json)")
    assert len(table_of(story)["data"]) == 399


def test_a_description_of_the_users_own_stays_above_ours(troubled_run: Any) -> None:
    story = troubled_run.end().to_dict()
    once = beneath("Baseline for the paper.", story, None)
    assert once.startswith(f"Baseline for the paper.{DIVIDER}**recovered")
    assert beneath(once, story, None) == once  # told again, not twice
    full = "x" * NOTE_LIMIT
    assert beneath(full, story, None) == full


def test_what_the_user_named_cannot_break_the_table(start_run: Callable[..., Any]) -> None:
    run = start_run()
    run.find(1, "a|b <img src=x>\n| c", value=1.0, limit=0.5)
    row = describe(run.end().to_dict(), None).split("\n")[4]
    assert row.replace("\\|", "").count("|") == 7
    assert "<img" not in row
