"""Sequences whose label stands at one place, and a reader of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from tests.diagnoses.trainings import Batch

Module = TypeVar("Module", bound=nn.Module)


class Reader(nn.Module):
    """A recurrent layer, and a linear one that looks at its last state."""

    def __init__(self, kind: type[nn.RNN], scale: float = 1.0) -> None:
        super().__init__()
        self.rnn, self.head = kind(6, 16, batch_first=True), nn.Linear(16, 4)
        scaled(self.rnn, scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])  # type: ignore[no-any-return]


def scaled(model: Module, factor: float) -> Module:
    """Multiply every weight matrix."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
    return model


def places(steps: int, place: int, seed: int = 0) -> Iterator[Batch]:
    """Yield sequences (64, steps, 6); the label is the largest of the first four features at `place`."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(64, steps, 6, generator=generator)
        yield x, x[:, place, :4].argmax(1)
