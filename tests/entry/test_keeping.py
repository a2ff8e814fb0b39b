"""The last good state lies on disk where a run does not end as it was asked to."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from supervisor.checkpoints.store import Store
from supervisor.entry import keeping
from tests.entry.trainings import Batch, Lab, batches, journal, lab, poisoned, run_of, values
from tests.entry.words import policy

RULES = {"non_finite": ["rollback", "stop"]}


def test_a_stop_leaves_the_last_good_state_on_disk_and_says_where() -> None:
    training = lab()
    report = training.supervised(poisoned(batches(60), 41, 42, 43), policy=policy(RULES))
    assert report.status == "stopped"
    (line,) = journal("checkpoint")
    assert line["status"] == "saved"
    assert any(line["path"] in note for note in report.notes)
    loaded = Store(Path("run/checkpoints")).load()
    assert loaded is not None
    fresh = lab()
    loaded.restore(run_of(fresh))
    assert values(fresh, rng=False)["parameters"] == values(training, rng=False)["parameters"]
    assert all(bool(torch.isfinite(p).all()) for p in fresh.model.parameters())


def test_a_crash_of_the_user_s_code_does_so_too() -> None:
    class Crashing(Lab):
        def train_step(self, batch: Batch) -> Tensor:
            if self.calls >= 40:
                message = "the disk is gone"
                raise OSError(message)
            return super().train_step(batch)

    training = lab()
    with pytest.raises(OSError, match="the disk is gone"):
        Crashing(training.model, training.optimizers).supervised(batches(60), policy=policy(RULES))
    assert [line["status"] for line in journal("checkpoint")] == ["saved"]


def test_a_completed_run_and_one_that_never_rolls_back_save_nothing() -> None:
    lab().supervised(batches(30), policy=policy(RULES))
    assert journal("checkpoint") == []
    lab().supervised(poisoned(batches(30), 9), policy=policy({"non_finite": ["stop"]}), run_dir="other")
    assert journal("checkpoint", "other") == []


def test_a_long_run_saves_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "EVERY", 0.0)
    lab().supervised(batches(60), policy=policy(RULES))
    ticks = [line["of_tick"] for line in journal("checkpoint")]
    assert ticks == sorted(set(ticks))
    assert len(ticks) >= 2


def test_a_folder_that_cannot_be_written_is_told_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "EVERY", 0.0)
    Path("run").mkdir()
    Path("run/checkpoints").write_text("a file is in the way")
    report = lab().supervised(batches(30), policy=policy(RULES))
    assert report.status == "completed"
    assert any("could not be saved" in note for note in report.notes)
    assert math.isfinite(report.final_loss)
