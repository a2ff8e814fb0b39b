"""Healthy networks whose build makes others cry wolf: sparse, gated, frozen, routed, deep."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from supervisor.clinic import tasks
from supervisor.clinic.case import Case
from supervisor.clinic.held_out import _data as data
from supervisor.clinic.held_out._build import Recipe, adagrad, adam, adamw, rmsprop, sgd, well
from supervisor.clinic.held_out._convolution import Squeeze, signal_net
from supervisor.clinic.held_out._dense import Concat, Experts, Functional, Highway, Maxout, Residual, stack
from supervisor.clinic.held_out._pretrained import adapted


class _HalfUsed(nn.Module):
    """A frozen random layer, a trained one, and a head for another task that nobody asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(64, 128).requires_grad_(requires_grad=False)
        nn.init.normal_(self.features.weight, std=0.3)
        self.net, self.other = stack([128, 48, 10], nn.GELU), nn.Linear(128, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net(torch.cos(self.features(x)))
        return result


class _Words(nn.Module):
    """The mean embedding of a bag of words."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.leave = nn.EmbeddingBag(2000, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.leave(self.bag(x))
        return result


def _spectral() -> nn.Module:
    net = Concat(64, 24, 4, 10, F.leaky_relu)
    for layer in net.layers:
        parametrizations.spectral_norm(layer)
    return net


def _orthogonal(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, 1.1)
            nn.init.zeros_(module.bias)


def _steep(model: nn.Module) -> None:
    """Xavier's initialization with the gain that sigmoids need."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight, 4.0)
            nn.init.constant_(module.bias, 0.0)


def _sine(x: Tensor) -> Tensor:
    return torch.sin(6.0 * x)


def _batch_norm(width: int) -> nn.Module:
    return nn.BatchNorm1d(width)


CASES: tuple[Case, ...] = (
    well(
        "mlp/wide-sparse-relu-sgd-0.3",
        "mlp",
        Recipe(tasks.digits, lambda: stack([64, 256, 256, 10], nn.ReLU), sgd(0.3, 0.0), steps=700),
        "most activations are 0, no unit is dead",
    ),
    well(
        "mlp/maxout-dropout-0.5",
        "mlp",
        Recipe(tasks.digits, lambda: Maxout([64, 64, 64, 10], dropout=0.5), adam(3e-3), steps=800),
        "dropout makes zeros and noise",
    ),
    well(
        "mlp/highway-10-gates-shut-at-first",
        "mlp",
        Recipe(tasks.digits, lambda: Highway(64, 40, 10, 10, gate_bias=-3.0), adam(3e-3), steps=500),
        "gates near 0 by design: the transforms get little gradient",
    ),
    well(
        "mlp/tanh-9-orthogonal",
        "mlp",
        Recipe(tasks.digits, lambda: stack([64, *[40] * 8, 10], nn.Tanh), sgd(0.03), steps=700, init=_orthogonal),
        "deep and squashing, and learns",
    ),
    well(
        "mlp/functional-sigmoid-5-steep",
        "mlp",
        Recipe(
            tasks.digits,
            lambda: Functional([64, 48, 48, 48, 48, 10], torch.sigmoid),
            adam(2e-3),
            steps=700,
            init=_steep,
        ),
        "deep sigmoids with gradients that shrink, and learns",
    ),
    well(
        "mlp/sine-net-curve",
        "mlp",
        Recipe(data.curve, lambda: Functional([1, 48, 48, 1], _sine), adam(1e-3), F.mse_loss, steps=800),
        "periodic activations, small weights",
    ),
    well(
        "mlp/frozen-features-and-an-unused-head",
        "mlp",
        Recipe(tasks.digits, _HalfUsed, rmsprop(1e-3), steps=700),
        "parameters without gradients",
    ),
    well(
        "residual/spectral-norm-concatenations",
        "residual",
        Recipe(tasks.digits, _spectral, adam(3e-3), steps=450),
        "weights whose norm never moves",
    ),
    well(
        "residual/40-blocks-before-norm",
        "residual",
        Recipe(tasks.digits, lambda: Residual((64, 32, 10), 40, F.gelu), adamw(1e-3), steps=300),
        "gradients of very different size along the depth",
    ),
    well(
        "residual/gates-at-zero-relu",
        "residual",
        Recipe(tasks.digits, lambda: Residual((64, 48, 10), 8, norm=False, gate=0.0), sgd(0.05), steps=500),
        "branches without any gradient in the first tick",
    ),
    well(
        "cnn/conv1d-biases-before-batch-norm",
        "cnn",
        Recipe(data.signals, lambda: signal_net(nn.ReLU, norm=_batch_norm), adamw(3e-3), steps=500),
        "biases whose gradient is rounding noise",
    ),
    well(
        "cnn/squeeze-excite-relu6",
        "cnn",
        Recipe(tasks.images, lambda: Squeeze(16, 2, F.relu6), adam(5e-3), steps=500),
        "depthwise maps, gates, bounded units",
    ),
    well(
        "other/rare-words-embedding-bag",
        "other",
        Recipe(data.bags, _Words, adagrad(0.3), steps=1000),
        "most rows of the embedding are touched never or rarely",
    ),
    well(
        "other/top-1-experts",
        "other",
        Recipe(tasks.waves, lambda: Experts(5, 40, 1, experts=6), adam(5e-3), F.mse_loss, steps=900),
        "an expert without work has no gradient",
    ),
    well(
        "other/low-rank-adapters-finetune",
        "other",
        Recipe(
            tasks.digits,
            adapted,
            lambda m: torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=3e-3),
            steps=600,
            context="finetune",
        ),
        "frozen weights, a factor that starts at 0",
    ),
    well(
        "other/low-rank-adapters-undeclared",
        "other",
        Recipe(
            tasks.digits,
            adapted,
            lambda m: torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.05, momentum=0.9),
            steps=600,
        ),
        "as before, and nobody said that it is a fine-tuning",
    ),
)
