"""Convolutional networks in one and two dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def signal_net(
    activation: Activation, width: int = 16, depth: int = 4, norm: Callable[[int], nn.Module] | None = None
) -> nn.Sequential:
    """Return 1-D convolutions for `signals()`, every second of which halves the length, and a mean over the rest."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers.append(nn.Conv1d(width if i else 1, width, 5, stride=1 + (i % 2 and i < 6), padding=2))
        layers += [norm(width), activation()] if norm else [activation()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(2 * width, 4))


class DenseBlock(nn.Module):
    """A small DenseNet for images of digits: each convolution reads all maps before it."""

    def __init__(
        self, growth: int, depth: int, outputs: int = 10, norm: Callable[[int], nn.Module] = nn.Identity
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1 + i * growth, growth, 3, padding=1) for i in range(depth))
        self.norms = nn.ModuleList(norm(growth) for _ in range(depth))
        self.leave = nn.Linear((1 + depth * growth) * 4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.cat([x, F.relu(norm(layer(x)))], 1)
        result: Tensor = self.leave(F.adaptive_avg_pool2d(x, 2).flatten(1))
        return result


class Squeeze(nn.Module):
    """Depthwise-separable convolutions, each weighed by channel (squeeze and excitation)."""

    def __init__(self, width: int, depth: int, activation: Callable[[Tensor], Tensor] = F.silu) -> None:
        super().__init__()
        self.enter = nn.Conv2d(1, width, 3, padding=1)
        self.depthwise = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width) for _ in range(depth))
        self.pointwise = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(depth))
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for _ in range(depth))
        self.weighs = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.leave = nn.Linear(width, 10)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for deep, point, norm, weigh in zip(self.depthwise, self.pointwise, self.norms, self.weighs, strict=True):
            h = self.activation(norm(point(deep(x))))
            x = x + h * torch.sigmoid(weigh(h.mean((2, 3))))[..., None, None]
        result: Tensor = self.leave(x.mean((2, 3)))
        return result


class UNet(nn.Module):
    """Two steps down, two up, with the maps of the same size concatenated."""

    def __init__(self, width: int = 12, activation: Activation = nn.GELU) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), activation())
        self.down2 = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), activation())
        self.middle = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1), activation())
        self.up1 = nn.ConvTranspose2d(2 * width, 2 * width, 2, stride=2)
        self.join1 = nn.Sequential(nn.Conv2d(4 * width, width, 3, padding=1), activation())
        self.up2 = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.leave = nn.Conv2d(2 * width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(a)
        c = self.join1(torch.cat([b, self.up1(self.middle(b))], 1))
        result: Tensor = self.leave(torch.cat([a, self.up2(c)], 1))
        return result


def plain_net(
    activation: Activation, widths: tuple[int, ...] = (8, 16, 16), norm: Callable[[int], nn.Module] | None = None
) -> nn.Sequential:
    """Return 3x3 convolutions for digits, pooled once, and a linear layer."""
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        layers.append(nn.Conv2d(widths[i - 1] if i else 1, width, 3, padding=1))
        layers += [norm(width), activation()] if norm else [activation()]
        layers += [nn.MaxPool2d(2)] if i == 0 else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * widths[-1], 10))
