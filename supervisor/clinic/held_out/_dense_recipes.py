"""Well configured trainings of dense networks, from which the faulty ones are made."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.clinic import tasks
from supervisor.clinic.held_out import _data as data
from supervisor.clinic.held_out._build import (
    Recipe,
    adam,
    adamw,
    hits,
    sgd,
)
from supervisor.clinic.held_out._dense import Functional, stack

DIGITS = [64, 48, 48, 10]


WAVES = [5, 48, 48, 1]


digits_sgd = Recipe(tasks.digits, lambda: stack(DIGITS, nn.ReLU), sgd(0.05), steps=800)
digits_adam = Recipe(tasks.digits, lambda: Functional(DIGITS, F.relu), adamw(2e-3), steps=800)
waves_l1 = Recipe(tasks.waves, lambda: Functional(WAVES, F.relu), adam(3e-3), F.l1_loss, steps=1000)
wine = Recipe(
    data.raw_wine,
    lambda: nn.Sequential(nn.BatchNorm1d(13), *stack([13, 32, 32, 3], nn.Tanh)),
    sgd(0.02),
    steps=600,
)
cancer = Recipe(
    lambda: _as_float(tasks.cancer()),
    lambda: stack([30, 32, 1], nn.Tanh),
    adam(1e-3),
    F.binary_cross_entropy_with_logits,
    steps=500,
    score=hits(lambda: _as_float(tasks.cancer())),
    chance=0.5,
)


def _as_float(task: tasks.Task) -> tasks.Task:
    """Return a task of two classes with targets (n, 1) as binary losses take them."""
    (x, y), (held, labels) = task.train, task.test
    return tasks.Task((x, y.float()[:, None]), (held, labels.float()[:, None]), task.metric)


class Priced(nn.Module):
    """A network whose outputs are in units of the targets: mean and spread are taken from the training part."""

    def __init__(self) -> None:
        super().__init__()
        self.net = stack([8, 48, 48, 1], nn.ReLU)
        target = data.prices().train[1]
        self.mean, self.std = float(target.mean()), float(target.std())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.mean + self.std * self.net(x)
        return result


def _relative(out: Tensor, target: Tensor) -> Tensor:
    return ((out - target) / data.prices().train[1].std()).square().mean()


prices = Recipe(data.prices, Priced, sgd(0.02), _relative, steps=600)


def _expectile(out: Tensor, target: Tensor) -> Tensor:
    error = target - out
    return (torch.where(error > 0, 0.6, 0.4) * error.square()).mean()


expectile = Recipe(tasks.waves, lambda: stack(WAVES, nn.SiLU), adam(3e-3), _expectile, steps=800)
