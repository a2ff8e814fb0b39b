"""Tiny real models, and ticks of a real sensor over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer

from supervisor.records import Site, Snapshot
from supervisor.run import TrainingRun
from supervisor.signals import Sensor

Loss = Callable[[Any], Tensor]


def sgd(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return torch.optim.SGD([p for p in parameters if p.requires_grad], lr=1e-3)


class Watching:
    """A model, its run and its sensor; one call of `tick` is one tick of the loop without a policy."""

    def __init__(
        self, model: nn.Module, loss: Loss | None = None, *, every: int = 1, optimizer: Optimizer | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.loss = loss or (lambda batch: model(batch).abs().square().mean())
        self.run = TrainingRun(model, (optimizer or sgd(model.parameters()),))
        self.sensor = Sensor(self.run, every)

    def tick(self, *batches: Any) -> Snapshot:
        """Observe one tick and take its step; the gradients stay for the test to look at."""
        self.run.clock.tick += 1
        self.run.drop_gradients()
        with self.sensor.watching():
            losses = [self.loss(batch) for batch in batches]
            torch.stack(losses).mean().backward()
        now = self.sensor.snapshot([loss.detach() for loss in losses], list(batches))
        self.sensor.before_step()
        self.run.take_step(now.loss)
        return now


def sites(model: nn.Module, *batches: Any, loss: Loss | None = None) -> dict[str, Site]:
    """Return the sites that one tick over `batches` shows, by name."""
    return {site.name: site for site in Watching(model, loss).tick(*batches).anatomy.sites}


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(inplace=True), nn.Linear(12, 3))


def layer(model: nn.Module, path: str) -> nn.Linear:
    found = model.get_submodule(path)
    assert isinstance(found, nn.Linear)
    return found


class FunctionalMlp(nn.Module):
    """The same with functional activations."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(torch.relu(self.a(x))), inplace=True))  # type: ignore[no-any-return]


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(64, 3),
    )


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 10, num_layers=2, batch_first=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.lstm(x)[0][:, -1]))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.position = nn.Parameter(torch.zeros(5, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x) + self.position[: x.shape[1]]))  # type: ignore[no-any-return]


class TiedAutoencoder(nn.Module):
    """The decoder is the encoder's weight, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 16)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(F.linear(F.relu(self.encoder(x)), self.encoder.weight.t()))


def vectors() -> Tensor:
    return torch.randn(64, 6)


def images() -> Tensor:
    return torch.randn(16, 1, 6, 6)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "mlp": (mlp, vectors),
    "functional mlp": (FunctionalMlp, vectors),
    "cnn": (cnn, images),
    "lstm": (Recurrent, lambda: torch.randn(8, 5, 6)),
    "transformer with tied weights": (Transformer, lambda: torch.randint(0, 11, (8, 5))),
    "tied autoencoder": (TiedAutoencoder, vectors),
}

every_model = pytest.mark.parametrize("name", MODELS)


def made(name: str) -> tuple[nn.Module, Callable[[], Tensor]]:
    torch.manual_seed(0)
    make, batch = MODELS[name]
    return make(), batch


def own(model: nn.Module, name: str) -> list[nn.Parameter]:
    """Return the parameters that belong to the layer `name` alone; a tied one belongs to its first owner."""
    owner: dict[int, str] = {}
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owner.setdefault(id(parameter), path or "model")
    return [p for p in model.parameters() if owner[id(p)] == name]


def norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(t.detach().double().square().sum()) for t in tensors))
