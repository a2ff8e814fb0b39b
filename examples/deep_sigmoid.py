"""A 12-layer sigmoid network that stays at chance, and the same one healed while it trains.

Each sigmoid passes at most a quarter of the gradient on, so after eleven of them next to nothing is left for the
first layers: the network names digits by guessing. The supervisor sees the decay, swaps the hidden activations and
draws fresh weights for them, and keeps that because the loss then falls. Look at the story it prints.
"""

from __future__ import annotations

import torch
from _digits import Case, compare
from torch import nn


def network() -> nn.Sequential:
    """Return 12 linear layers of 64 units with a sigmoid after each but the last."""
    hidden: list[nn.Module] = [nn.Flatten()]
    for _ in range(11):
        hidden += [nn.Linear(64, 64), nn.Sigmoid()]
    return nn.Sequential(*hidden, nn.Linear(64, 10))


def twin() -> nn.Sequential:
    """Return the same network as a textbook would build it: ReLU, He initialization, zero biases."""
    layers: list[nn.Module] = [nn.ReLU() if isinstance(layer, nn.Sigmoid) else layer for layer in network()]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


CASE = Case(
    title="a 12-layer sigmoid MLP",
    network=network,
    optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-3),
    epochs=40,
    twin=twin,
)

if __name__ == "__main__":
    compare(CASE)
