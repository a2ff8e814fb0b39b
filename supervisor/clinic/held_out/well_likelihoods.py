"""Healthy trainings whose loss is a likelihood or has heavy tails."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out import _data as data
from supervisor.clinic.held_out._build import Recipe, adam, rmsprop, sgd, well
from supervisor.clinic.held_out._dense import stack
from supervisor.clinic.held_out._generative import Rate
from supervisor.clinic.tasks import Task


@cache
def outliers() -> Task:
    """Return the waves, with Cauchy noise on the targets that are trained on."""
    (x, y), test = tasks.waves().train, tasks.waves().test
    noise = 0.1 * torch.tan(math.pi * (torch.rand(y.shape, generator=torch.Generator().manual_seed(41)) - 0.5))
    return Task((x, y + noise), test, "r2")


class _Spread(nn.Module):
    """Mean and log standard deviation; the mean is the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = stack([5, 48, 48, 2], nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net(x) if self.training else self.net(x)[:, :1]
        return result


def _likelihood(out: Tensor, target: Tensor) -> Tensor:
    mean, log_std = out.chunk(2, -1)
    return (log_std + 0.5 * ((target - mean) / log_std.exp()).square()).mean()


class _Quantiles(nn.Module):
    """A tenth, the half and nine tenths; the half is the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = stack([5, 48, 48, 3], nn.Mish)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net(x) if self.training else self.net(x)[:, 1:2]
        return result


def _pinball(out: Tensor, target: Tensor) -> Tensor:
    q, error = torch.tensor([0.1, 0.5, 0.9]), target - out
    return torch.maximum(q * error, (q - 1) * error).mean()


class _Mixture(nn.Module):
    """Three normal distributions and their weights; the mean is the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = stack([1, 48, 48, 9], nn.Tanh)

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)
        mean, _, weight = out.chunk(3, -1)
        result: Tensor = out if self.training else (mean * weight.softmax(-1)).sum(-1, keepdim=True)
        return result


def _mixture(out: Tensor, target: Tensor) -> Tensor:
    mean, log_std, weight = out.chunk(3, -1)
    log_std = log_std.clamp_min(-4.0)
    log_density = -0.5 * ((target - mean) / log_std.exp()).square() - log_std
    return -(log_density + weight.log_softmax(-1)).logsumexp(-1).mean()


CASES: tuple[Case, ...] = (
    well(
        "mlp/likelihood-below-zero",
        "mlp",
        Recipe(tasks.waves, _Spread, adam(3e-3), _likelihood, steps=900),
        "a loss that crosses 0 and falls on",
    ),
    well(
        "other/poisson-likelihood-below-zero",
        "other",
        Recipe(data.counts, Rate, adam(3e-3), F.poisson_nll_loss, steps=700),
        "a loss below 0 of large and noisy counts",
    ),
    well(
        "mlp/three-quantiles",
        "mlp",
        Recipe(tasks.waves, _Quantiles, rmsprop(1e-3), _pinball, steps=900),
        "gradients that only know signs",
    ),
    well(
        "mlp/cauchy-noise-l1",
        "mlp",
        Recipe(outliers, lambda: stack([5, 48, 48, 1], nn.ReLU), adam(3e-3), F.l1_loss, steps=1000),
        "single batches with a hundred times the loss",
    ),
    well(
        "mlp/cauchy-noise-clipped-huber-sgd",
        "mlp",
        Recipe(outliers, lambda: stack([5, 48, 48, 1], nn.Softplus), sgd(0.02), F.huber_loss, steps=1000),
        "outliers in the loss, not in the gradient",
    ),
    well(
        "other/mixture-density-curve",
        "other",
        Recipe(data.curve, _Mixture, adam(5e-3), _mixture, steps=900),
        "a likelihood that falls below 0 in leaps",
    ),
)
