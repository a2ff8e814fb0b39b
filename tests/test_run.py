"""The run: the learning-rate multiplier beside every schedule, clipping, two clocks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from supervisor.errors import RemedyRefused, UsageError
from supervisor.run import Clip, Settings, TrainingRun
from supervisor.settings import Decay, Plateau, Ramp
from tests.entry.optimizers import OPTIMIZERS, SCHEDULERS
from tests.entry.trainings import batches, lab, picture, run_of


def one_weight(lr: Any = 0.1, **group: Any) -> tuple[TrainingRun, Optimizer, torch.Tensor]:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD([{"params": model.parameters(), "lr": lr, **group}], lr=1.0)
    return TrainingRun(model, (optimizer,)), optimizer, model.weight


@pytest.mark.parametrize("rate", [0.1, 3e-4, 0.07, 1 / 3])
def test_the_users_rate_returns_as_the_very_same_object(rate: float) -> None:
    run, optimizer, weight = one_weight(rate)
    run.lr_multiplier = 0.1
    group = optimizer.param_groups[0]
    own = group["lr"]
    weight.grad = torch.ones_like(weight)
    run.take_step(1.0)
    assert group["lr"] is own
    assert weight.item() == pytest.approx(1.0 - 0.1 * rate)


def test_it_returns_when_the_step_raises() -> None:
    run, optimizer, weight = one_weight()
    run.lr_multiplier = 0.5
    own = optimizer.param_groups[0]["lr"]

    class Refusing:
        def __bool__(self) -> bool:  # asked for in the step itself, behind all hooks
            raise ZeroDivisionError

    optimizer.param_groups[0]["maximize"] = Refusing()
    weight.grad = torch.ones_like(weight)
    with pytest.raises(ZeroDivisionError):
        run.take_step(1.0)
    assert optimizer.param_groups[0]["lr"] is own
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_a_rate_kept_in_a_tensor_returns_as_the_same_tensor_with_the_same_value() -> None:
    rate = torch.tensor(0.1)
    run, optimizer, weight = one_weight(rate)
    run.lr_multiplier = 0.5
    weight.grad = torch.ones_like(weight)
    run.take_step(1.0)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == torch.tensor(0.1)
    assert weight.item() == pytest.approx(0.95)


def test_a_multiplier_of_one_touches_nothing() -> None:
    """Not even by multiplying: the group is not written to."""
    run, optimizer, weight = one_weight()
    weight.grad = torch.ones_like(weight)

    class Watched(dict[str, Any]):
        def __setitem__(self, key: str, value: object) -> None:
            assert key != "lr"
            super().__setitem__(key, value)

    optimizer.param_groups[0] = Watched(optimizer.param_groups[0])
    run.take_step(1.0)
    assert weight.item() == pytest.approx(0.9)


@pytest.mark.parametrize("schedule", sorted(SCHEDULERS.keys() - {"one cycle"}))  # it sets the momentum too
def test_a_schedule_goes_its_own_way_under_a_multiplier(schedule: str) -> None:
    """The user's rates are those of a run without a multiplier; what the optimizer uses is a tenth of them."""
    own: dict[float, list[float]] = {1.0: [], 0.1: []}
    for multiplier, rates in own.items():
        run, optimizer, weight = one_weight()
        run.scheduler, run.lr_multiplier = SCHEDULERS[schedule](optimizer), multiplier
        for _ in range(12):
            before, rate = weight.item(), optimizer.param_groups[0]["lr"]
            weight.grad = torch.ones_like(weight)
            run.take_step(1.0)
            assert before - weight.item() == pytest.approx(rate * multiplier, rel=1e-3)
            rates.append(optimizer.param_groups[0]["lr"])
    assert own[1.0] == own[0.1]
    assert own[1.0][-1] < own[1.0][0]


def test_several_optimizers_and_groups_are_all_multiplied() -> None:
    model = nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(3)])
    groups: list[dict[str, Any]] = [{"params": model[0].parameters(), "lr": 1.0}, {"params": model[1].parameters()}]
    first = torch.optim.SGD(groups, lr=0.5)
    second = torch.optim.SGD(model[2].parameters(), lr=0.25)
    run = TrainingRun(model, (first, second))
    run.lr_multiplier = 0.5
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.ones_like(parameter)
    run.take_step(1.0)
    assert [1.0 - parameter.item() for parameter in model.parameters()] == [0.5, 0.25, 0.125]
    assert run.lr == 0.5


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_multiplier_moves_what_a_rate_set_by_hand_would_move(optimizer: str) -> None:
    trainings = []
    for multiplier, factor in ((0.1, 1.0), (1.0, 0.1)):
        training = lab(optimizer)
        run = run_of(training)
        run.lr_multiplier = multiplier
        group = training.optimizers[0].param_groups[0]
        group["lr"] = group["lr"] * factor
        for batch in batches(5):
            run.drop_gradients()
            training.train_step(batch).backward()
            run.take_step(1.0)
        trainings.append(picture(training)["parameters"])
    assert trainings[0] == trainings[1]


def test_below_its_limit_a_clip_changes_not_one_bit_and_above_it_the_norm_is_the_limit() -> None:
    training = lab()
    run = run_of(training)
    training.train_step(batches(1)[0]).backward()
    gradients = [p.grad for p in run.parameters if p.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients])))
    before = [g.clone() for g in gradients]
    run.clip = Clip("norm", norm * 1.001, until=0)
    assert not run.clip_gradients(norm)
    assert all(torch.equal(a, b) for a, b in zip(gradients, before, strict=True))
    run.clip = Clip("norm", norm / 4, until=0)
    assert run.clip_gradients(norm)
    assert float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))) == pytest.approx(norm / 4)
    run.clip = Clip("value", 2.0**-10, until=0)
    assert run.clip_gradients(norm)
    assert max(float(g.abs().max()) for g in gradients) == 2.0**-10


def test_a_clip_ends_on_the_tick_clock_and_lets_what_is_not_finite_alone() -> None:
    run, _, weight = one_weight()
    weight.grad = torch.full_like(weight, 8.0)
    run.clip, run.clock.tick = Clip("norm", 1.0, until=3), 4
    assert not run.clip_gradients(8.0)
    run.clock.tick = 3
    assert not run.clip_gradients(float("inf"))
    assert not run.clip_gradients(float("nan"))
    assert run.clip_gradients(8.0)
    assert weight.grad is not None
    assert weight.grad.item() == 1.0


def test_an_optimizer_without_any_of_the_models_parameters_is_refused() -> None:
    model, other = nn.Linear(1, 1), nn.Linear(1, 1)
    for of, wanted in ((model, other), (model.requires_grad_(requires_grad=False), model)):
        with pytest.raises(UsageError, match=r"none of the model's trainable parameters.*model.parameters\(\)"):
            TrainingRun(of, (torch.optim.SGD(wanted.parameters(), lr=1.0),))


def test_the_first_reason_stands() -> None:
    run, *_ = one_weight()
    run.void_step("first")
    run.void_step("second")
    run.stop("one")
    run.stop("two")
    assert (run.voided, run.stop_reason) == ("first", "one")


def test_a_module_that_is_not_there_is_a_refusal() -> None:
    run, *_ = one_weight()
    assert run.module("") is run.model
    with pytest.raises(RemedyRefused, match="no module 'head'"):
        run.module("head")


def test_all_that_remedies_set_is_kept_and_put_back_by_one_assignment() -> None:
    run, *_ = one_weight()
    kept = run.settings
    run.lr_multiplier, run.clip = 0.5, Clip("norm", 1.0, until=9)
    run.settings = replace(run.settings, ramp=Ramp(0.1, 0, 10), decay=Decay(0.0))
    assert run.lr == pytest.approx(0.1 * 0.5 * 0.1)
    run.settings = kept
    assert run.settings == Settings()
    assert run.lr == 0.1


def test_an_optimizer_that_keeps_no_rate_as_a_number_still_trains() -> None:
    """Adafactor's relative step has `lr=None`: the rate is unknown, and a multiplier leaves it alone."""
    run, optimizer, weight = one_weight()
    weight.grad = torch.ones_like(weight)
    run.lr_multiplier = 0.5
    optimizer.param_groups[0]["lr"] = None
    assert math.isnan(run.lr)
    with pytest.raises(TypeError):  # SGD's own: it cannot do without
        run.take_step(1.0)
    assert optimizer.param_groups[0]["lr"] is None


def test_what_is_not_finite_is_never_clamped_wherever_it_stands() -> None:
    """A NaN in one gradient beside an ordinary spike in another: neither is touched."""
    model = nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(2)])
    run = TrainingRun(model, (torch.optim.SGD(model.parameters(), lr=1.0),))
    run.clip = Clip("value", 1.0, until=9)
    first, second = run.parameters
    first.grad, second.grad = torch.full_like(first, 8.0), torch.full_like(second, math.nan)
    assert not run.clip_gradients(math.nan)
    assert first.grad.item() == 8.0


@pytest.mark.parametrize(("kind", "expected"), [("norm", 4.0), ("value", 4.0)])
def test_sparse_gradients_are_clipped_as_their_sum(kind: str, expected: float) -> None:
    table = nn.Embedding(5, 1, sparse=True)
    run = TrainingRun(table, (torch.optim.SGD(table.parameters(), lr=1.0),))
    table(torch.tensor([2, 2])).sum().mul(4.0).backward()  # two entries of 4 for one row
    run.clip = Clip(kind, 4.0, until=9)
    assert run.clip_gradients(8.0)
    assert table.weight.grad is not None
    assert table.weight.grad.to_dense().flatten().tolist() == [0.0, 0.0, expected, 0.0, 0.0]


def test_a_standing_controller_lowers_the_rate_after_steps_without_progress() -> None:
    run, _, weight = one_weight()
    run.settings = replace(run.settings, on_plateau=Plateau(factor=0.5, patience=8, min_lr=0.02))
    rates = []
    for _ in range(60):
        weight.grad = torch.zeros_like(weight)
        run.take_step(1.0)
        rates.append(run.lr)
    assert sorted(set(rates), reverse=True) == pytest.approx([0.1, 0.05, 0.025, 0.02])
