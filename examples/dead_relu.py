"""A CNN whose units die after one wild learning rate, and the same one taken back in time.

At step 30 the schedule asks for 160 times the learning rate, for one step. Within a few steps whole layers are silent
on every image, get no gradient, and never come back. The supervisor sees the explosion that one step causes, finds
that clipping does not hold it, and returns to the last known-good state; when the schedule plays the same trick again
from there, it also lowers the learning rate. Compare the dead units it prints.
"""

from __future__ import annotations

import torch
from _digits import Case, compare
from torch import nn


def network() -> nn.Sequential:
    """Return two convolutions and two linear layers, with a ReLU after each but the last."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


CASE = Case(
    title="a CNN after a learning-rate spike",
    network=network,
    optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    schedule=lambda step: 160.0 if step == 30 else 1.0,
    epochs=30,
    twin_schedule=lambda _step: 1.0,
)

if __name__ == "__main__":
    compare(CASE)
