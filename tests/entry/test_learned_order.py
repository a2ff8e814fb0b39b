"""`order: learned`: what the runs beside this one tell, read from their journals."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from supervisor import Policy, Report
from supervisor.entry import learned
from supervisor.entry.learned import earlier_runs
from supervisor.policy.learned import reordered
from supervisor.records import Decision, Finding
from supervisor.remedies.base import Effect
from supervisor.run import TrainingRun
from tests.entry.trainings import Lab, batches, journal, lab
from tests.entry.words import illness, policy, remedy, ruin

CAUSE = "a test"  # what the detector of these tests suspects
LATE = 20
LADDER = ["ruin", "better"]
LEARNED = policy({}, order="learned")


def better(run: TrainingRun, _: Decision) -> Effect:
    """Halve the overconfidence of the last layer."""
    weight = run.parameters[-2]
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(0.05)

    def undo() -> None:
        with torch.no_grad():
            weight.copy_(kept)

    return Effect({"weight": (1, 0.05)}, undo)


def overconfident() -> Lab:
    training = lab(dropout=0.0)
    with torch.no_grad():
        training.model.head.weight.mul_(60.0)  # type: ignore[union-attr, operator]
    for group in training.optimizers[0].param_groups:
        group["lr"] = 1e-6
    return training


def train(name: str, order: str = "learned", *, trials: bool = True) -> Report:
    with illness("odd", lambda now: now.tick == LATE), remedy("ruin", ruin), remedy("better", better):
        verify = {"probation": 20, "trials": trials, "trial_budget": 1.0}
        rules = policy({"odd": LADDER}, verify=verify, order=order)
        return overconfident().supervised(batches(50), policy=rules, run_dir=f"runs/{name}")


def table_of(name: str = "new") -> tuple[dict[str, Any], tuple[str, ...]]:
    earlier = earlier_runs(LEARNED, Path("runs", name))
    return dict(earlier.table), earlier.notes


def written(name: str, *lines: Any, text: str | None = None) -> Path:
    """Write a journal as another run may have left it."""
    path = Path("runs", name, "journal.jsonl")
    path.parent.mkdir(parents=True)
    path.write_text(text if text is not None else "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_new_run_begins_with_what_helped_in_the_earlier_ones_and_says_so() -> None:
    for name in ("first", "second"):
        assert [d.remedy for d in train(name, "policy").interventions] == ["better"]
    report = train("third", trials=False)
    (decision,) = report.interventions
    assert (decision.remedy, decision.rung) == ("better", 1)
    assert "rung 2 of 2; learned order: helped 2 of 2 times, won 2 of 2 trials in earlier runs" in decision.reason
    assert "learned order: 2 earlier runs beside this one were read" in report.notes


def test_the_start_line_holds_the_table_and_the_hash_of_the_policy_as_written() -> None:
    """Of both, the order that was used can be had again, when the earlier runs are long gone."""
    train("first", "policy")
    train("second", "policy")
    train("third")
    (start,) = journal("start", "runs/third")
    told = {"ruin": {"lost": 2}, "better": {"won": 2, "resolved": 2}}
    assert start["order_table"] == {"odd": {CAUSE: told}}
    with illness("odd", lambda now: False), remedy("ruin", ruin), remedy("better", better):
        rules = Policy.from_dict(json.loads(json.dumps({"name": "again", "respond": {"odd": LADDER}})))
        again = reordered(rules, start["order_table"])
    assert [turn.rung for turn in again.turns(Finding("odd", 1, 1, (), 0.5, CAUSE))] == [1, 0]
    train("fourth")
    assert journal("start", "runs/fourth")[0]["policy_hash"] == start["policy_hash"]


def test_without_earlier_runs_the_policy_s_order_holds() -> None:
    report = train("first", trials=False)
    assert [d.remedy for d in report.interventions][:1] == ["ruin"]
    assert "learned order" not in report.decisions[0].reason
    assert journal("start", "runs/first")[0]["order_table"] == {}


def test_a_policy_that_does_not_ask_for_it_reads_nothing() -> None:
    train("first", "policy")
    report = train("second", "policy")
    assert "order_table" not in journal("start", "runs/second")[0]
    assert not any("learned order" in note for note in report.notes)


def test_an_illness_that_came_back_was_not_cured() -> None:
    with illness("odd", lambda now: now.tick in (LATE, LATE + 60)), remedy("better", better):
        rules = policy({"odd": [{"better": {"budget": 2}}]}, verify={"probation": 20, "trials": False})
        overconfident().supervised(batches(120), policy=rules, run_dir="runs/first")
        assert [line["status"] for line in journal("verdict", "runs/first")] == ["resolved", "resolved"]
        assert table_of()[0] == {"odd": {CAUSE: {"better": {"persisted": 1, "resolved": 1}}}}


def test_torn_foreign_and_strange_journals_are_left_out_and_named() -> None:
    train("good", "policy")
    good = Path("runs/good/journal.jsonl").read_text(encoding="utf-8")
    written("killed", text=good[: good.rindex("\n", 0, -1) + 20])  # a last line cut short is no damage
    written("torn", text=good.replace("\n", '\n{"kind": ', 1))
    written("foreign", {"kind": "recipe", "eggs": 3})
    written("strange", text=good.replace('"finding": {', '"finding": [], "x": {'))
    written("binary", text="\x00\ufffd" * 50)
    written("empty", text="")
    Path("runs/folder/journal.jsonl").mkdir(parents=True)
    with illness("odd", lambda now: False), remedy("ruin", ruin), remedy("better", better):
        table, (read, left_out) = table_of()
    assert table["odd"][CAUSE]["better"] == {"won": 2, "resolved": 2}
    assert read == "learned order: 2 earlier runs beside this one were read"
    assert left_out.endswith("and 2 more")


def test_a_policy_that_this_version_cannot_read_is_left_out_with_the_reason() -> None:
    train("old", "policy")
    _, (_, left_out) = table_of()
    assert "old: policy:" in left_out
    assert "unknown" in left_out


def test_the_newest_runs_are_read_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    start = {"kind": "start", "tick": 0, "step": 0, "policy_yaml": "name: x"}
    for age in range(6):
        path = written(f"run{age}", start, {"kind": "note", "text": "x" * 1000})
        os.utime(path, (time.time() - 60 * age,) * 2)
    assert table_of()[1] == ("learned order: 6 earlier runs beside this one were read",)
    monkeypatch.setattr(learned, "MOST_RUNS", 4)
    assert table_of()[1] == ("learned order: 4 earlier runs beside this one were read",)
    monkeypatch.setattr(learned, "MOST_BYTES", 3000)
    read, left_out = table_of()[1]
    assert read == "learned order: 2 earlier runs beside this one were read"
    assert "run2: journals of" in left_out
    assert "run0" not in left_out


def test_a_place_beside_which_there_is_nothing_to_read_is_no_error() -> None:
    earlier = earlier_runs(LEARNED, Path("no", "such", "place"))
    assert (earlier.table, earlier.start) == ({}, {"order_table": {}})
