"""Outputs and losses that do not fit, residual connections, and units that are all alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.records import Anatomy, Snapshot
from tests.signals.watching import Watching, mlp, vectors

LABELS = torch.arange(64) % 3


def anatomy(loss: object) -> Anatomy:
    model = nn.Linear(6, 3)
    return Watching(model, lambda x: loss(model(x))).tick(vectors()).anatomy  # type: ignore[operator]


@pytest.mark.parametrize(
    ("loss", "mismatch"),
    [
        (lambda y: F.cross_entropy(y, LABELS), ""),
        (lambda y: F.cross_entropy(y.softmax(-1), LABELS), "cross_entropy of softmax"),
        (lambda y: nn.CrossEntropyLoss()(nn.Softmax(-1)(y), LABELS), "cross_entropy of softmax"),
        (lambda y: F.cross_entropy(torch.sigmoid(y).reshape(-1, 3), LABELS), "cross_entropy of sigmoid"),
        (lambda y: F.nll_loss(y.log_softmax(-1), LABELS), ""),
        (lambda y: F.nll_loss(y.softmax(-1), LABELS), "nll_loss of softmax"),
        (lambda y: F.nll_loss(y.softmax(-1).log(), LABELS), ""),
        (lambda y: F.binary_cross_entropy(y[:, 0].sigmoid(), LABELS.float().clamp(0, 1)), ""),
        (lambda y: F.binary_cross_entropy_with_logits(y.sigmoid()[:, 0], LABELS.float()),
         "binary_cross_entropy_with_logits of sigmoid"),
        (lambda y: F.mse_loss(y.softmax(-1), torch.zeros(64, 3)), ""),
    ],
)  # fmt: skip
def test_a_loss_that_does_its_own_squashing_is_told_when_it_is_done_twice(loss: object, mismatch: str) -> None:
    assert anatomy(loss).mismatch == mismatch


def test_residual_connections_are_counted_once_each() -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.blocks = nn.Linear(6, 8), nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for block in self.blocks:
                x = x + F.relu(block(x))
            return x

    watching = Watching(Blocks())
    assert [watching.tick(vectors()).anatomy.skips for _ in range(2)] == [3, 3]
    assert Watching(mlp()).tick(vectors()).anatomy.skips == 0


def spreads(model: nn.Module, x: Tensor) -> list[float]:
    now: Snapshot = Watching(model).tick(x)
    assert now.sample is not None
    return [float(value) for value in now.sample.spread]


def test_units_that_are_all_alike_have_no_spread() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 4), nn.Linear(4, 1))
    assert min(spreads(model, vectors())[i] for i in (0, 2)) > 0.5
    nn.init.constant_(model[0].weight, 0.1)  # type: ignore[arg-type]
    nn.init.zeros_(model[3].weight)  # type: ignore[arg-type]
    first, norm, second, single = spreads(model, vectors())
    assert first < 1e-6
    assert second == 0.0
    assert np.isnan([norm, single]).all()
