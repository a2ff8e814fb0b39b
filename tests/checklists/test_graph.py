"""Depth and shortcuts, read off the autograd graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from supervisor.checklists.graph import depth_of, made_by
from tests.checklists.models import Case, case, deep, language, mlp, recurrent, resnet


class Dense(nn.Module):
    """Skip connections by concatenation."""

    def __init__(self, layers: int = 12) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8 * (i + 1), 8) for i in range(layers))
        self.out = nn.Linear(8 * (layers + 1), 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x).relu()], 1)
        out: Tensor = self.out(x)
        return out


class Loop(nn.Module):
    """One weight used at every step of time."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 16)
        for step in x.unbind(1):
            state = self.cell(step, state)
        out: Tensor = self.out(state)
        return out


SEQUENCES = (torch.randn(16, 30, 8), torch.zeros(16, dtype=torch.long))
DEPTHS: list[tuple[str, Case, int, bool]] = [
    ("plain", case(deep()), 12, False),
    ("residual", resnet(), 14, True),
    ("dense", case(Dense(), (torch.randn(16, 8), torch.zeros(16, dtype=torch.long))), 13, True),
    ("loop", case(Loop(), SEQUENCES), 2, False),
    ("lstm", recurrent(nn.LSTM), 2, False),
    ("transformer", language(), 9, True),
]


@pytest.mark.parametrize(("one", "depth", "skips"), [entry[1:] for entry in DEPTHS], ids=[entry[0] for entry in DEPTHS])
def test_the_longest_way_is_the_depth_and_a_short_one_is_a_skip(one: Case, depth: int, *, skips: bool) -> None:
    found = depth_of(one.train_fn(one.batch).grad_fn)
    assert found is not None
    assert (found.longest, found.skips) == (depth, skips)


def test_the_output_layers_are_those_with_no_weight_before_the_loss() -> None:
    trunk, left, right = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 1)
    hidden = trunk(torch.randn(3, 4)).tanh()
    found = depth_of((left(hidden).sum() + right(hidden).sum()).grad_fn)
    assert found is not None
    assert found.heads == {id(left.weight), id(right.weight)}


def test_a_loss_without_a_graph_has_no_depth() -> None:
    assert depth_of(None) is None
    assert depth_of(torch.ones(2, requires_grad=True).sum().grad_fn) is None


def test_what_made_a_tensor_is_found_behind_its_shapes() -> None:
    out = mlp(nn.Softmax(1))(torch.randn(3, 20))
    assert made_by(out.unsqueeze(0)[:, 1:].transpose(1, 2).reshape(-1)) == "softmax"
    assert made_by(torch.randn(3)) == ""
