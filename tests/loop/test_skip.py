"""A skipped step never happened."""

from __future__ import annotations

import math

import pytest
import torch

from tests.entry.optimizers import OPTIMIZERS, SCHEDULERS
from tests.entry.trainings import Batch, batches, lab, picture, poisoned, watched

NAN = math.nan


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("tick", [1, 6])
def test_a_skipped_step_never_happened(optimizer: str, tick: int) -> None:
    """Parameters, moments, step count, scheduler and buffers are those of before, bit for bit."""
    training = watched(optimizer, SCHEDULERS["cosine"])
    report = training.supervised(poisoned(batches(12), tick - 1))
    assert [d.remedy for d in report.decisions] == ["skip_step"]
    assert training.before_tick(tick + 1) == training.before_tick(tick)
    assert training.before_tick(tick + 2) != training.before_tick(tick)
    assert (report.ticks, report.steps) == (12, 11)


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_a_skip_keeps_every_kind_of_schedule_where_it_was(schedule: str) -> None:
    training = watched("sgd-momentum", SCHEDULERS[schedule])
    training.supervised(poisoned(batches(9), 4))
    assert training.before_tick(6) == training.before_tick(5)


def test_a_bad_micro_batch_skips_the_whole_step() -> None:
    training = watched()
    report = training.supervised(poisoned(batches(18), 7), accumulate=3)
    assert (report.ticks, report.steps) == (6, 5)
    assert training.pictures[9] == training.pictures[6]


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_whatever_is_not_finite_is_skipped(value: float) -> None:
    training = watched()
    report = training.supervised(poisoned(batches(9), 4, value=value))
    assert [(d.remedy, d.tick) for d in report.decisions] == [("skip_step", 5)]
    assert training.before_tick(6) == training.before_tick(5)


def test_a_gradient_that_is_not_finite_is_skipped_though_the_loss_is() -> None:
    training = watched()
    ordinary = training.train_step

    def root(batch: Batch) -> torch.Tensor:
        at_zero = training.model.get_parameter("head.bias").sum() * 0.0
        return ordinary(batch) + (torch.sqrt(at_zero) if training.calls == 5 else 0.0)

    training.train_step = root  # type: ignore[method-assign]
    report = training.supervised(batches(9))
    assert [(d.tick, d.finding.evidence["origin"]) for d in report.decisions] == [(5, "backward")]
    assert training.before_tick(6) == training.before_tick(5)


def test_all_that_a_skip_leaves_behind_is_the_tick() -> None:
    """A run with a bad batch ends where the run without that batch ends."""
    bad = lab(dropout=0.0)
    bad.supervised(poisoned(batches(12), 5), run_dir="bad")
    clean = lab(dropout=0.0)
    data = batches(12)
    clean.supervised(data[:5] + data[6:], run_dir="clean")
    assert picture(bad)["parameters"] == picture(clean)["parameters"]
    assert picture(bad)["buffers"] == picture(clean)["buffers"]
