"""The run: the learning-rate multiplier beside every schedule, clipping, two clocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from supervisor.errors import RemedyRefused, UsageError
from supervisor.run import Clip, TrainingRun
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
    with run.effective_lr():
        assert group["lr"] == own * 0.1
    run.take_step(1.0)
    assert group["lr"] is own
    assert weight.item() == pytest.approx(1.0 - 0.1 * rate)


def test_it_returns_when_the_step_raises() -> None:
    run, optimizer, _ = one_weight()
    run.lr_multiplier = 0.5
    own = optimizer.param_groups[0]["lr"]

    def refuse(*_: object) -> None:
        raise ZeroDivisionError

    optimizer.register_step_pre_hook(refuse)
    with pytest.raises(ZeroDivisionError):
        run.take_step(1.0)
    assert optimizer.param_groups[0]["lr"] is own


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
    with run.effective_lr():
        rates = [group["lr"] for optimizer in run.optimizers for group in optimizer.param_groups]
    assert rates == [0.5, 0.25, 0.125]
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
