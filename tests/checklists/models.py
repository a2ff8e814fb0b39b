"""Small trainings to ask about, sound ones and such with one fault each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor import preflight
from supervisor.checklists import Checklist
from supervisor.policy.model import Policy, Rung, Treatment

CLIPPING = Policy("clipping", respond={"exploding_gradients": (Rung((Treatment("clip_norm"),)),)})
CLASSES = 4


@dataclass(frozen=True)
class Case:
    """What preflight is given."""

    model: nn.Module
    batch: Any
    train_fn: Callable[[Any], Any]
    optimizer: Optimizer | Sequence[Optimizer]
    policy: Policy = CLIPPING

    def check(self) -> Checklist:
        return preflight(self.model, self.optimizer, self.batch, self.train_fn, policy=self.policy)

    def but(self, **changes: Any) -> Case:
        return replace(self, **changes)


def case(
    model: nn.Module, batch: Any = None, loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy, lr: float = 1e-3,
) -> Case:  # fmt: skip
    """Return a training of `model` by Adam on a pair of inputs and targets; left out: 64 inputs of 20 features."""
    pair = batch if batch is not None else (torch.randn(64, 20), torch.randint(CLASSES, (64,)))
    trained = [p for p in model.parameters() if p.requires_grad]
    return Case(model, pair, lambda given: loss(model(given[0]), given[1]), torch.optim.Adam(trained, lr))


def mlp(*tail: nn.Module, outputs: int = CLASSES, hidden: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 64), hidden(), nn.Linear(64, outputs), *tail)


def at(model: nn.Module, place: int) -> nn.Linear:
    """Return a linear layer of a Sequential."""
    assert isinstance(model, nn.Sequential)
    layer = model[place]
    assert isinstance(layer, nn.Linear)
    return layer


def norm_at(model: nn.Module, place: int) -> nn.BatchNorm1d:
    assert isinstance(model, nn.Sequential)
    layer = model[place]
    assert isinstance(layer, nn.BatchNorm1d)
    return layer


def deep(activation: type[nn.Module] = nn.ReLU, depth: int = 12) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(depth - 1):
        layers += [nn.Linear(20 if i == 0 else 32, 32), activation()]
    return nn.Sequential(*layers, nn.Linear(32, CLASSES))


def weights(model: nn.Module, init: Callable[[Tensor], Any]) -> nn.Module:
    """Return the model with `init` applied to every linear weight."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            init(module.weight)
    return model


def regression(model: nn.Module, targets: Tensor | None = None) -> Case:
    return case(model, (torch.randn(64, 20), torch.randn(64, 1) if targets is None else targets), F.mse_loss)


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, channels: int, *, gated: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        if gated:
            nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(x + out)


def resnet(*, gated: bool = False) -> Case:
    blocks = [Block(16, gated=gated) for _ in range(6)]
    stem = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))
    return case(model, (torch.randn(32, 3, 8, 8), torch.randint(CLASSES, (32,))))


class Recurrent(nn.Module):
    """Reads a sequence, answers at its end."""

    def __init__(self, layer: Callable[..., nn.RNNBase]) -> None:
        super().__init__()
        self.layer = layer(8, 32, batch_first=True)
        self.out = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.layer(x)[0][:, -1])
        return out


def recurrent(layer: Callable[..., nn.RNNBase]) -> Case:
    return case(Recurrent(layer), (torch.randn(64, 12, 8), torch.randint(CLASSES, (64,))))


class Language(nn.Module):
    """A small causal transformer."""

    def __init__(self, vocabulary: int = 50, width: int = 32) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True, norm_first=True, dropout=0.1)
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(16, width))
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        out: Tensor = self.out(self.norm(self.body(self.embed(tokens) + self.position, mask=mask, is_causal=True)))
        return out


def language() -> Case:
    tokens = torch.randint(50, (16, 17))
    pair = (tokens[:, :-1], tokens[:, 1:])
    return case(Language(), pair, lambda out, target: F.cross_entropy(out.flatten(0, 1), target.flatten()))


def cnn() -> Case:
    body = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(32, CLASSES))
    return case(model, (torch.randn(32, 3, 16, 16), torch.randint(CLASSES, (32,))))


def autoencoder() -> Case:
    widths = [(64, 32), (32, 8), (8, 32)]
    hidden = [module for pair in widths for module in (nn.Linear(*pair), nn.ReLU())]
    images = torch.randn(64, 64)
    return case(nn.Sequential(*hidden, nn.Linear(32, 64)), (images, images), F.mse_loss)
