"""Networks whose outputs are distributions: variational autoencoders, rates of counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from supervisor.clinic.held_out._dense import stack


class Variational(nn.Module):
    """Encoder to mean and log variance, a sample of them, decoder; the divergence is kept for the loss."""

    def __init__(self, code: int = 8) -> None:
        super().__init__()
        self.encoder, self.decoder = stack([64, 48, 2 * code], nn.ELU), stack([code, 48, 64], nn.ELU)
        self.divergence, self.seen = torch.zeros(()), 0  # seen: batches, for those who anneal

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        self.divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
        noise = torch.randn_like(mean) if self.training else 0.0
        return torch.sigmoid(self.decoder(mean + noise * (0.5 * log_variance).exp()))


def bound(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the negative evidence bound, up to constants."""
    error = F.mse_loss(model(batch[0]), batch[1], reduction="none").sum(-1).mean()
    assert isinstance(model.divergence, Tensor)
    return error + 0.02 * model.divergence


class Rate(nn.Module):
    """A network for log rates, scored on rates."""

    def __init__(self) -> None:
        super().__init__()
        self.net = stack([6, 48, 48, 1], nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net(x) if self.training else self.net(x).clamp(max=20.0).exp()
        return result
