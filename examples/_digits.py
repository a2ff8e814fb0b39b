"""What the examples share: scikit-learn's bundled handwritten digits (real 8x8 images), and the comparison."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from supervisor import supervise

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from supervisor import Report

Batch = tuple[torch.Tensor, torch.Tensor]  # images (batch, 1, 8, 8) from 0 to 1, labels (batch,)

torch.set_num_threads(1)  # the models are small: one thread is the fastest


def digits(seed: int = 0) -> tuple[DataLoader[Batch], Batch]:
    """Return a loader of 1347 training images in batches of 64, and 450 held-out images."""
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0, stratify=labels)
    train_x, test_x = (torch.tensor(part, dtype=torch.float32).reshape(-1, 1, 8, 8) for part in split[:2])
    train_y, test_y = (torch.tensor(part) for part in split[2:])
    shuffle = torch.Generator().manual_seed(seed)
    loader: DataLoader[Batch] = DataLoader(TensorDataset(train_x, train_y), 64, shuffle=True, generator=shuffle)
    return loader, (test_x, test_y)


def accuracy(model: nn.Module, held_out: Batch) -> float:
    """Return the share of held-out images that the model names rightly."""
    model.eval()
    with torch.no_grad():
        right = (model(held_out[0]).argmax(1) == held_out[1]).float().mean().item()
    model.train()
    return right


def train_bare(
    model: nn.Module, optimizer: Optimizer, data: Iterable[Batch], epochs: int, scheduler: LRScheduler | None = None,
) -> None:  # fmt: skip
    """Train without a supervisor: the loop everybody has."""
    for _ in range(epochs):
        for images, labels in data:
            optimizer.zero_grad()
            loss = cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()


def train_supervised(
    model: nn.Module,
    optimizer: Optimizer,
    data: Iterable[Batch],
    epochs: int,
    scheduler: LRScheduler | None = None,
    held_out: Batch | None = None,
    **settings: object,
) -> Report:
    """Train the same with a supervisor: the loss is a function of a batch, the rest is its business."""

    def train_step(batch: Batch) -> torch.Tensor:
        images, labels = batch
        return cross_entropy(model(images), labels)

    def evaluate() -> dict[str, float]:
        assert held_out is not None
        score = accuracy(model, held_out)
        return {"loss": 1.0 - score, "accuracy": score}

    return supervise(
        train_step,
        model=model,
        optimizer=optimizer,
        data=data,
        epochs=epochs,
        scheduler=scheduler,
        evaluate=evaluate if held_out is not None else None,
        **settings,  # type: ignore[arg-type]
    )
