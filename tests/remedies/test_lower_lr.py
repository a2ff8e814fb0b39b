"""Lowering the learning rate beside the user's schedule."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from supervisor.errors import RemedyRefused
from supervisor.remedies.lower_lr import LowerLr
from supervisor.run import TrainingRun
from tests.remedies.sick import decision, sick_run


def two_groups(*rates: float) -> TrainingRun:
    model = nn.ModuleList([nn.Linear(2, 2) for _ in rates])
    groups = [{"params": list(part.parameters()), "lr": lr} for part, lr in zip(model, rates, strict=True)]
    return TrainingRun(model, (torch.optim.SGD(groups),))


def test_it_multiplies_and_says_so() -> None:
    run = sick_run()
    effect = LowerLr(factor=0.5).apply(run, decision())
    assert run.lr == 5e-4
    assert effect.changes["lr"] == (1e-3, 5e-4)


@pytest.mark.parametrize("rates", [(1e-3, 3e-7), (3e-7,), (0.1, 0.07, 0.0)])
def test_no_group_goes_below_min_lr(rates: tuple[float, ...]) -> None:
    run = two_groups(*rates)
    for _ in range(20):
        try:
            LowerLr(factor=0.3, min_lr=1e-7).apply(run, decision())
        except RemedyRefused as refusal:
            assert "cannot go lower" in str(refusal)  # noqa: PT017 - when it refuses depends on the rates
            break
    effective = [rate * run.lr_multiplier for rate in rates if rate > 0]
    assert min(effective) == pytest.approx(1e-7)
    assert all(rate >= 1e-7 for rate in effective)
    with pytest.raises(RemedyRefused, match="cannot go lower"):
        LowerLr(factor=0.3, min_lr=1e-7).apply(run, decision())


def test_a_scheduler_that_recomputes_does_not_undo_it() -> None:
    run = sick_run()
    scheduler = LambdaLR(run.optimizers[0], lambda step: 1.0 / (1 + step))
    LowerLr().apply(run, decision())
    run.take_step(1.0)
    scheduler.step()
    assert run.optimizers[0].param_groups[0]["lr"] == 5e-4
    assert run.lr == pytest.approx(5e-5)


def test_undo_leaves_what_was_set_later() -> None:
    run = sick_run()
    first = LowerLr(factor=0.1).apply(run, decision())
    LowerLr(factor=0.5).apply(run, decision())
    first.undo()
    assert run.lr_multiplier == pytest.approx(0.5)


def test_a_group_that_its_user_wants_below_min_lr_does_not_bind_the_others() -> None:
    run = two_groups(1e-3, 1e-9)
    LowerLr(factor=0.1).apply(run, decision())
    assert run.lr == pytest.approx(1e-4)
    with pytest.raises(RemedyRefused, match="lower min_lr"):
        LowerLr().apply(two_groups(1e-8, 1e-9), decision())


def test_rprops_rate_steers_only_its_first_step_and_is_refused() -> None:
    model = nn.Linear(2, 2)
    run = TrainingRun(model, (torch.optim.Rprop(model.parameters(), lr=0.01),))
    with pytest.raises(RemedyRefused, match="no param_group of Rprop"):
        LowerLr().apply(run, decision())
