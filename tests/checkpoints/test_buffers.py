"""Buffers as they were before a forward pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from supervisor.checkpoints import BufferGuard
from tests.entry.trainings import Net, frozen


class Growing(nn.Module):
    """A buffer that is None at first, one that changes its shape, and one that appears late."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: Tensor | None
        self.register_buffer("cache", None)
        self.rows: Tensor
        self.register_buffer("rows", torch.zeros(0, 6))

    def forward(self, x: Tensor) -> Tensor:
        self.cache = x.detach().mean(0)
        self.rows = torch.cat([self.rows, x.detach()])
        return x * 2


class Shared(nn.Module):
    """Two modules that hold the same buffer, beside one that nobody can write into."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Module(), nn.Module()
        both = torch.zeros(3)
        self.a.register_buffer("count", both)
        self.b.register_buffer("count", both)
        self.register_buffer("mask", torch.ones(1, 1).expand(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.a.get_buffer("count").add_(1)
        return x


MODELS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm1d(6),
    "batch norm, cumulative": lambda: nn.BatchNorm1d(6, momentum=None),
    "instance norm": lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, track_running_stats=True)),
    "spectral norm": lambda: spectral_norm(nn.Linear(6, 3)),
    "assigned, and written through data": Net,
    "growing": Growing,
    "shared": Shared,
}


def buffers(model: nn.Module) -> dict[str, object]:
    return {
        f"{path}.{name}": None if buffer is None else (id(buffer), frozen(buffer))
        for path, module in model.named_modules()
        for name, buffer in module._buffers.items()
    }


@pytest.mark.parametrize("kind", MODELS)
def test_a_forward_pass_is_taken_back_bit_for_bit(kind: str) -> None:
    """Also where no version counter tells of the change, as with batch norm."""
    torch.manual_seed(0)
    model = MODELS[kind]()
    guard = BufferGuard(model)
    for _ in range(3):
        guard.remember()
        model(torch.randn(8, 6))
    guard.remember()
    before = buffers(model)
    model(torch.full((8, 6), torch.nan))
    assert buffers(model) != before
    guard.put_back()
    assert buffers(model) == before


@pytest.mark.parametrize("kind", MODELS)
def test_what_was_taken_back_can_be_put_forward_again(kind: str) -> None:
    torch.manual_seed(0)
    model = MODELS[kind]()
    guard = BufferGuard(model)
    guard.remember()
    model(torch.randn(8, 6))
    after = buffers(model)
    guard.put_forward(guard.put_back())
    assert buffers(model) == after


def test_buffers_that_appear_later_are_watched_from_the_next_tick_on() -> None:
    model = nn.Module()
    guard = BufferGuard(model)
    model.register_buffer("late", torch.ones(2))
    guard.remember()
    model.get_buffer("late").mul_(torch.nan)
    guard.put_back()
    assert torch.equal(model.get_buffer("late"), torch.ones(2))
