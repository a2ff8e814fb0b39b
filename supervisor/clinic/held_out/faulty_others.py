"""Faulty trainings of siamese nets, bumps, gates, experts and counts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
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
    hits,
    sgd,
    sick,
)
from supervisor.clinic.held_out._dense import Experts, Gated, Highway, Radial, Siamese, stack
from supervisor.clinic.held_out._faults import batch_at, fill, once
from supervisor.clinic.held_out._generative import Rate
from supervisor.diagnoses import causes as by


def _squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(-1)


def _euclidean(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum(-1).sqrt()


def _siamese(distance: Callable[[Tensor, Tensor], Tensor], last: Callable[[], nn.Module] = nn.Identity) -> nn.Module:
    return Siamese(nn.Sequential(*stack([64, 48, 24], nn.LeakyReLU), last()), distance)


def _exposed(out: Tensor, target: Tensor) -> Tensor:
    return F.poisson_nll_loss(out, target, log_input=True)


def _shut(model: nn.Module, _optimizer: Optimizer) -> None:
    """Push the biases of all gates to -40."""
    for name, p in model.named_parameters():
        if "gates" in name and name.endswith("bias"):
            p.data.fill_(-40.0)


def _drowned(model: nn.Module) -> None:
    """Begin with the biases of the experts' hidden layers at -20."""
    for name, p in model.named_parameters():
        if name.startswith("experts") and name.endswith("0.bias"):
            nn.init.constant_(p, -20.0)


highway = Recipe(tasks.digits, lambda: Highway(64, 40, 8, 10), adam(2e-3), steps=500)
alike = Recipe(
    data.pairs,
    lambda: _siamese(_squared),
    adam(3e-3),
    F.binary_cross_entropy_with_logits,
    steps=1200,
    size=64,
    score=hits(data.pairs),
    chance=0.5,
)
bumps = Recipe(data.spirals, lambda: Radial(2, 60, 3, 0.5), adam(1e-2), steps=800)
gated = Recipe(tasks.digits, lambda: Gated(64, 40, 2, 10, torch.sigmoid), adam(3e-3), steps=700)
routed = Recipe(tasks.waves, lambda: Experts(5, 32, 1, top=2), adam(5e-3), F.mse_loss, steps=800)
poisson = Recipe(data.counts, Rate, adam(3e-3), _exposed, steps=800)


CASES: tuple[Case, ...] = (
    sick(
        "other/highway-inputs-x10000-sgd",
        "other",
        highway,
        (SATURATION, VANISHING),
        {by.INPUT_SCALE, by.ACTIVATION},
        optimizer=sgd(0.05),
        corrupt=lambda _tick, batch: (batch[0] * 1e4, batch[1]),
    ),
    sick(
        "other/siamese-relu-code-dead-biases",
        "other",
        alike,
        (DEAD, PLATEAU),
        {by.NEGATIVE_BIAS, by.INITIALIZATION},
        model=lambda: _siamese(_squared, nn.ReLU),
        init=fill(-4.0),
    ),
    sick(
        # The derivative of sqrt at the 0 between two copies of one image is infinite, and inf * 0 follows.
        "other/siamese-identical-pair-at-240",
        "other",
        Recipe(
            data.pairs,
            lambda: _siamese(_euclidean),
            adam(3e-3),
            F.binary_cross_entropy_with_logits,
            steps=1200,
            size=64,
            score=hits(data.pairs),
            chance=0.5,
        ),
        (NON_FINITE,),
        {by.BACKWARD_OVERFLOW, by.BAD_BATCH, by.LOSS_OVERFLOW},
        onset=240,
        corrupt=batch_at(240, lambda x, y: (x.index_copy(0, torch.tensor([2]), x[2:3, :1].expand(-1, 2, -1)), y)),
    ),
    sick(
        # No point lies on any bump: exp(-500) is 0, and so is its derivative.
        "other/radial-bumps-too-far-and-narrow",
        "other",
        bumps,
        (PLATEAU, VANISHING, DEAD),
        {by.INITIALIZATION, by.NO_GRADIENT, by.INPUT_SCALE},
        model=lambda: Radial(2, 60, 3, 0.05, spread=30.0),
    ),
    sick(
        "other/glu-gate-biases-to-minus-40-at-280",
        "other",
        gated,
        (SATURATION, VANISHING),
        {by.NEGATIVE_BIAS},
        onset=280,
        strike=once(280, _shut),
    ),
    sick(
        "other/experts-relu-sgd-biases-minus-20",
        "other",
        routed,
        (DEAD, PLATEAU),
        {by.NEGATIVE_BIAS, by.INITIALIZATION},
        init=_drowned,
        optimizer=sgd(0.05),
    ),
    sick(
        "other/poisson-sgd-rate-0.5",
        "other",
        poisson,
        (EXPLODING, NON_FINITE, UNSTABLE),
        {by.LARGE_LR, by.LOSS_OVERFLOW, by.FORWARD_OVERFLOW},
        optimizer=sgd(0.5),
    ),
    sick(
        "other/poisson-features-x300-at-350",
        "other",
        poisson,
        (NON_FINITE, EXPLODING, UNSTABLE),
        {by.BAD_BATCH, by.INPUT_SCALE, by.LOSS_OVERFLOW, by.FORWARD_OVERFLOW},
        onset=350,
        corrupt=batch_at(350, lambda x, y: (x * 300.0, y)),
    ),
    sick("other/experts-adamw-rate-1e-8", "other", routed, (PLATEAU,), {by.SMALL_LR}, optimizer=adamw(1e-8)),
)
