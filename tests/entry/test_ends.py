"""All the ways a run may end, and the record each of them leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from supervisor import Policy, supervise
from supervisor.errors import TrainingStopped
from supervisor.recording.metrics import read_curves
from tests.entry.trainings import Batch, Lab, batches, journal, lab, poisoned
from tests.entry.words import illness, policy, remedy


def raising(error: BaseException, at: int) -> Lab:
    training = lab()
    ordinary = training.train_step

    def step(batch: Batch) -> torch.Tensor:
        loss = ordinary(batch)
        if training.calls == at:
            raise error
        return loss

    training.train_step = step  # type: ignore[method-assign]
    return training


def generator(count: int) -> Iterator[Batch]:
    yield from batches(count)


@pytest.mark.parametrize(
    ("data", "asked", "steps", "reason"),
    [
        (batches(6), {}, 6, "the data ended"),
        (batches(6), {"epochs": 3}, 18, "the data ended"),
        (batches(6), {"steps": 4}, 4, "all 4 steps were taken"),
        (batches(6), {"steps": 20}, 20, "all 20 steps were taken"),
        (batches(6), {"steps": 20, "epochs": 2}, 12, "the data ended"),
        (batches(6), {"epochs": 3, "accumulate": 4}, 5, "the data ended"),
        (generator(6), {}, 6, "the data ended"),
        (generator(6), {"steps": 20}, 6, "the data ended"),
        (generator(6), {"steps": 4}, 4, "all 4 steps were taken"),
        (generator(6), {"epochs": 3}, 6, "the data ended"),
    ],
)
def test_a_training_that_ends_by_itself(data: Any, asked: dict[str, int], steps: int, reason: str) -> None:
    report = lab().supervised(data, **asked)
    assert (report.status, report.health, report.stop_reason) == ("completed", "healthy", reason)
    assert (report.steps, report.ticks) == (steps, steps)
    [end] = journal("end")
    assert (end["status"], end["steps"], end["stop_reason"]) == ("completed", steps, reason)


@pytest.mark.parametrize("at", [1, 2, 9])
@pytest.mark.parametrize("error", [ValueError("mine"), ZeroDivisionError(), SystemExit(3), TrainingStopped()])
def test_an_exception_in_the_train_step_passes_unchanged_after_the_record_is_closed(
    error: BaseException, at: int,
) -> None:  # fmt: skip
    with pytest.raises(type(error)) as raised:
        raising(error, at).supervised(batches(12))
    assert raised.value is error
    assert journal()[0]["kind"] == "start"
    end = journal()[-1]
    assert (end["kind"], end["status"], end["steps"]) == ("end", "failed", at - 1)
    assert type(error).__name__ in end["stop_reason"]


@pytest.mark.parametrize("at", [1, 2, 9])
def test_an_interruption_ends_with_a_report_and_a_complete_record(at: int) -> None:
    report = raising(KeyboardInterrupt(), at).supervised(batches(12))
    assert (report.status, report.steps) == ("interrupted", at - 1)
    assert journal()[0]["kind"] == "start"
    assert (journal()[-1]["kind"], journal()[-1]["status"]) == ("end", "interrupted")
    assert len(read_curves(report.run_dir)["tick"]) == at - 1


def test_an_exception_in_the_data_or_the_evaluation_is_recorded_too() -> None:
    def breaking() -> Iterator[Batch]:
        yield from batches(3)
        raise error

    error = OSError("disk")
    with pytest.raises(OSError, match="disk") as raised:
        lab().supervised(breaking())
    assert raised.value is error
    assert (journal()[-1]["status"], journal()[-1]["steps"]) == ("failed", 3)
    with pytest.raises(ZeroDivisionError):
        lab().supervised(batches(3), evaluate=lambda: 1 / 0, run_dir="other")
    assert journal(run_dir="other")[-1]["status"] == "failed"


def test_a_stop_by_the_policy_is_named() -> None:
    report = lab().supervised(poisoned(batches(12), 7), policy=policy({"non_finite": ["stop"]}))
    assert (report.status, report.ticks, report.steps) == ("stopped", 8, 7)
    assert "non_finite at tick 8" in report.stop_reason
    assert "bad batch" in report.stop_reason
    assert journal()[-1]["status"] == "stopped"


def test_a_training_that_only_repeats_itself_ends() -> None:
    """Every second batch is bad: two ticks a step."""
    bad = [batch for good, other in zip(batches(60), poisoned(batches(60), *range(60)), strict=True)
           for batch in (good, other)]  # fmt: skip
    rules = policy({"non_finite": [{"skip_step": {"budget": 100}}]})
    report = lab().supervised(bad, steps=30, policy=rules)
    assert (report.status, report.ticks) == ("completed", 46)
    assert report.stop_reason == "46 ticks, more than 1.5 times the 30 steps asked for"


def test_an_evaluation_is_taken_when_due_and_at_the_end() -> None:
    training = lab()
    report = training.supervised(batches(10), evaluate=lambda: {"loss": training.calls, "f1": 0.5}, evaluate_every=4)
    assert [(e["step"], e["metrics"]["loss"]) for e in report.evaluations] == [(4, 4.0), (8, 8.0), (10, 10.0)]
    assert [(e["step"], e["metrics"]["f1"]) for e in journal("evaluation")] == [(4, 0.5), (8, 0.5), (10, 0.5)]


def test_an_evaluation_is_taken_once_a_step_and_again_where_a_rollback_repeats_the_step() -> None:
    training = lab()
    data = poisoned(batches(30), 22)  # tick 23 goes back to the newest state proven good
    rules = policy({"non_finite": ["rollback"]})
    report = training.supervised(data, policy=rules, evaluate=lambda: training.calls, evaluate_every=12)
    back = [outcome.changes["step"][1] for outcome in report.outcomes if outcome.remedy == "rollback"]
    assert back == [10]
    assert [(e["tick"], e["step"]) for e in report.evaluations] == [(12, 12), (25, 12), (30, 17)]


def test_the_state_at_the_end_is_not_evaluated_twice() -> None:
    report = lab().supervised(batches(8), evaluate=lambda: 1.0, evaluate_every=4)
    assert [e["step"] for e in report.evaluations] == [4, 8]


def test_the_report_is_plain_data(tmp_path: Path) -> None:
    report = lab().supervised(poisoned(batches(20), 0, 19), evaluate=lambda: math.nan)
    report.to_json(tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert read == report.to_dict()
    assert read["interventions"] == [decision.id for decision in report.interventions]
    assert read["evaluations"][0]["metrics"]["loss"] == "nan"
    assert read["decisions"][0]["finding"]["evidence"]["loss"] == "nan"
    assert "skip_step" in report.summary()


def test_losses_of_the_report_are_those_of_healthy_ticks() -> None:
    training = lab()
    report = training.supervised(poisoned(batches(20), 19))
    assert report.final_loss == training.losses[18]
    assert report.best_loss == min(training.losses[:19])


def test_interventions_are_what_changed_the_training() -> None:
    """Advice and refusals are none, and a run with nothing else is not called recovered."""
    with illness("odd", lambda now: now.tick == 5), remedy("look", lambda *_: None):
        rules = policy({"odd": [{"lower_lr": {"min_lr": 1.0}}, "advise"]})
        report = lab().supervised(batches(110), policy=rules)
    assert [(o.remedy, o.status) for o in report.outcomes] == [("lower_lr", "refused"), ("advise", "applied")]
    assert (report.interventions, report.health) == ([], "healthy")


@pytest.mark.parametrize(("ticks", "health"), [(30, "recovered"), (8, "unresolved")])
def test_health_says_whether_what_was_found_is_over(ticks: int, health: str) -> None:
    report = lab().supervised(poisoned(batches(ticks), 5))
    assert report.health == health


def test_a_recorder_of_the_users_own_hears_all_and_may_break() -> None:
    class Mine:
        run_id = "mine-7"

        def __init__(self) -> None:
            self.kinds: list[str] = []

        def open(self, start: dict[str, Any], run_dir: Path) -> None:
            self.kinds.append(start["kind"])

        def record(self, entry: dict[str, Any]) -> None:
            self.kinds.append(entry["kind"])

        def snapshot(self, snapshot: object) -> None:
            if breaks:
                raise OSError

        def flush(self) -> None: ...

        def close(self, report: object) -> None:
            self.kinds.append("close")

    breaks = False
    mine = Mine()
    assert lab().supervised(poisoned(batches(12), 5), tracking=mine).run_id == "mine-7"
    assert mine.kinds == [*(entry["kind"] for entry in journal()), "close"]
    breaks = True
    report = lab().supervised(batches(12), tracking=Mine(), run_dir="other")
    assert (report.status, report.steps) == ("completed", 12)
    assert any("dropped" in entry["text"] for entry in journal("note", "other"))


def test_a_treated_run_that_loses_what_it_had_learned_is_not_called_recovered() -> None:
    """The weights are drawn anew at the end, from outside, without an explosion: no detector names that."""
    training = lab()
    learned = batches(120)

    def spoil(batch: Batch) -> Tensor:
        if training.calls == 100:
            torch.nn.init.zeros_(training.model.head.weight)  # type: ignore[arg-type, union-attr]
            for group in training.optimizers[0].param_groups:
                group["lr"] = 0.0
        return training.train_step(batch)

    for group in training.optimizers[0].param_groups:
        group["lr"] = 0.05
    report = supervise(
        spoil,
        model=training.model,
        optimizer=training.optimizers,
        data=poisoned(learned, 30),
        policy=Policy.from_dict({"name": "skip", "respond": {"non_finite": ["skip_step"]}}),
        tracking=None,
        run_dir="lost",
    )
    assert [decision.remedy for decision in report.interventions] == ["skip_step"]
    assert report.health == "unresolved"
    assert "what had been learned was lost" in report.notes[-1]
