"""A loss that diverges, collapses or gets nowhere because of the steps, told from all that only looks so."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from supervisor.clinic import tasks
from supervisor.diagnoses import causes
from supervisor.records import Finding, Snapshot
from supervisor.registry import DETECTORS
from tests.diagnoses.shots import examined, sample, shot
from tests.diagnoses.trainings import watch

NAME = "unstable_training"
ALONE: dict[str, Any] = dict.fromkeys(name for name in DETECTORS.names() if name != NAME)
Batches = Iterator[tuple[Tensor, Tensor]]


def mlp(inputs: int = 64, outputs: int = 10, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 64), act(), nn.Linear(64, 64), act(), nn.Linear(64, outputs))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )


class Rows(nn.Module):
    """Reads a digit row by row."""

    def __init__(self, kind: type[nn.RNN | nn.LSTM] = nn.RNN) -> None:
        super().__init__()
        self.rnn, self.head = kind(8, 48, batch_first=True), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Four blocks with batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)
        blocks = [nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32)) for _ in range(4)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = F.relu(h + block(h))
        return self.last(h)  # type: ignore[no-any-return]


def sgd(lr: float, momentum: float = 0.9) -> Callable[[nn.Module], Optimizer]:
    return lambda model: torch.optim.SGD(model.parameters(), lr, momentum)


def adam(lr: float) -> Callable[[nn.Module], Optimizer]:
    return lambda model: torch.optim.Adam(model.parameters(), lr)


def rmsprop(lr: float) -> Callable[[nn.Module], Optimizer]:
    return lambda model: torch.optim.RMSprop(model.parameters(), lr)


def of(task: tasks.Task, size: int = 32) -> Batches:
    return task.batches(size, seed=0)


def entropy(model: nn.Module, batch: tuple[Tensor, Tensor], tick: int) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def squares(model: nn.Module, batch: tuple[Tensor, Tensor], tick: int) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


@dataclass(frozen=True)
class Case:
    """A training; `onset` is the tick from which it is sick, `jump` by how much the rate is too high from there on."""

    model: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], Optimizer]
    data: Callable[[], Batches] = lambda: of(tasks.digits())
    loss: Callable[[nn.Module, Any, int], Tensor] = entropy
    onset: int = 1
    jump: float = 1.0
    schedule: Callable[[Optimizer], LRScheduler] | None = None

    def findings(self, ticks: int, seed: int = 0) -> list[Finding]:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        model, now = self.model(), [0]
        optimizer = self.optimizer(model)
        scheduler = self.schedule(optimizer) if self.schedule else None

        def between(tick: int) -> None:
            now[0] = tick
            for group in optimizer.param_groups:
                group["lr"] *= self.jump if tick == self.onset else 1.0
            if scheduler is not None and tick > 1:
                scheduler.step()

        loss = self.loss
        data = self.data()
        return watch(
            model, optimizer, data, ticks, loss=lambda batch: loss(model, batch, now[0]), between=between, **ALONE
        ).of(NAME)


def endless(task: tasks.Task) -> Batches:
    while True:
        yield task.train


def rows() -> Batches:
    return of(tasks.rows())


def waves() -> Batches:
    return of(tasks.waves(), 64)


SICK: dict[str, tuple[Case, int]] = {  # and within how many ticks of the onset it must be seen
    "mlp, adam, 1000 times": (Case(mlp, adam(1.0)), 70),
    "mlp, rmsprop, 100 times": (Case(mlp, rmsprop(0.1)), 70),
    "mlp, sgd, 100 times": (Case(mlp, sgd(3.0)), 70),
    "deep tanh mlp, sgd": (Case(lambda: mlp(act=nn.Tanh), sgd(3.0)), 70),
    "cnn, sgd, 30 times": (Case(cnn, sgd(3.0), lambda: of(tasks.images())), 70),
    "cnn, adam, 1000 times": (Case(cnn, adam(1.0), lambda: of(tasks.images())), 70),
    "rnn, adam, 100 times": (Case(Rows, adam(0.1), rows), 70),
    "rnn, sgd, 30 times": (Case(Rows, sgd(1.0), rows), 70),
    "lstm, rmsprop, 300 times": (Case(lambda: Rows(nn.LSTM), rmsprop(0.3), rows), 100),
    "regression, adam, 1000 times": (Case(lambda: mlp(5, 1, nn.Tanh), adam(1.0), waves, squares), 150),
    "full batch beyond the edge": (Case(mlp, sgd(10.0, 0.0), lambda: endless(tasks.digits())), 70),
    "a jump of the rate": (Case(mlp, sgd(0.03), onset=150, jump=100.0), 90),
    "a jump of adam's rate": (Case(Rows, adam(1e-3), rows, onset=200, jump=100.0), 90),
    "an rnn that learns and collapses": (Case(Rows, sgd(0.1), rows), 500),
}  # fmt: skip


@pytest.mark.parametrize("name", SICK)
def test_a_training_whose_steps_are_too_large_is_seen(name: str) -> None:
    case, within = SICK[name]
    findings = case.findings(case.onset + within)
    assert findings
    assert findings[0].tick > case.onset
    assert findings[0].cause == causes.LARGE_LR
    assert {"value", "limit", "figure", "loss", "noise", "lr"} <= set(findings[0].evidence)


def changed(change: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]], size: int = 32) -> Batches:
    """Yield digits changed by tick, inputs or targets."""
    for tick, (x, y) in enumerate(of(tasks.digits(), size), start=1):
        yield change(tick, x, y)


def curriculum(tick: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, y if tick > 150 else y % 2


def permuted(tick: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, (y + 3 * (tick // 120)) % 10


def noisier(tick: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x + min(1.0, max(0.0, (tick - 100) / 200)) * torch.randn_like(x), y


def unlearnable(tick: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, torch.randint_like(y, 10)


def every_other(tick: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return (x, y) if tick % 2 else unlearnable(tick, x, y)


def smoothed(model: nn.Module, batch: tuple[Tensor, Tensor], tick: int) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.3 if tick > 150 else 0.0)


def penalized(model: nn.Module, batch: tuple[Tensor, Tensor], tick: int) -> Tensor:
    out: Tensor = model(batch[0])
    return F.cross_entropy(out, batch[1]) + min(1.0, tick / 300) * 0.05 * out.square().sum(1).mean()


def likelihood(model: nn.Module, batch: tuple[Tensor, Tensor], tick: int) -> Tensor:
    out: Tensor = model(batch[0])
    mean, log_sigma = out.chunk(2, 1)
    return (log_sigma + 0.5 * ((batch[1] - mean) / log_sigma.exp()).square()).mean()


def heavy_tailed(model: nn.Module, batch: tuple[Tensor, Tensor], tick: int) -> Tensor:
    noise = torch.distributions.StudentT(1.5).sample(batch[1].shape)
    return F.mse_loss(model(batch[0]), batch[1] + 0.3 * noise)


HEALTHY: dict[str, Case] = {
    "mlp": Case(mlp, adam(1e-3)),
    "mlp, large but fine": Case(mlp, sgd(0.1)),
    "rnn": Case(Rows, adam(1e-3), rows),
    "lstm with a long start": Case(lambda: Rows(nn.LSTM), sgd(0.05), rows),
    "batch normalization, sgd 0.1": Case(Residual, sgd(0.1)),
    "a harder task from 150 on": Case(mlp, adam(1e-3), lambda: changed(curriculum)),
    "labels permuted every 120": Case(mlp, sgd(0.03), lambda: changed(permuted)),
    "labels permuted, slowly learned": Case(mlp, sgd(0.01), lambda: changed(permuted)),
    "noisier and noisier inputs": Case(mlp, adam(1e-3), lambda: changed(noisier)),
    "random labels": Case(mlp, adam(1e-3), lambda: changed(unlearnable)),
    "random labels, single inputs": Case(mlp, sgd(5e-3), lambda: changed(unlearnable, 1)),
    "every other batch random": Case(mlp, adam(1e-3), lambda: changed(every_other)),
    "single inputs": Case(mlp, sgd(5e-3), lambda: of(tasks.digits(), 1)),
    "label smoothing switched on": Case(mlp, adam(1e-3), loss=smoothed),
    "a penalty that grows": Case(mlp, adam(1e-3), loss=penalized),
    "a likelihood that becomes negative": Case(lambda: mlp(5, 2), adam(3e-3), waves, likelihood),
    "heavy-tailed targets": Case(lambda: mlp(5, 1), adam(1e-3), waves, heavy_tailed),
    "full batch at the edge": Case(lambda: mlp(act=nn.Tanh), sgd(0.5, 0.0), lambda: endless(tasks.digits())),
    "one cycle": Case(Residual, sgd(0.01), schedule=lambda o: OneCycleLR(o, 0.3, total_steps=400)),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_what_only_looks_unstable_is_left_alone(name: str) -> None:
    assert HEALTHY[name].findings(400) == []


def course(losses: Any, moved: float, **changes: Any) -> list[Snapshot]:
    """Return a training with 2 % noise on its losses, whose steps move the weights by `moved`."""
    noise = np.random.default_rng(0).normal(size=len(losses))
    return [
        shot(t, float(v) + 0.02 * e, sample=sample(moved) if t <= 4 or t % 10 == 1 else None, **changes)
        for t, (v, e) in enumerate(zip(losses, noise, strict=True), start=1)
    ]


def found(shots: list[Snapshot]) -> list[int]:
    """Return the ticks at which this detector finds something."""
    return [finding.tick for finding in examined(shots, **ALONE)]


FALL = [0.2 + 2.1 * math.exp(-t / 40) for t in range(200)]
LOST = [*FALL, *[2.3] * 150]


def test_a_collapse_is_seen_within_its_window_and_as_long_as_it_stands() -> None:
    ticks = found(course(LOST, moved=0.1))
    assert 215 <= ticks[0] <= 240
    assert len(ticks) > 100


def test_ground_lost_under_ordinary_steps_is_the_datas_doing() -> None:
    assert found(course(LOST, moved=0.01)) == []


def test_a_jump_that_falls_again_is_a_new_task() -> None:
    assert found(course([*FALL, *FALL], moved=0.1)) == []


def test_a_spike_of_some_ticks_is_no_course() -> None:
    assert found(course([*FALL, *[40.0] * 10, *[0.2] * 100], moved=0.1)) == []


def test_noise_is_no_course_however_large() -> None:
    noise = np.random.default_rng(1).normal(size=400)
    assert found(course([*FALL, *(0.2 + np.abs(noise))], moved=0.2)) == []


@pytest.mark.parametrize(("factor", "constant"), [(1e-6, 0.0), (1e6, 0.0), (1.0, -5.0)])
def test_neither_scale_nor_constant_of_the_loss_matters(factor: float, constant: float) -> None:
    shots = course(LOST, moved=0.1)
    changed = [dataclasses.replace(now, loss=float(np.float32(now.loss * factor + constant))) for now in shots]
    assert found(changed) == found(shots)


def test_a_training_thrown_off_by_its_first_steps_is_seen_until_the_rate_is_lowered() -> None:
    losses = [2.3, 9.0, 300.0, 90.0, 40.0, 20.0, 9.0, 5.0, 3.0, *[2.3] * 140]
    thrown, slower = course(losses, moved=0.4), course(losses, moved=0.01, lr=0.01)
    assert 31 <= found(thrown)[0] <= 60
    assert max(found([*thrown[:60], *slower[60:]])) <= 60
