"""Faulty trainings of dense networks: gradients and values."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from supervisor.clinic.case import Case
from supervisor.clinic.held_out._build import (
    DEAD,
    EXPLODING,
    NON_FINITE,
    PLATEAU,
    UNSTABLE,
    VANISHING,
    rmsprop,
    sgd,
    sick,
)
from supervisor.clinic.held_out._dense import Functional, stack
from supervisor.clinic.held_out._dense_recipes import (
    cancer,
    digits_adam,
    digits_sgd,
    expectile,
    prices,
)
from supervisor.clinic.held_out._faults import batch_at, normal
from supervisor.diagnoses import causes as by


def _own_bce(out: Tensor, target: Tensor) -> Tensor:
    p = torch.sigmoid(out)
    return -(target * torch.log(p) + (1 - target) * torch.log(1 - p)).mean()


def _thin(model: nn.Module) -> None:
    """Set the length of every weight vector under weight normalization to a twentieth."""
    for name, p in model.named_parameters():
        if name.endswith("original0"):
            p.data.fill_(0.05)


def _weight_normed() -> nn.Module:
    net = stack([5, *[32] * 8, 1], nn.SiLU)
    for module in net:
        if isinstance(module, nn.Linear):
            parametrizations.weight_norm(module)
    return net


CASES: tuple[Case, ...] = (
    sick(
        "mlp/hardsigmoid-14-rmsprop",
        "mlp",
        digits_adam,
        (VANISHING, PLATEAU),
        {by.ACTIVATION, by.DEPTH, by.INITIALIZATION, by.NO_SKIPS},
        model=lambda: stack([64, *[48] * 13, 10], nn.Hardsigmoid),
        optimizer=rmsprop(1e-3),
    ),
    sick(
        "mlp/gelu-20-normal-0.02-sgd",
        "mlp",
        digits_sgd,
        (VANISHING, PLATEAU),
        {by.INITIALIZATION, by.DEPTH, by.NO_SKIPS},
        model=lambda: Functional([64, *[48] * 19, 10], F.gelu),
        init=normal(0.02),
        steps=400,
    ),
    sick(
        "mlp/weight-norm-lengths-0.05-silu-9",
        "mlp",
        expectile,
        (VANISHING, PLATEAU),
        {by.INITIALIZATION, by.DEPTH, by.NO_SKIPS, by.ACTIVATION},
        model=_weight_normed,
        init=_thin,
        optimizer=sgd(0.01),
        loss=F.mse_loss,
        steps=500,
    ),
    sick(
        "mlp/selu-8-normal-1-sgd",
        "mlp",
        digits_sgd,
        (EXPLODING, NON_FINITE, UNSTABLE),
        {by.INITIALIZATION, by.LARGE_WEIGHTS, by.LARGE_LR, by.DEPTH},
        model=lambda: stack([64, *[48] * 7, 10], nn.SELU),
        init=normal(1.0),
        optimizer=sgd(0.01),
    ),
    sick(
        "mlp/raw-prices-mse-sgd",
        "mlp",
        prices,
        (EXPLODING, NON_FINITE, UNSTABLE, DEAD),
        {by.BAD_TARGET, by.INPUT_SCALE, by.LARGE_LR},
        model=lambda: stack([8, 48, 48, 1], nn.ReLU),
        loss=F.mse_loss,
        optimizer=sgd(1e-3),
    ),
    sick(
        # Gradients of 1e5 and a step along them: the weights point anywhere, most units are silent, and stay so.
        "mlp/batches-x1000-from-250-to-252-momentum",
        "mlp",
        digits_sgd,
        (EXPLODING, UNSTABLE, DEAD),
        {by.BAD_BATCH, by.INPUT_SCALE},
        onset=250,
        corrupt=batch_at(250, lambda x, y: (x * 1000.0, y), lasting=3),
    ),
    sick(
        "mlp/expectile-nan-target-at-210",
        "mlp",
        expectile,
        (NON_FINITE,),
        {by.BAD_TARGET, by.BAD_BATCH},
        onset=210,
        corrupt=batch_at(210, lambda x, y: (x, y.index_fill(0, torch.tensor([3]), torch.nan))),
    ),
    sick(
        # 0 * log(0): one outlying patient, whom the network is sure about, is enough.
        "mlp/own-bce-log-of-zero-at-220",
        "mlp",
        cancer,
        (NON_FINITE,),
        {by.LOSS_OVERFLOW, by.BAD_BATCH, by.INPUT_SCALE, by.BACKWARD_OVERFLOW},
        onset=220,
        loss=_own_bce,
        model=lambda: stack([30, 32, 1], nn.LeakyReLU),
        corrupt=batch_at(220, lambda x, y: (torch.cat([x[:1] * 1e4, x[1:]]), y)),
    ),
)
