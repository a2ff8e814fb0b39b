"""A standing controller on the tick clock."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from supervisor.errors import RemedyRefused
from supervisor.remedies.reduce_lr_on_plateau import ReduceLrOnPlateau
from supervisor.run import TrainingRun
from tests.remedies.sick import decision, sick_run


def train(run: TrainingRun, losses: list[float]) -> list[float]:
    rates = []
    for loss in losses:
        run.take_step(loss)
        rates.append(run.lr_multiplier)
    return rates


def test_it_lowers_the_rate_each_time_the_loss_stands_down_to_min_lr() -> None:
    run = sick_run()
    ReduceLrOnPlateau(factor=0.1, patience=20, min_lr=5e-5).apply(run, decision())
    rates = train(run, [1.0] * 100)
    assert sorted(set(rates), reverse=True) == pytest.approx([1.0, 0.1, 0.05])
    assert run.lr >= 5e-5


def test_a_loss_that_falls_or_is_not_finite_lowers_nothing() -> None:
    run = sick_run()
    ReduceLrOnPlateau(patience=20).apply(run, decision())
    assert set(train(run, [(5.0 - step / 100, math.nan, math.inf)[step % 3] for step in range(300)])) == {1.0}


def test_it_goes_on_beside_a_schedule_and_outlives_it() -> None:
    run = sick_run()
    run.scheduler = CosineAnnealingLR(run.optimizers[0], 1000)
    ReduceLrOnPlateau(factor=0.5, patience=20).apply(run, decision())
    train(run, [1.0] * 30)
    assert run.lr_multiplier == 0.5
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3, rel=0.01)


def test_a_second_one_and_one_beside_the_users_own_are_refused() -> None:
    run = sick_run()
    ReduceLrOnPlateau().apply(run, decision())
    with pytest.raises(RemedyRefused, match="stands already"):
        ReduceLrOnPlateau(patience=5).apply(run, decision())
    other = sick_run()
    other.scheduler = ReduceLROnPlateau(other.optimizers[0])
    with pytest.raises(RemedyRefused, match="scheduler of its own"):
        ReduceLrOnPlateau().apply(other, decision())


def test_where_the_rate_is_at_its_floor_already_it_is_refused() -> None:
    run = sick_run()
    for group in run.optimizers[0].param_groups:
        group["lr"] = torch.tensor(1e-8)
    with pytest.raises(RemedyRefused, match="min_lr"):
        ReduceLrOnPlateau().apply(run, decision())
