"""What passes through the layers, forward and back, measured against plain autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supervisor.records import TIME_BINS, Snapshot
from tests.signals.watching import Watching


def rms(tensor: Tensor) -> float:
    return float(tensor.detach().square().mean().sqrt())


def figure(now: Snapshot, name: str, layer: str) -> float:
    assert now.sample is not None
    index = [found.name for found in now.anatomy.layers].index(layer)
    return float(getattr(now.sample, name)[index])


def test_signal_and_flow_are_those_of_the_layers_outputs() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))
    x = torch.randn(16, 6)
    first = model[0](x).detach().requires_grad_()
    second = model[2](first.relu())
    gradients = torch.autograd.grad(second.square().mean(), [first, second])
    now = Watching(model).tick(x)
    assert figure(now, "signal", "0") == pytest.approx(rms(first), rel=1e-5)
    assert figure(now, "flow", "0") == pytest.approx(rms(gradients[0]), rel=1e-5)
    assert figure(now, "flow", "2") == pytest.approx(rms(gradients[1]), rel=1e-5)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_recurrent_layer_shows_the_gradient_by_step_of_time(kind: type[nn.RNN]) -> None:
    """Raw inputs need no gradient of their own; it is seen all the same, and they stay as they were."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = kind(4, 6, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0][:, -1]  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model, x = Last(), torch.randn(8, 32, 4)
    leaf = x.clone().requires_grad_()
    by_step = torch.autograd.grad(model(leaf).square().mean(), leaf)[0].square().mean((0, 2))
    expected = by_step.reshape(TIME_BINS, 4).mean(1).sqrt()
    now = Watching(model).tick(x)
    assert not x.requires_grad
    assert now.sample is not None
    assert now.sample.time_steps[0] == 32
    np.testing.assert_allclose(now.sample.time_flow[0], expected.numpy(), rtol=1e-4)


class Loop(nn.Module):
    """A cell in a loop, as people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 6)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state


def test_a_cell_in_a_loop_has_a_time_too_and_micro_batches_are_none() -> None:
    torch.manual_seed(0)
    now = Watching(Loop()).tick(*(torch.randn(8, 16, 4) for _ in range(2)))
    assert now.sample is not None
    assert now.sample.time_steps[0] == 16
    assert now.sample.time_flow[0][0] < 1e-3 * now.sample.time_flow[0][-1]
    plain = Watching(nn.Linear(4, 4)).tick(*(torch.randn(8, 4) for _ in range(12)))
    assert plain.sample is not None
    assert np.isnan(plain.sample.time_steps).all()


def test_what_a_layer_does_not_show_is_not_a_number() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    now = Watching(Unused()).tick(torch.randn(8, 4))
    assert np.isnan(figure(now, "flow", "unused"))
    assert figure(now, "flow", "used") > 0
