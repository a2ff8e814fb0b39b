"""A step under what remedies have set: the user's groups, schedules and hooks go on as if nothing had happened."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR

from supervisor.rates import in_force, own_rates
from supervisor.registry import REMEDIES
from supervisor.run import TrainingRun
from supervisor.settings import Decay, Ramp, Settings
from tests.entry.optimizers import SCHEDULERS
from tests.entry.trainings import frozen
from tests.remedies.sick import decision

STEPS = 12
SET: dict[str, tuple[dict[str, Any], Callable[[int], float], Callable[[float], float]]] = {
    "lower_lr": ({"factor": 0.3}, lambda _: 0.3, lambda d: d),
    "raise_lr": ({"factor": 2.0}, lambda _: 2.0, lambda d: d),
    "warmup_lr": ({"ticks": 8, "start": 0.2}, lambda t: min(1.0, 0.2 + 0.1 * t), lambda d: d),
    "weight_decay": ({"factor": 4.0, "add": 0.01}, lambda _: 1.0, lambda d: 4.0 * d + 0.01 if d else 0.0),
}
"""By remedy: its parameters, what becomes of a rate so many ticks later, and of a decay."""

every_setting = pytest.mark.parametrize("remedy", SET)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULERS)


class Spy(torch.optim.SGD):
    """An SGD that notes what its groups hold while it steps."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.used: list[list[tuple[float, float]]] = []

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.used.append([(float(group["lr"]), group["weight_decay"]) for group in self.param_groups])
        super().step(closure)


def two_groups(schedule: Callable[[Any], Any] | None = None, *, tensor: bool = False) -> tuple[TrainingRun, Spy]:
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    rates = [torch.tensor(rate) if tensor else rate for rate in (0.07, 3e-3)]
    groups = [{"params": list(part.parameters()), "lr": rate} for part, rate in zip(model, rates, strict=True)]
    groups[0]["weight_decay"] = 0.02
    optimizer = Spy(groups, momentum=0.9)
    return TrainingRun(model, (optimizer,), schedule(optimizer) if schedule else None), optimizer


def train(run: TrainingRun, steps: int = STEPS) -> list[Any]:
    """Take steps; return the groups, to the last bit, after each."""
    groups = []
    for _ in range(steps):
        for parameter in run.parameters:
            parameter.grad = torch.ones_like(parameter)
        run.take_step(1.0)
        run.clock.tick += 1
        groups.append([{k: frozen(v) for k, v in g.items() if k != "params"} for g in run.optimizers[0].param_groups])
    return groups


@every_schedule
@every_setting
def test_a_setting_outlives_every_schedule_and_leaves_the_schedule_alone(remedy: str, schedule: str) -> None:
    """The groups are bit for bit those of a run that never had it; what the step uses is changed at every step."""
    params, rate, decay = SET[remedy]
    (bare, plain), (run, spy) = (two_groups(SCHEDULERS[schedule]) for _ in range(2))
    REMEDIES[remedy](**params).apply(run, decision())
    assert train(run) == train(bare)
    for tick, (used, own) in enumerate(zip(spy.used, plain.used, strict=True)):
        for (lr, wd), (own_lr, own_wd) in zip(used, own, strict=True):
            assert lr == pytest.approx(own_lr * rate(tick))
            assert wd == pytest.approx(decay(own_wd))


@every_schedule
@every_setting
def test_after_the_undo_the_training_is_that_of_a_run_that_never_had_it(remedy: str, schedule: str) -> None:
    (bare, _), (run, _) = (two_groups(SCHEDULERS[schedule]) for _ in range(2))
    REMEDIES[remedy](**SET[remedy][0]).apply(run, decision()).undo()
    assert run.settings == Settings()
    assert train(run) == train(bare)
    assert frozen(run.model.state_dict()) == frozen(bare.model.state_dict())
    assert frozen(run.optimizers[0].state_dict()) == frozen(bare.optimizers[0].state_dict())


@every_setting
def test_a_rate_kept_in_a_tensor_keeps_its_object_and_its_bits(remedy: str) -> None:
    """Within the step too: a captured graph reads that very place."""
    run, optimizer = two_groups(tensor=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    within: list[Any] = []
    settings, rate = run.settings, SET[remedy][1]
    REMEDIES[remedy](**SET[remedy][0]).apply(run, decision())
    assert run.settings != settings
    with in_force(run.optimizers, run.settings, run.clock.tick):
        within = [group["lr"] for group in optimizer.param_groups]
        assert [float(lr) for lr in within] == pytest.approx([0.07 * rate(0), 3e-3 * rate(0)])
    assert all(a is b for a, b in zip(within, rates, strict=True))
    assert [frozen(lr) for lr in rates] == [frozen(torch.tensor(rate)) for rate in (0.07, 3e-3)]


def test_groups_that_share_one_tensor_are_multiplied_once() -> None:
    run, optimizer = two_groups()
    shared = torch.tensor(0.5)
    for group in optimizer.param_groups:
        group["lr"] = shared
    run.lr_multiplier = 0.5
    train(run, 2)
    assert optimizer.used[-1] == [(0.25, 0.02), (0.25, 0.0)]
    assert shared == torch.tensor(0.5)


@pytest.mark.parametrize("when", ["pre", "post"])
@pytest.mark.parametrize("kind", ["chained", "recomputed"])
def test_a_schedule_that_lives_in_a_step_hook_sees_only_the_users_own_rates(when: str, kind: str) -> None:
    trainings = []
    for multiplier in (1.0, 0.1):
        run, optimizer = two_groups()
        chained, recomputed = ExponentialLR(optimizer, 0.9), LambdaLR(optimizer, lambda step: 1 / (1 + step))
        schedule = chained if kind == "chained" else recomputed
        getattr(optimizer, f"register_step_{when}_hook")(lambda *_, schedule=schedule: schedule.step())
        run.lr_multiplier = multiplier
        trainings.append((train(run), [lr / multiplier for step in optimizer.used for lr, _ in step]))
        assert len(getattr(optimizer, f"_optimizer_step_{when}_hooks")) == 1
    assert trainings[0][0] == trainings[1][0]
    assert trainings[0][1] == pytest.approx(trainings[1][1])


def test_a_compiled_step_goes_on_under_a_multiplier() -> None:
    run, optimizer = two_groups()
    run.optimizers[0].step = torch.compile(torch.optim.SGD.step.__get__(optimizer), backend="eager")  # type: ignore[method-assign]
    run.lr_multiplier = 0.5
    before = run.parameters[0].detach().clone()
    train(run, 1)
    assert (before - run.parameters[0]).mean().item() == pytest.approx(0.035, rel=0.05)
    assert optimizer.param_groups[0]["lr"] == 0.07


def test_neutral_settings_write_nothing() -> None:
    run, optimizer = two_groups()

    class Watched(dict[str, Any]):
        def __setitem__(self, key: str, value: object) -> None:
            raise AssertionError(key)

    optimizer.param_groups[0] = Watched(optimizer.param_groups[0])
    run.settings = replace(run.settings, ramp=Ramp(0.1, began=-9, until=0))  # over
    train(run, 1)


def test_what_is_set_is_taken_back_when_the_step_fails() -> None:
    run, optimizer = two_groups()
    own = [dict(group) for group in optimizer.param_groups]
    optimizer.register_step_pre_hook(lambda *_: None)
    optimizer.step = lambda *_: 1 / 0  # type: ignore[method-assign,assignment]
    run.settings = Settings(lr_multiplier=0.5, decay=Decay(0.0))
    with pytest.raises(ZeroDivisionError):
        run.take_step(1.0)
    assert [dict(group) for group in optimizer.param_groups] == own
    assert (len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)) == (1, 0)


def test_rates_that_steer_nothing_are_none() -> None:
    model = nn.Linear(1, 1)
    optimizers = [torch.optim.Rprop(model.parameters(), lr=0.01), torch.optim.SGD(model.parameters(), lr=0.0)]
    optimizers[1].add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 0.5})
    optimizers[1].add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": math.nan})
    assert own_rates(optimizers) == [0.5]
