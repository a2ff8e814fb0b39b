"""Trainings whose cost is looked at, bare and watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from supervisor import supervise

Step = Callable[[Tensor], Tensor]


class Mixed(nn.Module):
    """Convolutions, a norm with buffers, functional and module activations, a recurrent layer and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv1d(4, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU()
        self.lstm, self.attend = nn.LSTM(8, 8, batch_first=True), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 4, time) to (batch, 1)."""
        steps = self.lstm(self.act(self.norm(self.conv(x))).transpose(1, 2))[0]
        mixed = self.attend(steps, steps, steps, need_weights=False)[0]
        return self.head(torch.tanh(mixed.mean(1)))  # type: ignore[no-any-return]


def batches(*shape: int) -> list[Tensor]:
    return list(torch.randn(8, *shape))


def squared(model: nn.Module) -> Step:
    return lambda batch: (model(batch) - batch.flatten(1).mean(1, keepdim=True)).square().mean()


def bare(model: nn.Module, optimizer: torch.optim.Optimizer, step: Step, data: list[Tensor], steps: int) -> None:
    for n in range(steps):
        optimizer.zero_grad()
        step(data[n % len(data)]).backward()
        optimizer.step()


def watched(
    model: nn.Module, optimizer: torch.optim.Optimizer, step: Step, data: list[Tensor], steps: int, **options: Any
) -> None:
    options |= {"model": model, "optimizer": optimizer, "data": data, "steps": steps}
    report = supervise(step, **options, tracking=None, progress=False)
    assert not report.interventions, report.summary()


def without_ring(*args: Any) -> None:
    watched(*args, policy="observe")


def between(step: Step, first: int, last: int, begin: Callable[[], object], end: Callable[[], object]) -> Step:
    """Return `step` that calls `begin` before its call number `first` and `end` before `last`: whole ticks between."""
    calls = [0]

    def counting(batch: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == first:
            begin()
        elif calls[0] == last:
            end()
        return step(batch)

    return counting
