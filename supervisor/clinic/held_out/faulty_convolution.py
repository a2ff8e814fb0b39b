"""Faulty trainings of convolutional networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out import _data as data
from supervisor.clinic.held_out._build import (
    DEAD,
    EXPLODING,
    NON_FINITE,
    PLATEAU,
    SATURATION,
    UNSTABLE,
    VANISHING,
    Recipe,
    adam,
    adamw,
    rmsprop,
    sgd,
    sick,
)
from supervisor.clinic.held_out._convolution import DenseBlock, Squeeze, plain_net, signal_net
from supervisor.clinic.held_out._faults import batch_at, jump, normal, once
from supervisor.diagnoses import causes as by


def _batch_norm(width: int) -> nn.Module:
    return nn.BatchNorm1d(width)


signals = Recipe(data.signals, lambda: signal_net(nn.ReLU, norm=_batch_norm), adam(3e-3), steps=500)
signals_sgd = Recipe(data.signals, lambda: signal_net(nn.ReLU, norm=_batch_norm), sgd(0.05), steps=700)
maps = Recipe(tasks.images, lambda: DenseBlock(6, 4), adam(3e-3), steps=500)
maps_sgd = Recipe(tasks.images, lambda: plain_net(nn.ReLU), sgd(0.05), steps=700)
squeeze = Recipe(tasks.images, lambda: Squeeze(16, 2), adam(5e-3), steps=500)
bounded = Recipe(tasks.images, lambda: plain_net(nn.Hardtanh), adamw(3e-3), steps=600)


class _Standardized(nn.Module):
    """Divides every image by its own spread, which a blank one does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.net = plain_net(nn.LeakyReLU)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net((x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True))
        return result


def _spoil(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Lose one sample's first reading, as a broken sensor does."""
    x[0, 0, 0] = torch.nan
    return x, y


def _sunk(model: nn.Module, _optimizer: Optimizer) -> None:
    """Push the biases of the convolutions to -20."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias.data.fill_(-20.0)


CASES: tuple[Case, ...] = (
    sick(
        "cnn/conv1d-softsign-12-normal-0.05",
        "cnn",
        signals,
        (VANISHING, PLATEAU),
        {by.INITIALIZATION, by.DEPTH, by.NO_SKIPS, by.ACTIVATION},
        model=lambda: signal_net(nn.Softsign, depth=12),
        init=normal(0.05),
        optimizer=sgd(0.02),
    ),
    sick(
        "cnn/conv2d-sigmoid-8-rmsprop",
        "cnn",
        maps,
        (VANISHING, PLATEAU),
        {by.ACTIVATION, by.DEPTH, by.INITIALIZATION, by.NO_SKIPS},
        model=lambda: plain_net(nn.Sigmoid, (8,) * 8),
        optimizer=rmsprop(1e-3),
    ),
    sick(
        "cnn/densenet-kernels-normal-1.5-sgd",
        "cnn",
        maps,
        (EXPLODING, NON_FINITE, UNSTABLE, DEAD),
        {by.INITIALIZATION, by.LARGE_WEIGHTS, by.LARGE_LR, by.DEPTH},
        model=lambda: DenseBlock(6, 5),
        init=normal(1.5),
        optimizer=sgd(0.02),
    ),
    sick(
        "cnn/conv1d-nan-batch-at-180",
        "cnn",
        signals,
        (NON_FINITE,),
        {by.BAD_BATCH},
        onset=180,
        corrupt=batch_at(180, lambda x, y: (torch.full_like(x, torch.nan), y)),
    ),
    sick(
        # A step skipped costs nothing; a run that is not stopped and not skipped ends with its first bad sample.
        "cnn/conv1d-nan-reading-every-fourth-batch-from-150",
        "cnn",
        signals,
        (NON_FINITE,),
        {by.BAD_BATCH},
        onset=152,
        corrupt=lambda tick, batch: _spoil(batch[0].clone(), batch[1]) if tick > 150 and tick % 4 == 0 else batch,
    ),
    sick(
        "cnn/blank-image-divided-by-its-spread-at-260",
        "cnn",
        Recipe(tasks.images, _Standardized, adam(3e-3), steps=500),
        (NON_FINITE,),
        {by.FORWARD_OVERFLOW, by.BAD_BATCH},
        onset=260,
        corrupt=batch_at(260, lambda x, y: (x * (torch.arange(len(x)) != 5).float()[:, None, None, None], y)),
    ),
    sick(
        "cnn/inf-in-images-at-90-rmsprop",
        "cnn",
        Recipe(tasks.images, lambda: plain_net(nn.ReLU), rmsprop(1e-3), steps=400),
        (NON_FINITE,),
        {by.BAD_BATCH},
        onset=90,
        corrupt=batch_at(90, lambda x, y: (x.index_fill(2, torch.tensor([4]), torch.inf), y)),
    ),
    sick(
        "cnn/conv1d-relu-adam-rate-1",
        "cnn",
        signals,
        (DEAD, UNSTABLE, EXPLODING),
        {by.LARGE_LR},
        model=lambda: signal_net(nn.ReLU),
        optimizer=adam(1.0),
    ),
    sick(
        "cnn/relu-rate-x200-at-200-sgd",
        "cnn",
        maps_sgd,
        (DEAD, UNSTABLE, EXPLODING, NON_FINITE),
        {by.LARGE_LR},
        onset=200,
        rate=jump(200, 200.0),
    ),
    sick(
        "cnn/squeeze-excite-groupnorm-rmsprop-rate-1",
        "cnn",
        squeeze,
        (UNSTABLE, EXPLODING),
        {by.LARGE_LR, by.LARGE_WEIGHTS},
        optimizer=rmsprop(1.0),
    ),
    sick(
        "cnn/hardtanh-biases-to-minus-20-at-250",
        "cnn",
        bounded,
        (SATURATION, VANISHING),
        {by.NEGATIVE_BIAS},
        onset=250,
        strike=once(250, _sunk),
    ),
    sick(
        "cnn/conv1d-sigmoid-6-normal-10",
        "cnn",
        signals_sgd,
        (SATURATION, VANISHING),
        {by.INITIALIZATION, by.LARGE_WEIGHTS, by.ACTIVATION},
        model=lambda: signal_net(nn.Sigmoid, depth=6),
        init=normal(10.0, nn.Conv1d),
    ),
    sick(
        "cnn/exponential-decay-0.96-a-step",
        "cnn",
        maps_sgd,
        (PLATEAU,),
        {by.DECAYED_LR, by.SMALL_LR},
        onset=113,
        rate=lambda step: 0.96**step,
    ),
    sick("cnn/conv1d-sgd-rate-1e-6", "cnn", signals_sgd, (PLATEAU,), {by.SMALL_LR}, optimizer=sgd(1e-6)),
)
