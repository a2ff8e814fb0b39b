"""What goes wrong: initializations, batches, schedules, and accidents in mid-run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from supervisor.clinic.development._build import Distortion, Fault
from supervisor.clinic.tasks import Batch, Task

Prepare = Callable[[nn.Module], object]


def weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the matrices of linear, convolutional and recurrent layers, in the order of definition."""
    kinds = (nn.Linear, nn.Conv2d, nn.RNNBase)
    owners = [module for module in model.modules() if isinstance(module, kinds)]
    return [p for owner in owners for p in owner.parameters(recurse=False) if p.dim() > 1]


def biases(model: nn.Module) -> list[nn.Parameter]:
    """Return the biases of the hidden linear, convolutional and recurrent layers: all owners' but the last."""
    kinds = (nn.Linear, nn.Conv2d, nn.RNNBase)
    owners = [module for module in model.modules() if isinstance(module, kinds)][:-1]
    return [p for owner in owners for name, p in owner.named_parameters(recurse=False) if "bias" in name]


@torch.no_grad()
def he(model: nn.Module) -> None:
    """Initialize for ReLU (He et al., 2015), biases zero."""
    for p in weights(model):
        nn.init.kaiming_normal_(p, nonlinearity="relu")
    for p in biases(model):
        p.zero_()


@torch.no_grad()
def xavier(model: nn.Module) -> None:
    """Initialize for tanh (Glorot & Bengio, 2010), biases zero."""
    for p in weights(model):
        nn.init.xavier_normal_(p, gain=5 / 3)
    for p in biases(model):
        p.zero_()


def normal(std: float) -> Prepare:
    """Return: draw every weight with this standard deviation, whatever the layer's width."""

    def prepare(model: nn.Module) -> None:
        for p in weights(model):
            nn.init.normal_(p, std=std)

    return prepare


def constant(value: float) -> Prepare:
    """Return: set every weight to one value, biases to zero: all units of a layer are alike and stay so."""

    def prepare(model: nn.Module) -> None:
        for p in weights(model):
            nn.init.constant_(p, value)
        for p in biases(model):
            nn.init.zeros_(p)

    return prepare


def scaled(factor: float, first: Prepare = lambda _model: None) -> Prepare:
    """Return: initialize by `first`, then multiply every weight."""

    @torch.no_grad()
    def prepare(model: nn.Module) -> None:
        first(model)
        for p in weights(model):
            p.mul_(factor)

    return prepare


def biased(value: float, first: Prepare = lambda _model: None) -> Prepare:
    """Return: initialize by `first`, then set every hidden bias."""

    @torch.no_grad()
    def prepare(model: nn.Module) -> None:
        first(model)
        for p in biases(model):
            p.fill_(value)

    return prepare


def orthogonal(gain: float = 1.0) -> Prepare:
    """Return: make the recurrent matrices orthogonal, times a gain."""

    @torch.no_grad()
    def prepare(model: nn.Module) -> None:
        for name, p in model.named_parameters():
            if "weight_hh" in name or "across.weight" in name:
                for part in p.split(p.shape[1]):
                    part.copy_(nn.init.orthogonal_(torch.empty_like(part), gain))

    return prepare


def of_softmax(model: nn.Module, batch: Batch) -> Tensor:
    """Return the cross-entropy of what a softmax went over already: it cannot fall far, and its gradients shrink."""
    share = torch.softmax(model(batch[0]), -1)
    return F.cross_entropy(share.reshape(-1, share.shape[-1]), batch[1].flatten())


def accident(tick: int, harm: Prepare) -> Fault:
    """Return: harm the model once, before the forward pass of `tick`."""

    def fault(now: int, model: nn.Module, _optimizer: Optimizer) -> None:
        if now == tick:
            with torch.no_grad():
                harm(model)

    return fault


def corrupt_state(tick: int, key: str, value: float) -> Fault:
    """Return: overwrite one figure of the optimizer's state, of all its parameters, once."""

    def fault(now: int, _model: nn.Module, optimizer: Optimizer) -> None:
        if now == tick:
            for state in optimizer.state.values():
                state[key].fill_(value)

    return fault


def batch_at(ticks: range, change: Callable[[Batch], Batch]) -> Distortion:
    """Return: change the batches of these ticks."""
    return lambda tick, batch: change(batch) if tick in ticks else batch


def inputs(change: Callable[[Tensor], Tensor]) -> Callable[[Batch], Batch]:
    """Return: change a batch's inputs."""
    return lambda batch: (change(batch[0]), batch[1])


def targets(change: Callable[[Tensor], Tensor]) -> Callable[[Batch], Batch]:
    """Return: change a batch's targets."""
    return lambda batch: (batch[0], change(batch[1]))


def one(value: float) -> Callable[[Tensor], Tensor]:
    """Return: set one element of a tensor's copy."""

    def change(x: Tensor) -> Tensor:
        x = x.clone()
        x.view(-1)[x.numel() // 2] = value
        return x

    return change


def rate(factor: Callable[[int], float]) -> Callable[[Optimizer], LRScheduler]:
    """Return a schedule: the factor of the learning rate at a tick."""
    return lambda optimizer: LambdaLR(optimizer, lambda step: factor(step + 1))


def unscaled(task: Callable[[], Task], factor: float, shift: float = 0.0) -> Callable[[], Task]:
    """Return the task with raw inputs, as if nobody had scaled them: in training and in scoring."""

    def build() -> Task:
        given = task()
        train, test = ((x * factor + shift, y) for x, y in (given.train, given.test))
        return dataclasses.replace(given, train=train, test=test)

    return build
