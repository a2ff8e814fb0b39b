"""Which units are silent, and for how long."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supervisor.records import SILENCE_LENGTHS
from tests.signals.watching import FunctionalMlp, Watching, cnn, images, layer, mlp, vectors


def columns(model: nn.Module, batches: list[Tensor]) -> list[np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    """Return the shares of silent units, (sites, lengths), after each tick."""
    watched = Watching(model, optimizer=torch.optim.SGD(model.parameters(), lr=1e-12))
    return [now.sample.silent for now in map(watched.tick, batches) if now.sample is not None]


@pytest.mark.parametrize("make", [mlp, FunctionalMlp])
def test_silent_shares_and_zeros_equal_a_plain_count(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    model = make()
    first = next(m for m in model.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        first.bias.sub_(torch.linspace(0, 6, 16))
    watched = Watching(model, optimizer=torch.optim.SGD(model.parameters(), lr=1e-12))
    batches = [vectors() for _ in range(4)]
    silent_for = np.zeros(16)
    for batch in batches:
        sample = watched.tick(batch).sample
        assert sample is not None
        out = torch.relu(first(batch))
        silent_for = np.where((out > 0).any(0).numpy(), 0, silent_for + 1)
        expected = [(silent_for >= length).mean() for length in SILENCE_LENGTHS]
        assert sample.silent[0] == pytest.approx(expected)
        assert sample.zeros[0] == pytest.approx(float((out == 0).float().mean()), abs=1e-6)
    assert 0.1 < (silent_for >= 4).mean() < 0.9


def test_silent_shares_of_a_convolution_count_channels() -> None:
    model = cnn()
    bias = model[1].bias
    assert isinstance(bias, nn.Parameter)
    with torch.no_grad():
        bias[:2] = -50.0
    shares = columns(model, [images() for _ in range(3)])[-1]
    assert shares[0] == pytest.approx([0.25, 0.25, 0, 0, 0, 0, 0, 0])  # 3 samples: no unit is silent for 4


def test_which_units_are_silent_is_known_by_site() -> None:
    model = mlp()
    with torch.no_grad():
        layer(model, "0").bias[[3, 5]] = -100.0
    watched = Watching(model)
    for _ in range(8):
        watched.tick(vectors())
    assert watched.sensor.silent_units()["1"].nonzero().flatten().tolist() == [3, 5]


def test_tiny_batches_add_up_to_a_sample() -> None:
    """A unit that is awake on one input in ten is not silent because a batch holds two."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1))
    with torch.no_grad():
        layer(model, "0").weight.fill_(1.0)
    batches = [torch.where(torch.rand(2, 1) < 0.1, 1.0, -1.0) for _ in range(400)]
    shares = columns(model, batches)
    assert max(float(share[0, 2]) for share in shares) == 0.0  # never silent for 4 samples


def test_an_expert_without_inputs_is_not_silent() -> None:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([mlp(), mlp()])

        def forward(self, x: Tensor) -> Tensor:
            chosen = x[:, 0] < 0
            out = torch.zeros(len(x), 3)
            for expert, mask in zip(self.experts, (chosen, ~chosen), strict=True):
                out[mask] = expert(x[mask])
            return out

    watched = Watching(Routed())
    for _ in range(4):
        now = watched.tick(vectors().abs())
    assert now.sample is not None
    assert np.isfinite(now.sample.zeros).all()
    assert now.sample.silent[:2].max() == 0.0
    assert watched.tick(vectors()).finite


def test_only_rectifiers_are_ever_silent() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.LeakyReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        layer(model, "0").bias.fill_(-500.0)
        layer(model, "2").bias.fill_(-500.0)
    assert columns(model, [vectors() for _ in range(3)])[-1].max() == 0.0
