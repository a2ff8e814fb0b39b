"""Recipes: a well configured training as data, of which a case changes the one thing that is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from supervisor.clinic.case import Case, Family, Program
from supervisor.clinic.tasks import Batch, Task
from supervisor.entry import Training
from supervisor.verification.branches import in_trial

Loss = Callable[[nn.Module, Batch], Tensor]
Fault = Callable[[int, nn.Module, Optimizer], None]  # before the forward pass of a tick
Distortion = Callable[[int, Batch], Batch]  # of the batch of a tick


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Return the cross-entropy of logits; places of a sequence count as samples."""
    out = model(batch[0])
    return F.cross_entropy(out.reshape(-1, out.shape[-1]), batch[1].flatten())


def squared(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean squared error."""
    return F.mse_loss(model(batch[0]), batch[1])


def untouched(_tick: int, batch: Batch) -> Batch:
    """Return the batch as it is."""
    return batch


def nothing(*_given: object) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Recipe:
    """What a training is made of. Called with a seed it is built, bit for bit the same each time."""

    task: Callable[[], Task]
    model: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], Optimizer]
    loss: Loss = cross_entropy
    steps: int = 800
    size: int = 32  # samples a batch
    prepare: Callable[[nn.Module], object] = nothing  # initialization, freezing
    schedule: Callable[[Optimizer], LRScheduler] | None = None
    distort: Distortion = untouched
    fault: Fault = nothing
    accumulate: int = 1
    context: str | None = None

    def __call__(self, seed: int) -> Program:
        """Build the training; seeds torch, and leaves it seeded for dropout and its like."""
        task = self.task()
        torch.manual_seed(seed)
        model = self.model()
        self.prepare(model)
        optimizer = self.optimizer(model)
        training = Training(
            self._train_fn(model, optimizer),
            model,
            optimizer,
            self._batches(task, seed),
            self.schedule(optimizer) if self.schedule else None,
            steps=self.steps,
            accumulate=self.accumulate,
            context=self.context,
        )
        return Program(training, partial(task.score, model), task.chance)

    def _batches(self, task: Task, seed: int) -> Iterator[Batch]:
        for tick, batch in enumerate(task.batches(self.size, seed), start=1):
            yield self.distort(tick, batch)

    def _train_fn(self, model: nn.Module, optimizer: Optimizer) -> Callable[[Batch], Tensor]:
        calls = itertools.count(1)

        def train_fn(batch: Batch) -> Tensor:
            if not in_trial():  # an accident strikes the training, not a passing attempt at one
                self.fault(next(calls), model, optimizer)
            return self.loss(model, batch)

        return train_fn


def faulty(
    name: str,
    twin: Recipe,
    expect: tuple[str, ...],  # the pathology that an expert would name first, then others that are right as well
    causes: set[str],
    onset: int = 1,
    **wrong: Any,  # noqa: ANN401 - fields of the recipe
) -> Case:
    """Return the case in which `wrong` replaces fields of the twin's recipe."""
    build = replace(twin, **wrong)
    return Case(name, _family(name), build, frozenset(expect), frozenset(causes), onset, twin, main=expect[0])


def healthy(name: str, build: Callable[[int], Program], trap: str) -> Case:
    """Return a control."""
    return Case(name, _family(name), build, trap=trap)


def _family(name: str) -> Family:
    return cast("Family", name.partition("/")[0])


def sgd(lr: float, momentum: float = 0.9, **more: Any) -> Callable[[nn.Module], Optimizer]:  # noqa: ANN401
    """Return a builder of SGD over the trainable parameters."""
    return lambda model: torch.optim.SGD(_trainable(model), lr=lr, momentum=momentum, **more)


def adam(lr: float = 1e-3, **more: Any) -> Callable[[nn.Module], Optimizer]:  # noqa: ANN401
    """Return a builder of Adam."""
    return lambda model: torch.optim.Adam(_trainable(model), lr=lr, **more)


def adamw(lr: float = 1e-3, **more: Any) -> Callable[[nn.Module], Optimizer]:  # noqa: ANN401
    """Return a builder of AdamW."""
    return lambda model: torch.optim.AdamW(_trainable(model), lr=lr, **more)


def rmsprop(lr: float = 1e-3, **more: Any) -> Callable[[nn.Module], Optimizer]:  # noqa: ANN401
    """Return a builder of RMSprop."""
    return lambda model: torch.optim.RMSprop(_trainable(model), lr=lr, **more)


def adagrad(lr: float = 1e-2, **more: Any) -> Callable[[nn.Module], Optimizer]:  # noqa: ANN401
    """Return a builder of Adagrad."""
    return lambda model: torch.optim.Adagrad(_trainable(model), lr=lr, **more)


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]
