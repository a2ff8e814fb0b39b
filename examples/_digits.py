"""What the examples share: scikit-learn's bundled handwritten digits (real 8x8 images), and the comparison."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from supervisor import Report, supervise

Batch = tuple[torch.Tensor, torch.Tensor]  # images (batch, 1, 8, 8) from 0 to 1, labels (batch,)

torch.set_num_threads(1)  # the models are small: one thread is the fastest


@dataclass(frozen=True)
class Case:
    """A training, and what its healthy twin does otherwise."""

    title: str
    network: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], Optimizer]
    epochs: int
    seed: int = 0
    schedule: Callable[[int], float] | None = None  # step: factor of the learning rate
    twin: Callable[[], nn.Module] | None = None
    twin_optimizer: Callable[[nn.Module], Optimizer] | None = None
    twin_schedule: Callable[[int], float] | None = None

    def healthy(self) -> Case:
        """Return the same task, well configured."""
        return Case(
            title=f"{self.title}, well configured",
            network=self.twin or self.network,
            optimizer=self.twin_optimizer or self.optimizer,
            epochs=self.epochs,
            seed=self.seed,
            schedule=self.twin_schedule or self.schedule,
        )


def digits(seed: int = 0) -> tuple[DataLoader[Batch], Batch]:
    """Return a loader of 1347 training images in batches of 64, and 450 held-out images."""
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels)
    train_x, test_x = (torch.tensor(part, dtype=torch.float32).reshape(-1, 1, 8, 8) for part in split[:2])
    train_y, test_y = (torch.tensor(part) for part in split[2:])
    shuffle = torch.Generator().manual_seed(seed)
    loader: DataLoader[Any] = DataLoader(TensorDataset(train_x, train_y), 64, shuffle=True, generator=shuffle)
    return loader, (test_x, test_y)


def accuracy(model: nn.Module, held_out: Batch) -> float:
    """Return the share of held-out images that the model names rightly."""
    model.eval()
    with torch.no_grad():
        right = (model(held_out[0]).argmax(1) == held_out[1]).float().mean().item()
    model.train()
    return right


def dead_share(model: nn.Module, held_out: Batch) -> float | None:
    """Return the share of ReLU units that are silent on all held-out images; None without ReLUs."""
    hidden, silent, units = held_out[0], 0, 0
    if not isinstance(model, nn.Sequential):
        return None
    with torch.no_grad():
        for layer in model:
            hidden = layer(hidden)
            if isinstance(layer, nn.ReLU):
                awake = (hidden > 0).flatten(2).any(2).any(0) if hidden.ndim > 2 else (hidden > 0).any(0)
                silent, units = silent + int((~awake).sum()), units + awake.numel()
    return silent / units if units else None


def train_bare(case: Case, data: DataLoader[Batch]) -> nn.Module:
    """Train without a supervisor: the loop everybody has."""
    model = case.network()
    optimizer = case.optimizer(model)
    scheduler = LambdaLR(optimizer, case.schedule) if case.schedule is not None else None
    for _ in range(case.epochs):
        for images, labels in data:
            optimizer.zero_grad()
            loss = cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
    return model


def train_supervised(
    case: Case,
    data: DataLoader[Batch],
    held_out: Batch,
    tracking: str | None = "mlflow",
    run_dir: Path | None = None,
) -> tuple[nn.Module, Report]:
    """Train the same with a supervisor: the loss is a function of a batch, the rest is the supervisor's."""
    model = case.network()
    optimizer = case.optimizer(model)

    def train_step(batch: Batch) -> torch.Tensor:
        images, labels = batch
        return cross_entropy(model(images), labels)

    def evaluate() -> dict[str, float]:
        score = accuracy(model, held_out)
        return {"loss": 1.0 - score, "accuracy": score}

    report = supervise(
        train_step,
        model=model,
        optimizer=optimizer,
        data=data,
        epochs=case.epochs,
        scheduler=LambdaLR(optimizer, case.schedule) if case.schedule is not None else None,
        evaluate=evaluate,
        evaluate_every=44,  # two epochs
        tracking=tracking,
        run_dir=run_dir,
    )
    return model, report


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the command line of an example."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--no-mlflow", dest="tracking", action="store_const", const=None, default="mlflow")
    return options


def compare(case: Case) -> None:
    """Train without and with the supervisor from one seed, and the healthy twin; print the held-out accuracies."""
    settings, seed = parser(None).parse_args(), case.seed
    data, held_out = digits(seed)
    torch.manual_seed(seed)
    bare = train_bare(case, data)
    data, held_out = digits(seed)
    torch.manual_seed(seed)
    supervised, report = train_supervised(case, data, held_out, tracking=settings.tracking)
    data, held_out = digits(seed)
    torch.manual_seed(seed)
    twin = train_bare(case.healthy(), data)
    print(f"\n{case.title}, {case.epochs} epochs, held-out accuracy (chance is 0.10):")
    for name, model in (("unsupervised", bare), ("supervised", supervised), ("healthy twin", twin)):
        dead = dead_share(model, held_out)
        beside = f"   dead units {dead:.0%}" if dead is not None else ""
        print(f"  {name:<13} {accuracy(model, held_out):.3f}{beside}")
    print(f"\n{report.summary()}")
