"""Healthy trainings whose data make others cry wolf: odd batches, noise, imbalance, nothing to be learned."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out import _data as data
from supervisor.clinic.held_out._attention import Former
from supervisor.clinic.held_out._build import Recipe, adam, adamw, hits, rmsprop, sgd, well
from supervisor.clinic.held_out._convolution import plain_net
from supervisor.clinic.held_out._dense import Functional, stack
from supervisor.clinic.tasks import Batch, Task


@cache
def noisy(share: float) -> Task:
    """Digits, a share of whose training labels is drawn at random."""
    g = torch.Generator().manual_seed(31)
    (x, y), test = tasks.digits().train, tasks.digits().test
    wrong = torch.rand(len(y), generator=g) < share
    return Task((x, torch.where(wrong, torch.randint(10, y.shape, generator=g), y)), test, "accuracy")


@cache
def exclusive() -> Task:
    """Return all 64 rows of six bits; the target is the exclusive or of the first two."""
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6)
    y = (x[:, 0] != x[:, 1]).float()[:, None]
    return Task((x, y), (x, y), "accuracy")


@cache
def whole() -> Task:
    """Digits as two batches of 640 samples."""
    (x, y), test = tasks.digits().train, tasks.digits().test
    return Task((x[:1280], y[:1280]), test, "accuracy")


def _augmented(_tick: int, batch: Batch) -> Batch:
    """Shift, dim and blur with noise, another way every time."""
    shift = torch.randint(-1, 2, (2,)).tolist()
    images = batch[0].roll(shift, (2, 3)) * (0.4 + torch.rand(len(batch[0]), 1, 1, 1))
    return images + 0.25 * torch.randn_like(images), batch[1]


def _mixed(model: nn.Module, batch: Batch) -> Tensor:
    """Return the loss on mixtures of two samples (mixup)."""
    share = float(torch.rand(()))
    order = torch.randperm(len(batch[0]))
    out = model(share * batch[0] + (1 - share) * batch[0][order])
    return share * F.cross_entropy(out, batch[1]) + (1 - share) * F.cross_entropy(out, batch[1][order])


CASES: tuple[Case, ...] = (
    well(
        "mlp/accumulation-8-of-4",
        "mlp",
        Recipe(tasks.digits, lambda: stack([64, 48, 48, 10], nn.ELU), adam(3e-3), steps=400, size=4, accumulate=8),
        "micro-batches are no steps",
    ),
    well(
        "mlp/single-samples-sgd",
        "mlp",
        Recipe(tasks.digits, lambda: stack([64, 48, 10], nn.ReLU), sgd(0.01, 0.0), steps=2500, size=1),
        "gradients from 0 to large in turn",
    ),
    well(
        "mlp/pairs-of-wine-adam",
        "mlp",
        Recipe(tasks.wine, lambda: stack([13, 24, 3], nn.Tanh), adam(2e-3), steps=1200, size=2),
        "the loss is 0 on most batches and large on some",
    ),
    well(
        "cnn/batch-norm-batches-of-3",
        "cnn",
        Recipe(
            tasks.images,
            lambda: plain_net(nn.ReLU, norm=nn.BatchNorm2d),
            adam(2e-3),
            steps=1000,
            size=3,
        ),
        "statistics of three images",
    ),
    well(
        "cnn/augmented-every-time-anew",
        "cnn",
        Recipe(tasks.images, lambda: plain_net(nn.ReLU, (12, 24)), adam(3e-3), steps=800, corrupt=_augmented),
        "a loss that stays high and noisy",
    ),
    well(
        "mlp/two-alternating-batches",
        "mlp",
        Recipe(whole, lambda: stack([64, 48, 10], nn.Tanh), sgd(0.3), steps=600, size=640),
        "a loss that alternates between two batches",
    ),
    well(
        "mlp/labels-noisy-40-percent",
        "mlp",
        Recipe(lambda: noisy(0.4), lambda: stack([64, 48, 10], nn.GELU), rmsprop(1e-3), steps=800),
        "a loss that cannot fall far",
    ),
    well(
        "mlp/labels-all-random",
        "mlp",
        Recipe(lambda: noisy(1.0), lambda: stack([64, 48, 10], nn.ReLU), sgd(0.02), steps=600),
        "nothing to be learned: no fault of the training's",
    ),
    well(
        "mlp/mixup",
        "mlp",
        Recipe(tasks.digits, lambda: Functional([64, 64, 10], F.silu), adamw(3e-3), steps=800, step=_mixed),
        "the loss depends on how much is mixed",
    ),
    well(
        "mlp/one-in-twenty-five",
        "mlp",
        Recipe(
            data.rare,
            lambda: stack([10, 32, 1], nn.ReLU),
            adam(3e-3),
            F.binary_cross_entropy_with_logits,
            steps=1000,
            score=hits(data.rare),
            chance=0.5,
        ),
        "most batches hold one rare sample or none",
    ),
    well(
        "mlp/exclusive-or-solved-early",
        "mlp",
        Recipe(
            exclusive,
            lambda: stack([6, 24, 1], nn.Tanh),
            adam(1e-2),
            F.binary_cross_entropy_with_logits,
            steps=1500,
            score=hits(exclusive),
            chance=0.5,
        ),
        "loss and gradients near 0, output saturated: solved",
    ),
    well(
        "transformer/modular-sums-after-a-long-stand",
        "transformer",
        Recipe(
            data.modular,
            lambda: Former(23, 23, label=True, width=48, depth=1),
            adamw(2e-3, weight_decay=0.3),
            steps=1200,
            size=64,
        ),
        "it knows its samples by heart long before it knows the rule",
    ),
)
