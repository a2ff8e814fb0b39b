"""How far a step moved the weights."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.signals.watching import Watching, every_model, made, mlp, norm, own, vectors


@every_model
def test_update_norms_of_small_layers_are_exact(name: str) -> None:
    model, batch = made(name)
    watched = Watching(model)
    before = copy.deepcopy(model)
    first = watched.tick(batch())
    after = copy.deepcopy(model)
    now = watched.tick(batch())
    assert first.sample is not None
    assert np.isnan(first.sample.update_norms).all()
    assert now.sample is not None
    for entry, found in zip(now.anatomy.layers, now.sample.update_norms, strict=True):
        pairs = zip(own(after, entry.name), own(before, entry.name), strict=True)
        assert found == pytest.approx(norm([a.detach() - b.detach() for a, b in pairs]), rel=1e-2)


@pytest.mark.parametrize("blank", [False, True], ids=["dense inputs", "first input always 0"])
@pytest.mark.parametrize("width", [64, 784, 1024])
def test_update_norms_of_large_layers_are_right_within_a_tenth(width: int, blank: bool) -> None:  # noqa: FBT001
    """The slice that stands for a layer must not be one column: many inputs (an image's corner) are always 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, 512), nn.ReLU(), nn.Linear(512, 3))
    watched = Watching(model, optimizer=torch.optim.Adam(model.parameters(), lr=1e-3))
    x = torch.randn(64, width)
    if blank:
        x[:, :: max(1, width // 32)] = 0.0
    before = copy.deepcopy(model)
    watched.tick(x)
    after = copy.deepcopy(model)
    sample = watched.tick(x).sample
    assert sample is not None
    moved = norm([a.detach() - b.detach() for a, b in zip(own(after, "0"), own(before, "0"), strict=True)])
    assert sample.update_norms[0] == pytest.approx(moved, rel=0.1)


def test_the_update_is_that_of_the_last_step_alone() -> None:
    """On a sparse schedule the weights are remembered one tick before, not one sample before."""
    watched = Watching(mlp(), every=10)
    for _ in range(10):
        watched.tick(vectors())
    before = copy.deepcopy(watched.model)
    now = watched.tick(vectors())
    assert now.tick == 11
    assert now.sample is not None
    step = 1e-3 * now.grad_norms  # of plain SGD, and the gradients hardly change in one tick
    assert now.sample.update_norms == pytest.approx(step, rel=0.5)
    assert now.sample.weight_norms[0] == pytest.approx(norm(own(before, "0")), rel=1e-5)


def test_weights_that_were_given_other_memory_are_followed() -> None:
    watched = Watching(mlp(), every=1)
    for _ in range(3):
        watched.tick(vectors())
    for parameter in watched.model.parameters():
        parameter.data = parameter.data.clone()
    watched.tick(vectors())
    before = copy.deepcopy(watched.model)
    now, steps = watched.tick(vectors()), watched.tick(vectors()).sample
    assert now.sample is not None
    assert steps is not None
    for entry, found in zip(now.anatomy.layers, steps.update_norms, strict=True):
        pairs = zip(own(watched.model, entry.name), own(before, entry.name), strict=True)
        assert 0.0 < found < 2.0 * norm([a.detach() - b.detach() for a, b in pairs])
