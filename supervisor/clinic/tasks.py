"""The data of the clinic: scikit-learn's bundled sets, Python's own sources as text, and sequences made by rule.

Nothing is downloaded. Every task is split once, by a fixed seed, into what is trained on and what is scored on.
"""

from __future__ import annotations

import json.decoder
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
Metric = Literal["accuracy", "r2"]

_HELD_OUT: Final = 0.25


@dataclass(frozen=True)
class Task:
    """Inputs and targets, split. Labels are int64, regression targets float32 of shape (n, outputs)."""

    train: Batch
    test: Batch
    metric: Metric

    @property
    def chance(self) -> float:
        """The score of the best constant predictor: the commonest label's share, or an R squared of 0."""
        if self.metric == "r2":
            return 0.0
        labels = self.test[1].flatten()
        return float((labels == torch.mode(self.train[1].flatten()).values).float().mean())

    def batches(self, size: int, seed: int) -> Iterator[Batch]:
        """Yield shuffled batches without end; every epoch is another permutation."""
        generator = torch.Generator().manual_seed(seed)
        inputs, targets = self.train
        while True:
            order = torch.randperm(len(inputs), generator=generator)
            for start in range(0, len(inputs) - size + 1, size):
                chosen = order[start : start + size]
                yield inputs[chosen], targets[chosen]

    def score(self, model: nn.Module) -> float:
        """Return accuracy, or R squared, on the held-out part; the model's mode is left as it was."""
        training = model.training
        model.eval()
        with torch.no_grad():
            out = model(self.test[0])
        model.train(training)
        target = self.test[1]
        if self.metric == "accuracy":
            return float((out.reshape(-1, out.shape[-1]).argmax(-1) == target.flatten()).float().mean())
        error = (out.reshape(target.shape) - target).square().sum()
        total = (target - self.train[1].mean(0)).square().sum()  # over all outputs: some pixels are always black
        return float((1.0 - error / total).nan_to_num(-1.0, -1.0, -1.0))


def _split(inputs: Tensor, targets: Tensor, metric: Metric) -> Task:
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    cut = int(len(inputs) * (1 - _HELD_OUT))
    train, test = order[:cut], order[cut:]
    return Task((inputs[train], targets[train]), (inputs[test], targets[test]), metric)


def _standardized(inputs: Any) -> Tensor:  # noqa: ANN401 - scikit-learn ships no types
    values = np.asarray(inputs, np.float32)
    return torch.tensor((values - values.mean(0)) / (values.std(0) + 1e-6))


@cache
def digits() -> Task:
    """1797 handwritten digits: inputs (n, 64) from 0 to 1, ten classes. Reshape to (n, 1, 8, 8) for convolutions."""
    images, labels = datasets.load_digits(return_X_y=True)
    return _split(torch.tensor(images / 16.0, dtype=torch.float32), torch.tensor(labels), "accuracy")


@cache
def images() -> Task:
    """Digits as images (n, 1, 8, 8)."""
    task = digits()
    train, test = ((x.reshape(-1, 1, 8, 8), y) for x, y in (task.train, task.test))
    return Task(train, test, "accuracy")


@cache
def rows() -> Task:
    """Digits as sequences of eight rows, (n, 8, 8)."""
    task = digits()
    train, test = ((x.reshape(-1, 8, 8), y) for x, y in (task.train, task.test))
    return Task(train, test, "accuracy")


@cache
def pixels() -> Task:
    """Digits as sequences of 64 single pixels, (n, 64, 1)."""
    task = digits()
    train, test = ((x.reshape(-1, 64, 1), y) for x, y in (task.train, task.test))
    return Task(train, test, "accuracy")


@cache
def reconstruction() -> Task:
    """Digits as their own targets: (n, 64) to (n, 64); R squared."""
    task = digits()
    return Task((task.train[0], task.train[0]), (task.test[0], task.test[0]), "r2")


@cache
def cancer() -> Task:
    """569 tumours, 30 standardized features, two classes."""
    features, labels = datasets.load_breast_cancer(return_X_y=True)
    return _split(_standardized(features), torch.tensor(labels), "accuracy")


@cache
def wine() -> Task:
    """178 wines, 13 standardized features, three classes."""
    features, labels = datasets.load_wine(return_X_y=True)
    return _split(_standardized(features), torch.tensor(labels), "accuracy")


@cache
def diabetes() -> Task:
    """442 patients, 10 standardized features; their disease's progress, (n, 1). R squared is 0.5 at best."""
    features, progress = datasets.load_diabetes(return_X_y=True)
    return _split(_standardized(features), _standardized(progress[:, None]), "r2")


@cache
def waves() -> Task:
    """4000 points in five dimensions, and a smooth function of them with 5 % noise, (n, 1)."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4000, 5, generator=generator)
    y = (
        torch.sin(x[:, 0] * 2)
        + x[:, 1] * x[:, 2]
        + 0.5 * x[:, 3].square()
        + 0.05 * torch.randn(4000, generator=generator)
    )
    return _split(x, _standardized(y[:, None]), "r2")


@cache
def text(length: int = 32) -> Task:
    """Python's own `json.decoder` as windows of characters (n, length), and the character that follows each place."""
    source = pathlib.Path(json.decoder.__file__).read_text(encoding="utf-8")
    letters = sorted(set(source))
    codes = torch.tensor([letters.index(letter) for letter in source])
    starts = torch.arange(0, len(codes) - length - 1, 3)
    windows = torch.stack([codes[start : start + length + 1] for start in starts.tolist()])
    return _split(windows[:, :-1].contiguous(), windows[:, 1:].contiguous(), "accuracy")


TEXT_LETTERS: Final = 96
"""At least as many as `text()` has different characters: the size of an embedding and of an output for it."""


@cache
def recall(length: int = 12, letters: int = 8) -> Task:
    """3000 sequences of tokens (n, length); the label is the first one: what is asked for is memory."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(letters, (3000, length), generator=generator)
    return _split(tokens, tokens[:, 0].clone(), "accuracy")


@cache
def adding(length: int = 20) -> Task:
    """3000 sequences of (value, mark), (n, length, 2); the sum of the two marked values, standardized, (n, 1)."""
    generator = torch.Generator().manual_seed(3)
    values, marks = torch.rand(3000, length, generator=generator), torch.zeros(3000, length)
    for row in marks:
        row[torch.randperm(length, generator=generator)[:2]] = 1.0
    total = (values * marks).sum(1, keepdim=True)
    return _split(torch.stack([values, marks], 2), _standardized(total), "r2")
