from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import JournalError, UsageError
from supervisor.recording.review import find_run, story_of


def test_the_journal_alone_tells_what_the_report_told(troubled_run: Any) -> None:
    report = troubled_run.end().to_dict()
    assert story_of(troubled_run.folder) == report | {"run_dir": str(troubled_run.folder)}


def test_the_journal_tells_the_trials_that_the_report_told(tried_run: Any) -> None:
    report = tried_run.end().to_dict()
    assert [trial["id"] for trial in report["trials"]] == ["t1", "t2", "t3"]
    assert story_of(tried_run.folder) == report | {"run_dir": str(tried_run.folder)}


def test_a_run_killed_in_a_trial_tells_those_that_ended(tried_run: Any) -> None:
    tried_run.line("trial", 200, {"id": "t4", "phase": "began", "pathology": "plateau", "arms": []})
    story = story_of(tried_run.folder)
    assert [trial["id"] for trial in story["trials"]] == ["t1", "t2", "t3"]
    assert story["trial_passes"] == 27 + 36


def test_a_killed_run_is_told_as_far_as_it_went(troubled_run: Any) -> None:
    story = story_of(troubled_run.folder)
    assert (story["status"], story["health"]) == ("running or killed", "recovered")
    assert (story["ticks"], story["steps"]) == (300, 300)
    assert story["final_loss"] == pytest.approx(troubled_run.shots[-1].loss)
    assert len(story["interventions"]) == 8


def test_a_run_killed_in_the_middle_of_a_line_is_told(troubled_run: Any) -> None:
    with (troubled_run.folder / "journal.jsonl").open("a") as journal:
        journal.write('{"kind": "decis')
    assert len(story_of(troubled_run.folder)["decisions"]) == 8


def test_a_killed_run_with_an_open_case_is_unresolved(start_run: Callable[..., Any]) -> None:
    run = start_run()
    run.ticks(1, 20)
    run.decide(run.find(20, "dead_units", value=0.5, limit=0.3), 20, "lower_lr")
    assert story_of(run.folder)["health"] == "unresolved"


def test_the_newest_run_is_found(start_run: Callable[..., Any], tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old")):
        run = start_run(folder=tmp_path / "supervisor_runs" / name)
        os.utime(run.folder / "journal.jsonl", (1e9 - age, 1e9 - age))
    assert find_run(None) == Path("supervisor_runs/new")
    assert find_run("old") == Path("supervisor_runs/old")
    assert find_run("supervisor_runs/old/journal.jsonl") == Path("supervisor_runs/old")


def test_where_there_is_no_run_the_error_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no run under {tmp_path / 'supervisor_runs'}"):
        find_run(None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: no journal\.jsonl in it"):
        find_run("empty")
    with pytest.raises(JournalError, match="Is this the folder of a supervised run"):
        story_of(tmp_path / "empty")


def test_an_unknown_run_id_is_a_clear_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="'0123abcd' is neither a folder here nor a run that MLflow knows"):
        find_run("0123abcd")
