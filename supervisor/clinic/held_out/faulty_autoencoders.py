"""Faulty trainings of autoencoders: plain, variational, convolutional."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
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
    adagrad,
    adam,
    rmsprop,
    sgd,
    sick,
)
from supervisor.clinic.held_out._convolution import UNet
from supervisor.clinic.held_out._dense import Functional, stack
from supervisor.clinic.held_out._faults import batch_at, jump, normal, once
from supervisor.clinic.held_out._generative import Variational, bound
from supervisor.diagnoses import causes as by


def _sunk(model: nn.Module, _optimizer: Optimizer) -> None:
    """Push the biases of all convolutions before a ReLU to -20."""
    for name, p in model.named_parameters():
        if name.endswith("0.bias"):
            p.data.fill_(-20.0)


digits = Recipe(tasks.reconstruction, lambda: stack([64, 40, 16, 40, 64], nn.ReLU), adam(3e-3), F.mse_loss, steps=900)
black = Recipe(
    data.bits,
    lambda: Functional([64, 40, 16, 40, 64], F.elu, torch.sigmoid),
    adam(3e-3),
    F.binary_cross_entropy,
    steps=900,
)
variational = Recipe(tasks.reconstruction, Variational, adam(3e-3), steps=700, step=bound)
unet = Recipe(data.denoising, UNet, adam(3e-3), F.mse_loss, steps=350)


CASES: tuple[Case, ...] = (
    sick(
        "autoencoder/functional-sigmoid-9-l1",
        "autoencoder",
        digits,
        (VANISHING, PLATEAU),
        {by.ACTIVATION, by.DEPTH, by.INITIALIZATION, by.NO_SKIPS},
        model=lambda: Functional([64, 40, 32, 24, 16, 16, 24, 32, 40, 64], torch.sigmoid),
        loss=F.l1_loss,
        optimizer=adam(1e-3),
    ),
    sick(
        "autoencoder/mish-8-normal-0.01-sgd",
        "autoencoder",
        digits,
        (VANISHING, PLATEAU),
        {by.INITIALIZATION, by.DEPTH, by.NO_SKIPS, by.ACTIVATION},
        model=lambda: stack([64, 40, 32, 24, 16, 24, 32, 40, 64], nn.Mish),
        init=normal(0.01),
        optimizer=sgd(0.1),
    ),
    sick(
        "autoencoder/leaky-8-normal-0.7-sgd",
        "autoencoder",
        digits,
        (EXPLODING, NON_FINITE, UNSTABLE),
        {by.INITIALIZATION, by.LARGE_WEIGHTS, by.LARGE_LR, by.DEPTH},
        model=lambda: stack([64, 48, 48, 48, 16, 48, 48, 48, 64], nn.LeakyReLU),
        init=normal(0.7),
        optimizer=sgd(0.05),
    ),
    sick(
        # exp() of a log variance in the thousands.
        "autoencoder/variational-rate-x3000-at-240",
        "autoencoder",
        variational,
        (EXPLODING, NON_FINITE, UNSTABLE),
        {by.LARGE_LR, by.FORWARD_OVERFLOW, by.LOSS_OVERFLOW},
        onset=240,
        rate=jump(240, 3000.0),
    ),
    sick(
        "autoencoder/unet-relu-biases-to-minus-20-at-150",
        "autoencoder",
        unet,
        (DEAD,),
        {by.NEGATIVE_BIAS},
        onset=150,
        model=lambda: UNet(activation=nn.ReLU),
        strike=once(150, _sunk),
    ),
    sick(
        "autoencoder/relu-adam-rate-1",
        "autoencoder",
        digits,
        (DEAD, UNSTABLE, EXPLODING),
        {by.LARGE_LR},
        optimizer=adam(1.0),
    ),
    sick(
        "autoencoder/hidden-sigmoid-adam-rate-3-bce",
        "autoencoder",
        black,
        (SATURATION, UNSTABLE, EXPLODING),
        {by.LARGE_LR, by.LARGE_WEIGHTS},
        model=lambda: Functional([64, 40, 16, 40, 64], torch.sigmoid, torch.sigmoid),
        optimizer=adam(3.0),
    ),
    sick(
        "autoencoder/tanh-rmsprop-rate-0.3",
        "autoencoder",
        digits,
        (UNSTABLE, SATURATION, EXPLODING),
        {by.LARGE_LR, by.LARGE_WEIGHTS},
        model=lambda: stack([64, 40, 16, 40, 64], nn.Tanh),
        optimizer=rmsprop(0.3),
    ),
    sick("autoencoder/unet-adagrad-rate-1e-6", "autoencoder", unet, (PLATEAU,), {by.SMALL_LR}, optimizer=adagrad(1e-6)),
    sick(
        "autoencoder/targets-x1e4-for-ten-batches-at-300",
        "autoencoder",
        digits,
        (EXPLODING, UNSTABLE, DEAD, NON_FINITE),
        {by.BAD_TARGET, by.BAD_BATCH},
        onset=300,
        optimizer=sgd(0.5),
        corrupt=batch_at(300, lambda x, y: (x, y * 1e4), lasting=10),
    ),
)
