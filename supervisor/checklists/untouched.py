"""Whatever happens inside, the training is afterwards what it was before, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from supervisor.checkpoints import capture, restore
from supervisor.checkpoints.buffers import Kept, put_buffers
from supervisor.errors import UsageError
from supervisor.run import TrainingRun

Scheduler = LRScheduler | ReduceLROnPlateau | None


def stand_in(model: nn.Module, *others: Optimizer, scheduler: Scheduler = None) -> TrainingRun:
    """Return a run that holds all trainable parameters of `model`, whoever trains them; it is never stepped.

    Raises UsageError where no parameter can be trained.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        message = "model: none of its parameters requires a gradient, so there is nothing to train. Unfreeze some"
        raise UsageError(message)
    return TrainingRun(model, (torch.optim.SGD(trainable, lr=1.0), *others), scheduler)


class _Outsiders:
    """Modules beside the model that the train step runs: a teacher, a criterion. Kept as each is first entered."""

    def __init__(self, known: nn.Module) -> None:
        self.seen = {id(module) for module in known.modules()}
        self.buffers: Kept = []
        self.gradients: list[tuple[nn.Parameter, torch.Tensor | None]] = []

    def enter(self, module: nn.Module, _inputs: Any) -> None:  # noqa: ANN401 - a hook's signature
        if id(module) in self.seen:
            return
        self.seen.add(id(module))
        for name, live in module._buffers.items():  # noqa: SLF001
            self.buffers.append((module, name, live, None if live is None else live.detach().clone()))
        self.set_aside(module._parameters.values())  # noqa: SLF001

    def set_aside(self, parameters: Any) -> None:  # noqa: ANN401 - any iterable of parameters or None
        for parameter in parameters:
            if parameter is not None and all(parameter is not known for known, _ in self.gradients):
                self.gradients.append((parameter, parameter.grad))
                parameter.grad = None

    def put_back(self) -> None:
        put_buffers(self.buffers)
        for parameter, gradient in self.gradients:
            parameter.grad = gradient


@contextmanager
def untouched(model: nn.Module, optimizers: Sequence[Optimizer], scheduler: Scheduler = None) -> Iterator[None]:
    """Put everything back on the way out that a training step can change.

    Parameters, buffers, gradients (the very same tensors; None stays None), optimizer and scheduler state, random
    numbers, train/eval flags, requires_grad; of modules beside the model their buffers and gradients. Memory: one copy
    of model and optimizer state. Inside, every gradient is None at first.
    """
    run = stand_in(model, *optimizers, scheduler=scheduler)
    before = capture(run)
    outsiders = _Outsiders(model)
    outsiders.set_aside(model.parameters())
    outsiders.set_aside(p for o in optimizers for group in o.param_groups for p in group["params"])
    with ExitStack() as stack:
        stack.callback(outsiders.put_back)
        stack.callback(restore, run, before)
        stack.callback(register_module_forward_pre_hook(outsiders.enter).remove)
        yield


def copied(batch: Any) -> Any:  # noqa: ANN401 - a batch may be anything
    """Return `batch` with its tensors cloned, so that a train step may write into them."""
    if isinstance(batch, torch.Tensor):
        return batch.detach().clone().requires_grad_(batch.requires_grad)
    if isinstance(batch, Mapping) and type(batch) is dict:
        return {key: copied(value) for key, value in batch.items()}
    if type(batch) in (list, tuple):
        return type(batch)(copied(value) for value in batch)
    return batch
