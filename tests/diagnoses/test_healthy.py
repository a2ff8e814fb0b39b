"""Healthy trainings of many kinds, supervised with the default policy: not one intervention."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR, LRScheduler

from supervisor import Report, supervise
from supervisor.recording.metrics import read_curves
from tests.diagnoses.trainings import deep, digits_like, he

STEPS = 300


@dataclass(frozen=True)
class Case:
    """A training that is well, and how it is set up."""

    model: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], Optimizer] = lambda model: torch.optim.Adam(model.parameters(), lr=1e-3)
    data: Callable[[int], Iterator[Any]] = lambda seed: digits_like(seed=seed)
    loss: Callable[[nn.Module, Any], Tensor] = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])
    schedule: Callable[[Optimizer], LRScheduler] | None = None
    learns: bool = True


def sgd(lr: float, momentum: float = 0.9) -> Callable[[nn.Module], Optimizer]:
    return lambda model: torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def adam(lr: float) -> Callable[[nn.Module], Optimizer]:
    return lambda model: torch.optim.Adam(model.parameters(), lr=lr)


def mlp() -> nn.Module:
    return he(deep(nn.ReLU, depth=4))


def images(seed: int, size: int = 32) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield 8x8 images of bright bars: four kinds."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        labels = torch.randint(4, (size,), generator=generator)
        x = 0.3 * torch.rand(size, 1, 8, 8, generator=generator)
        for i, label in enumerate(labels.tolist()):
            x[i, 0, 2 * label] += 1.0
        yield x, labels


def sequences(seed: int, size: int = 32) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield sequences of tokens and the token that came first."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randint(8, (size, 6), generator=generator)
        yield x, x[:, 0]


def normalized() -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(8):
        layers += [nn.Linear(20 if i == 0 else 32, 32), nn.LayerNorm(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(32, 4))


def wide() -> nn.Module:
    return he(deep(nn.ReLU, depth=3, width=128))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(72, 4),
    )  # fmt: skip


class Reader(nn.Module):
    """Embeds tokens, reads them with a recurrent layer, names the first."""

    def __init__(self, kind: type[nn.RNN | nn.LSTM]) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(8, 12), nn.Linear(24, 8)
        self.rnn = kind(12, 24, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0][:, -1])  # type: ignore[no-any-return]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(8, 16), nn.Linear(16, 8)
        self.position = nn.Parameter(0.1 * torch.randn(6, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x) + self.position).mean(1))  # type: ignore[no-any-return]


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 32), nn.ReLU(),
        nn.Linear(32, 64), nn.Sigmoid(),
    )  # fmt: skip


def noisy(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches four in ten of whose labels are wrong."""
    for x, y in digits_like(seed=seed):
        yield x, torch.where(torch.rand(len(y)) < 0.4, torch.randint(4, y.shape), y)


def imbalanced(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches with one rare class: now and then a batch has none of it, now and then several."""
    for x, y in digits_like(seed=seed):
        keep = (y != 0) | (torch.rand(len(y)) < 0.04)
        yield x[keep], y[keep]


def random_labels(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches with nothing to learn in them: the loss stands for ever."""
    for x, y in digits_like(seed=seed):
        yield x, torch.randint(4, y.shape)


def targets(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield prices: regression targets in the hundreds of thousands."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(64, 20, generator=generator)
        yield x, 3e5 + 1e5 * x[:, :4] * x[:, 4:8]


def warm_up(optimizer: Optimizer) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 60))


def squared(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


CASES: dict[str, Case] = {
    "mlp, sgd": Case(mlp, sgd(0.02)),
    "mlp, sgd without momentum": Case(mlp, sgd(0.1, 0.0)),
    "mlp, adam": Case(mlp),
    "mlp, adamw": Case(mlp, lambda m: torch.optim.AdamW(m.parameters(), lr=3e-3, weight_decay=0.1)),
    "mlp, rmsprop": Case(mlp, lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3)),
    "mlp, torch's own initialization": Case(lambda: deep(nn.ReLU, depth=6)),
    "wide mlp, large rate": Case(lambda: he(deep(nn.ReLU, depth=3, width=256)), sgd(0.05)),
    "summed loss": Case(mlp, sgd(3e-4), loss=lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction="sum")),
    "cnn": Case(cnn, data=images),
    "cnn, sgd": Case(cnn, sgd(0.05), data=images),
    "rnn": Case(lambda: Reader(nn.RNN), adam(5e-3), sequences),
    "lstm": Case(lambda: Reader(nn.LSTM), adam(1e-2), sequences),
    "transformer": Case(Attention, lambda m: torch.optim.AdamW(m.parameters(), lr=3e-3), sequences),
    "autoencoder": Case(autoencoder, data=images, loss=lambda m, b: F.mse_loss(m(b[0]), b[0].flatten(1).clamp(0, 1))),
    "label noise": Case(mlp, data=noisy),
    "imbalanced classes": Case(mlp, data=imbalanced),
    "random labels": Case(mlp, data=random_labels, learns=False),
    "warm-up": Case(mlp, sgd(0.05), schedule=warm_up),
    "cosine restarts": Case(mlp, sgd(0.05), schedule=lambda o: CosineAnnealingWarmRestarts(o, 60)),
    "a decay of the rate": Case(mlp, sgd(0.05), schedule=lambda o: LambdaLR(o, lambda step: 0.1 ** (step // 100))),
    "large batch": Case(mlp, data=lambda seed: digits_like(size=1024, seed=seed)),
    "tiny batch": Case(mlp, sgd(1e-3), data=lambda seed: digits_like(size=2, seed=seed)),
    "single inputs": Case(mlp, sgd(1e-3), data=lambda seed: digits_like(size=1, seed=seed)),
    "a solved task": Case(lambda: he(deep(nn.ReLU, depth=3)), adam(1e-2)),
    "large targets": Case(wide, adam(1e-1), targets, squared),
    "deep tanh": Case(lambda: deep(nn.Tanh, depth=10)),
    "deep norm": Case(normalized, adam(3e-4)),
}  # fmt: skip


def trained(case: Case, run_dir: Path, seed: int, steps: int = STEPS) -> Report:
    torch.manual_seed(seed)
    model = case.model()
    optimizer = case.optimizer(model)
    return supervise(
        lambda batch: case.loss(model, batch),
        model=model,
        optimizer=optimizer,
        data=case.data(seed),
        scheduler=case.schedule(optimizer) if case.schedule else None,
        steps=steps,
        tracking=None,
        run_dir=run_dir,
    )


def first_loss(run_dir: Path) -> float:
    return float(read_curves(run_dir)["loss"][0])


@pytest.mark.parametrize("name", CASES)
def test_a_healthy_training_is_left_alone(name: str, tmp_path: Path) -> None:
    report = trained(CASES[name], tmp_path / "run", seed=0)
    assert [str(finding) for finding in report.findings] == []
    assert report.interventions == []
    assert (report.health, report.status, report.steps) == ("healthy", "completed", STEPS)
    assert math.isfinite(report.final_loss)
    if CASES[name].learns:
        assert report.best_loss < 0.8 * first_loss(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_swings_near_the_edge_of_stability_are_left_alone(seed: int, tmp_path: Path) -> None:
    """Sixteen batches with random labels, learned by heart: the loss swings by decades for hundreds of ticks."""
    torch.manual_seed(seed)
    layers = [part for _ in range(7) for part in (nn.Linear(128, 128), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(128, 10))
    pool = [(torch.randn(64, 128), torch.randint(10, (64,))) for _ in range(16)]
    report = supervise(
        lambda batch: F.cross_entropy(model(batch[0]), batch[1]),
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-4),
        data=pool,
        steps=3000,
        tracking=None,
        run_dir=tmp_path / "run",
    )
    assert report.interventions == []
    assert report.final_loss < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("name", CASES)
def test_a_longer_healthy_training_is_left_alone_whatever_the_seed(name: str, seed: int, tmp_path: Path) -> None:
    report = trained(CASES[name], tmp_path / "run", seed, steps=1000)
    assert report.interventions == []
