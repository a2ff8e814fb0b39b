"""What fused kernels keep to themselves: gates and attention, pinned or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.signals.watching import Watching


def pinned(model: nn.Module, x: Tensor) -> dict[str, tuple[float, float]]:
    """Return (pinned share, slope) of every gate."""
    now = Watching(model).tick(x)
    assert now.sample is not None
    figures = zip(now.anatomy.sites, now.sample.pinned, now.sample.slope, strict=True)
    return {site.function: (float(p), float(s)) for site, p, s in figures if site.gate and site.hidden}


class First(nn.Module):
    def __init__(self, rnn: nn.Module, head: int = 6) -> None:
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(head, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor | tuple[Tensor, ...] = self.rnn(x)
        return self.head(out[0] if isinstance(out, tuple) else out)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
def test_gates_at_rest_are_open_and_large_weights_pin_them(kind: type[nn.LSTM], batch_first: bool) -> None:  # noqa: FBT001
    torch.manual_seed(0)
    x = torch.randn(8, 8, 4)
    model = First(kind(4, 6, batch_first=batch_first))
    assert all(share < 0.05 and slope > 0.6 for share, slope in pinned(model, x).values())
    with torch.no_grad():
        for weight in model.rnn.parameters():
            weight.mul_(100.0)
    assert all(share > 0.8 and slope < 0.2 for share, slope in pinned(model, x).values())


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_show_their_gates_too(kind: type[nn.LSTMCell]) -> None:
    torch.manual_seed(0)
    model = First(kind(4, 6))
    assert "tanh" in pinned(model, torch.randn(8, 4)) or "sigmoid" in pinned(model, torch.randn(8, 4))


def test_the_gates_are_those_of_the_kernel() -> None:
    """With an input gate pinned shut nothing is written: the state stays 0, and all of that gate is pinned."""
    lstm: Any = nn.LSTM(4, 6, batch_first=True)
    with torch.no_grad():
        lstm.bias_ih_l0[:6] = -100.0
    x = torch.randn(8, 5, 4)
    state, _ = lstm(x)
    assert float(state.detach().abs().max()) < 1e-20
    assert pinned(First(lstm), x)["sigmoid"][0] == pytest.approx(1 / 3, abs=0.02)


class Attention(nn.Module):
    def __init__(self, scale: float, *, fused: bool) -> None:
        super().__init__()
        self.qkv, self.head, self.scale, self.fused = nn.Linear(8, 24), nn.Linear(8, 2), scale, fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part[:, None] for part in self.qkv(x).chunk(3, -1))
        if self.fused:
            mixed = F.scaled_dot_product_attention(q * self.scale, k, v, is_causal=True)
        else:
            mixed = (q * self.scale @ k.transpose(-2, -1) / 8**0.5).softmax(-1) @ v
        return self.head(mixed[:, 0])  # type: ignore[no-any-return]


@pytest.mark.parametrize("fused", [True, False])
def test_attention_that_looks_at_one_place_only_is_pinned(fused: bool) -> None:  # noqa: FBT001
    torch.manual_seed(0)
    x = torch.randn(4, 12, 8)
    assert pinned(Attention(1.0, fused=fused), x)["softmax"][0] < 0.1
    assert pinned(Attention(1000.0, fused=fused), x)["softmax"][0] > 0.9


def test_multi_head_attention_shows_its_weights() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    share, slope = pinned(First(layer, head=16), torch.randn(4, 12, 16))["softmax"]
    assert share < 0.1
    assert slope > 0.8
