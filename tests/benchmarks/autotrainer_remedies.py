"""AutoTrainer's remedies, each done to a training that was just built, by the names they have there.

A remedy returns the training to run instead, or raises RemedyRefused where it does not fit. Values that the
description leaves open are Keras's defaults, where it has any, because AutoTrainer is built on Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from supervisor.entry import Training
from supervisor.errors import RemedyRefused
from tests.benchmarks.autotrainer_surgery import activation, noise, ours

PATIENCE: Final = 0.05  # of the training, without a better loss, before the rate is lowered; none is described

Remedy = Callable[[Training], Training]


def clip(training: Training) -> Training:
    """Clip the gradients to norm 1 before every step."""

    def before(optimizer: Optimizer, *_: Any) -> None:
        torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)

    for optimizer in training.optimizers:
        optimizer.register_step_pre_hook(before)
    return training


def rate(training: Training, factor: float) -> Training:
    """Multiply every learning rate, whatever a schedule makes of it."""
    own: list[Any] = []

    def before(optimizer: Optimizer, *_: Any) -> None:
        own[:] = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * factor

    def after(optimizer: Optimizer, *_: Any) -> None:
        for group, lr in zip(optimizer.param_groups, own, strict=True):
            group["lr"] = lr

    for optimizer in training.optimizers:
        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)
    return training


def adam(training: Training) -> Training:
    """Train with Adam at its default rate; the schedule, made for another optimizer, goes. Refused where it is one."""
    if _adaptive(training):
        message = "it is trained with Adam already"
        raise RemedyRefused(message)
    return replace(training, optimizer=Adam(_parameters(training)), scheduler=None)


def optimizer(training: Training) -> Training:
    """Train with the other one of Adam and SGD with momentum, at its default rate."""
    if not _adaptive(training):
        return adam(training)
    return replace(training, optimizer=SGD(_parameters(training), lr=0.01, momentum=0.9), scheduler=None)


def _adaptive(training: Training) -> bool:
    return all("betas" in group for optimizer in training.optimizers for group in optimizer.param_groups)


def _parameters(training: Training) -> list[nn.Parameter]:
    return [p for optimizer in training.optimizers for group in optimizer.param_groups for p in group["params"]]


def rate_on_plateau(training: Training) -> Training:
    """Lower the rate tenfold wherever the loss stands, instead of any other schedule."""
    patience = max(1, round(PATIENCE * (training.steps or 1000)))
    if len(training.optimizers) > 1:
        message = "one scheduler cannot steer several optimizers"
        raise RemedyRefused(message)
    return replace(training, scheduler=ReduceLROnPlateau(training.optimizers[0], factor=0.1, patience=patience))


def batch_size(training: Training) -> Training:
    """Make batches twice as large; the same data are half as many steps."""
    return replace(training, accumulate=2 * training.accumulate, steps=max(1, (training.steps or 2) // 2))


def momentum(training: Training) -> Training:
    """Set the momentum to 0.9. Refused where the optimizer has none to set, or has it already."""
    groups = [group for optimizer in training.optimizers for group in optimizer.param_groups]
    if not any(group.get("momentum", 0.9) < 0.9 for group in groups):
        message = "the optimizer has a momentum of 0.9 already, or no such thing"
        raise RemedyRefused(message)
    for group in groups:
        group["momentum"] = 0.9
    return training


REMEDIES: Final[dict[str, Remedy]] = {
    "selu": partial(activation, to="selu"),
    "relu": partial(activation, to="relu"),
    "leaky relu": partial(activation, to="leaky_relu"),
    "tanh": partial(activation, to="tanh"),
    "batch norm": partial(ours, name="insert_norm"),  # where batch statistics make no sense, the norm that does
    "initializer": partial(ours, name="reinit_weights"),
    "clip": clip,
    "adam": adam,
    "optimizer": optimizer,
    "lower rate": partial(rate, factor=0.1),
    "raise rate": partial(rate, factor=10.0),
    "rate on plateau": rate_on_plateau,
    "batch size": batch_size,
    "momentum": momentum,
    "noise": noise,
}
